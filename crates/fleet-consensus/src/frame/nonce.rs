//! The nonce of a fragment: 24 bytes that no other fragment under the same key has.
//!
//! | bytes | |
//! |---|---|
//! | 6 | boot counter of the sender |
//! | 8 | salt of the sender's start |
//! | 1 | path and class |
//! | 7 | sequence |
//! | 2 | fragment |

use chacha20poly1305::XNonce;

use super::header::Header;

pub(super) fn nonce(header: &Header) -> XNonce {
    let [_, _, boot @ ..] = header.boot.to_be_bytes();
    let [_, sequence @ ..] = header.sequence.to_be_bytes();
    let lane = (header.path.code() << 4) | header.class.code();
    let mut bytes = [0u8; 24];
    let (starts, rest) = bytes.split_at_mut(6);
    let (salt, rest) = rest.split_at_mut(8);
    let (lanes, rest) = rest.split_at_mut(1);
    let (sequences, fragments) = rest.split_at_mut(7);
    starts.copy_from_slice(&boot);
    salt.copy_from_slice(&header.salt);
    lanes.copy_from_slice(&[lane]);
    sequences.copy_from_slice(&sequence);
    fragments.copy_from_slice(&header.fragment.to_be_bytes());
    bytes.into()
}
