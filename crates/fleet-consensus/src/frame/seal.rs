//! The sending half: a payload becomes one sealed frame, or several when the way takes only small pieces.

use bytes::Bytes;
use chacha20poly1305::AeadInPlace;
use fleet_state::{NodeId, codec::Writer};

use super::{
    codec::FrameCodec,
    credential::Credential,
    header::Header,
    keyring::Peer,
    limits::{
        CREDENTIAL_QUIET_MS, FRAGMENT_BYTES_MIN, FRAGMENTS_MAX, PAYLOAD_BYTES_MAX, SEQUENCE_MAX,
    },
    nonce::nonce,
    payload::Payload,
    route::Route,
};

/// Bytes of the tag that ends a frame.
pub(super) const TAG_BYTES: usize = 16;

/// Why a payload was not sealed. Nothing was sent and nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No keys of the receiver.
    #[error("no keys of node {0} are known yet")]
    UnknownReceiver(NodeId),
    /// The receiver was removed.
    #[error("node {0} was removed from the site")]
    Removed(NodeId),
    /// The payload is larger than any receiver takes.
    #[error("a payload of {0} bytes is above the limit of {PAYLOAD_BYTES_MAX}")]
    TooLarge(usize),
    /// The way takes less than a frame needs.
    #[error(
        "a way that takes {0} bytes at a time is too narrow; it must take {FRAGMENT_BYTES_MIN}"
    )]
    WayTooNarrow(usize),
    /// A raft message in the payload is for another node, or from one.
    #[error("a raft message in the payload is not from this node to its receiver")]
    Misaddressed,
    /// This start has sealed all that it may; a restart goes on under the next boot counter.
    #[error("this start has used up its sequences; restart the agent")]
    Exhausted,
    /// The cipher refused.
    #[error("the cipher refused the payload")]
    Cipher,
}

impl FrameCodec {
    /// Seals a payload for one node. The pieces are to be sent in order, each as one message of the way.
    ///
    /// # Errors
    /// The receiver isn't known, or the payload doesn't fit.
    pub fn seal(
        &mut self,
        route: Route,
        payload: &Payload,
        now_ms: u64,
    ) -> Result<Vec<Bytes>, SealError> {
        if self.keyring.is_removed(route.to) {
            return Err(SealError::Removed(route.to));
        }
        if route.frame_bytes_max < FRAGMENT_BYTES_MIN {
            return Err(SealError::WayTooNarrow(route.frame_bytes_max));
        }
        self.check_addresses(route.to, payload)?;
        let peer = self.keyring.get(route.to).ok_or(SealError::UnknownReceiver(route.to))?;
        let credential = self.credential.as_ref().filter(|_| shows_credential(peer, now_ms));
        let header_len = Header::len(credential);
        let plain = write_after(header_len, payload);
        let total = plain.len() - header_len;
        if total > PAYLOAD_BYTES_MAX {
            return Err(SealError::TooLarge(total));
        }
        let sequence = self.sequence + 1;
        if sequence > SEQUENCE_MAX {
            return Err(SealError::Exhausted);
        }
        let header = self.header(route, credential.cloned(), peer, (sequence, total))?;
        let pieces = if header_len + total + TAG_BYTES <= route.frame_bytes_max {
            vec![seal_piece(peer, &header, plain)?]
        } else {
            seal_pieces(peer, header, (&plain, header_len), route.frame_bytes_max)?
        };
        self.sequence = sequence;
        Ok(pieces)
    }

    fn check_addresses(&self, to: NodeId, payload: &Payload) -> Result<(), SealError> {
        let Payload::Raft(messages) = payload else {
            return Ok(());
        };
        let ours = messages.iter().all(|message| message.to == to && message.from == self.me);
        if ours { Ok(()) } else { Err(SealError::Misaddressed) }
    }

    fn header(
        &self,
        route: Route,
        credential: Option<Credential>,
        peer: &Peer,
        (sequence, total): (u64, usize),
    ) -> Result<Header, SealError> {
        Ok(Header {
            site: self.site,
            from: self.me,
            to: route.to,
            boot: self.boot,
            to_boot: peer.heard.as_ref().map_or(0, |heard| heard.boot),
            salt: self.salt,
            path: route.path,
            unheard: route.unheard,
            class: route.class,
            sequence,
            fragment: 0,
            fragments: 1,
            total: u32::try_from(total).map_err(|_| SealError::TooLarge(total))?,
            credential,
        })
    }
}

/// The receiver may not know this node as long as nothing came back that was sealed for this start.
fn shows_credential(peer: &Peer, now_ms: u64) -> bool {
    peer.fresh_ms.is_none_or(|fresh| now_ms.saturating_sub(fresh) > CREDENTIAL_QUIET_MS)
}

/// The payload's bytes after room for a header, so that the usual frame is written, sealed and sent in one buffer.
fn write_after(header_len: usize, payload: &Payload) -> Vec<u8> {
    let mut writer = Writer::with_capacity(header_len + payload.size_bytes_bound() + TAG_BYTES);
    writer.zeros(header_len);
    payload.write(&mut writer);
    writer.into_vec()
}

/// Seals a buffer that begins with room for the header.
fn seal_piece(peer: &Peer, header: &Header, mut buffer: Vec<u8>) -> Result<Bytes, SealError> {
    let clear = header.encode();
    let (room, plain) = buffer.split_at_mut_checked(clear.len()).ok_or(SealError::Cipher)?;
    room.copy_from_slice(&clear);
    let tag = peer
        .seal
        .encrypt_in_place_detached(&nonce(header), &clear, plain)
        .map_err(|_| SealError::Cipher)?;
    buffer.extend_from_slice(&tag);
    Ok(buffer.into())
}

fn seal_pieces(
    peer: &Peer,
    mut header: Header,
    (plain, header_len): (&[u8], usize),
    frame_bytes_max: usize,
) -> Result<Vec<Bytes>, SealError> {
    let (_, payload) = plain.split_at_checked(header_len).ok_or(SealError::Cipher)?;
    let room = frame_bytes_max
        .checked_sub(header_len + TAG_BYTES)
        .filter(|room| *room > 0)
        .ok_or(SealError::WayTooNarrow(frame_bytes_max))?;
    let count = payload.len().div_ceil(room);
    if count > FRAGMENTS_MAX {
        return Err(SealError::TooLarge(payload.len()));
    }
    header.fragments = u16::try_from(count).map_err(|_| SealError::TooLarge(payload.len()))?;
    let mut pieces = Vec::with_capacity(count);
    for (at, chunk) in (0..header.fragments).zip(payload.chunks(room)) {
        header.fragment = at;
        let mut buffer = Vec::with_capacity(header_len + chunk.len() + TAG_BYTES);
        buffer.resize(header_len, 0);
        buffer.extend_from_slice(chunk);
        pieces.push(seal_piece(peer, &header, buffer)?);
    }
    Ok(pieces)
}
