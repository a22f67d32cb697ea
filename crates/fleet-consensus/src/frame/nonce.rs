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
    let boot: [u8; 6] = boot;
    let sequence: [u8; 7] = sequence;
    let mut bytes = [0u8; 24];
    let lane = (header.path.code() << 4) | header.class.code();
    let fields = boot
        .into_iter()
        .chain(header.salt)
        .chain([lane])
        .chain(sequence)
        .chain(header.fragment.to_be_bytes());
    for (slot, byte) in bytes.iter_mut().zip(fields) {
        *slot = byte;
    }
    bytes.into()
}
