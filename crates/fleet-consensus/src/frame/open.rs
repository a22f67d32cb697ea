//! The receiving half. Nothing about a sender changes before the seal of its frame was verified.

use chacha20poly1305::AeadInPlace;
use fleet_state::NodeId;

use super::{
    codec::{FrameCodec, Opened},
    header::Header,
    keyring::Peer,
    limits::REASSEMBLY_BYTES_MAX,
    nonce::nonce,
    payload::Payload,
    refused::Refused,
    route::{Arrival, Path},
    seal::TAG_BYTES,
    window::Heard,
};

/// Unfinished payloads are looked through this often.
const SWEEP_MS: u64 = 1_000;

impl FrameCodec {
    /// Opens one frame that came by this way. `None` when the payload's other fragments are still to come.
    ///
    /// # Errors
    /// The frame is not taken; the word for it is to be counted.
    pub fn open(
        &mut self,
        bytes: &[u8],
        path: Path,
        now_ms: u64,
    ) -> Result<Option<Opened>, Refused> {
        self.sweep(now_ms);
        // 1. What the clear header says, cheapest first.
        let (header, header_len) = Header::parse(bytes)?;
        let (clear, sealed) = bytes.split_at_checked(header_len).ok_or(Refused::Truncated)?;
        let (sealed, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(Refused::Truncated)?;
        self.check_address(&header, path)?;
        // 2. The sender's keys, from the keyring or from the credential that it shows.
        let stranger = self.stranger(&header, now_ms)?;
        let peer = match &stranger {
            Some(peer) => peer,
            None => self.keyring.get(header.from).ok_or(Refused::UnknownSender)?,
        };
        if let Some(heard) = &peer.heard {
            heard.precheck(&header)?;
        }
        // 3. The seal.
        let mut piece = sealed.to_vec();
        peer.open
            .decrypt_in_place_detached(&nonce(&header), clear, &mut piece, tag.into())
            .map_err(|_| Refused::BadSeal)?;
        // 4. From here on the sender is who it says.
        if let Some(peer) = stranger
            && !self.keyring.admit(header.from, peer, now_ms)
        {
            return Err(Refused::TooManyStrangers);
        }
        self.take(&header, piece, now_ms)
    }

    fn check_address(&self, header: &Header, path: Path) -> Result<(), Refused> {
        if header.site != self.site {
            return Err(Refused::WrongSite);
        }
        if header.to != self.me {
            return Err(Refused::NotForMe);
        }
        if header.from == self.me {
            return Err(Refused::FromMyself);
        }
        if header.path != path {
            return Err(Refused::WrongPath);
        }
        if self.keyring.is_removed(header.from) { Err(Refused::Removed) } else { Ok(()) }
    }

    /// The keys of a sender that is in no table, if it shows a credential that the site signed.
    fn stranger(&mut self, header: &Header, now_ms: u64) -> Result<Option<Peer>, Refused> {
        if self.keyring.get(header.from).is_some() {
            return Ok(None);
        }
        let credential = header.credential.as_ref().ok_or(Refused::UnknownSender)?;
        if !self.checks.take(now_ms) {
            return Err(Refused::TooManyStrangers);
        }
        if !credential.is_signed_by(&self.site_key, self.site) {
            return Err(Refused::BadCredential);
        }
        self.keyring
            .stranger(header.from, &credential.keys)
            .map(Some)
            .map_err(|_| Refused::BadCredential)
    }

    fn take(
        &mut self,
        header: &Header,
        piece: Vec<u8>,
        now_ms: u64,
    ) -> Result<Option<Opened>, Refused> {
        if header.to_boot > self.boot {
            return Err(Refused::RolledBack);
        }
        let (from, fresh) = (header.from, header.to_boot == self.boot);
        let kept = self.kept_bytes(from);
        let peer = self.keyring.get_mut(from).ok_or(Refused::UnknownSender)?;
        if peer.heard.as_ref().is_none_or(|heard| header.boot > heard.boot) {
            peer.heard = Some(Heard::new(header));
            peer.fresh_ms = None;
        }
        let heard = peer.heard.as_mut().ok_or(Refused::UnknownSender)?;
        peer.last_ms = now_ms;
        if fresh {
            peer.fresh_ms = Some(now_ms);
        } else {
            peer.greeting.due = true;
        }
        if header.fragments > 1 && kept + heard.bytes() + piece.len() > REASSEMBLY_BYTES_MAX {
            heard.drop_partials();
            return Err(Refused::ReassemblyFull);
        }
        let Some(whole) = heard.take(header, piece, now_ms)? else {
            return Ok(None);
        };
        let payload =
            Payload::read(&whole.into(), from, self.me).map_err(|_| Refused::Malformed)?;
        // What was sealed for an earlier start of this node is a replay, or from a node that hasn't heard of this
        // start. A greeting is taken from it, since it says nothing that could be out of date.
        if !fresh && !matches!(payload, Payload::Hello { .. }) {
            return Err(Refused::NotFresh);
        }
        let Header { path, class, unheard, .. } = *header;
        let arrival = Arrival { path, class, unheard };
        Ok(Some(Opened { from, boot: header.boot, arrival, payload }))
    }

    /// Bytes of unfinished payloads of all others.
    fn kept_bytes(&self, except: NodeId) -> usize {
        let others = self.keyring.iter().filter(|(node, _)| *node != except);
        others.filter_map(|(_, peer)| peer.heard.as_ref()).map(Heard::bytes).sum()
    }

    fn sweep(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.swept_ms) < SWEEP_MS {
            return;
        }
        self.swept_ms = now_ms;
        for (_, peer) in self.keyring.iter_mut() {
            if let Some(heard) = &mut peer.heard {
                heard.expire(now_ms);
            }
        }
    }
}
