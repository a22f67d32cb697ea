//! What was heard from one sender in its present start: which sequences, and payloads whose fragments are not all there.
//!
//! Sequences of one (path, class) only grow. A frame at or below the last is a replay, or was overtaken; either way the
//! content is old, and whoever still needs it sends it anew. Fragments of the newest sequence may come in any order; a
//! newer sequence takes their place. A higher boot counter replaces everything.

use super::{
    header::Header,
    limits::{REASSEMBLY_BYTES_PER_SENDER_MAX, REASSEMBLY_TIMEOUT_MS},
    refused::Refused,
    route::{Class, Path},
};

const LANES: usize = Path::COUNT * Class::COUNT;

/// What was heard from one sender.
pub(super) struct Heard {
    pub(super) boot: u64,
    salt: [u8; 8],
    lanes: [Lane; LANES],
}

#[derive(Default)]
struct Lane {
    last: u64,
    partial: Option<Partial>,
}

struct Partial {
    total: usize,
    parts: Vec<Option<Vec<u8>>>,
    missing: usize,
    bytes: usize,
    touched_ms: u64,
}

impl Heard {
    pub(super) fn new(header: &Header) -> Self {
        Self { boot: header.boot, salt: header.salt, lanes: Default::default() }
    }

    /// Whether a frame with this header could be new. Nothing is verified yet and nothing changes.
    pub(super) fn precheck(&self, header: &Header) -> Result<(), Refused> {
        if header.boot < self.boot {
            return Err(Refused::StaleBoot);
        }
        if header.boot > self.boot {
            return Ok(());
        }
        if header.salt != self.salt {
            return Err(Refused::BootReused);
        }
        let lane = self.lanes.get(lane_of(header)).ok_or(Refused::BadHeader)?;
        if header.sequence > lane.last {
            return Ok(());
        }
        let wanted = header.sequence == lane.last
            && lane.partial.as_ref().is_some_and(|partial| {
                let slot = partial.parts.get(usize::from(header.fragment));
                partial.fits(header) && matches!(slot, Some(None))
            });
        if wanted { Ok(()) } else { Err(Refused::Replay) }
    }

    /// Takes a verified piece that [`Heard::precheck`] let pass. Gives the payload once it is whole.
    pub(super) fn take(
        &mut self,
        header: &Header,
        piece: Vec<u8>,
        now_ms: u64,
    ) -> Result<Option<Vec<u8>>, Refused> {
        let others = self.bytes() - self.lanes.get(lane_of(header)).map_or(0, Lane::bytes);
        let lane = self.lanes.get_mut(lane_of(header)).ok_or(Refused::BadHeader)?;
        if header.sequence > lane.last {
            lane.last = header.sequence;
            lane.partial = None;
        }
        if header.fragments == 1 {
            let whole = usize::try_from(header.total).is_ok_and(|total| total == piece.len());
            return if whole { Ok(Some(piece)) } else { Err(Refused::Malformed) };
        }
        let mut partial = lane.partial.take().unwrap_or_else(|| Partial::new(header));
        if others + partial.bytes + piece.len() > REASSEMBLY_BYTES_PER_SENDER_MAX {
            return Err(Refused::ReassemblyFull);
        }
        partial.put(header, piece, now_ms)?;
        if partial.missing > 0 {
            lane.partial = Some(partial);
            return Ok(None);
        }
        partial.join().map(Some)
    }

    /// Bytes kept of unfinished payloads.
    pub(super) fn bytes(&self) -> usize {
        self.lanes.iter().map(Lane::bytes).sum()
    }

    /// Drops what was not added to for too long.
    pub(super) fn expire(&mut self, now_ms: u64) {
        for lane in &mut self.lanes {
            if lane.partial.as_ref().is_some_and(|partial| partial.is_stale(now_ms)) {
                lane.partial = None;
            }
        }
    }

    /// Drops every unfinished payload.
    pub(super) fn drop_partials(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.partial = None);
    }
}

impl Lane {
    fn bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.bytes)
    }
}

impl Partial {
    fn new(header: &Header) -> Self {
        let count = usize::from(header.fragments);
        let total = usize::try_from(header.total).unwrap_or(usize::MAX);
        Self { total, parts: vec![None; count], missing: count, bytes: 0, touched_ms: 0 }
    }

    fn fits(&self, header: &Header) -> bool {
        usize::from(header.fragments) == self.parts.len()
            && usize::try_from(header.total).is_ok_and(|total| total == self.total)
    }

    fn put(&mut self, header: &Header, piece: Vec<u8>, now_ms: u64) -> Result<(), Refused> {
        if !self.fits(header) || piece.is_empty() || self.bytes + piece.len() > self.total {
            return Err(Refused::Malformed);
        }
        match self.parts.get_mut(usize::from(header.fragment)) {
            Some(slot @ None) => {
                self.bytes += piece.len();
                self.missing -= 1;
                *slot = Some(piece);
                self.touched_ms = now_ms;
                Ok(())
            }
            Some(Some(_)) | None => Err(Refused::Replay),
        }
    }

    fn join(self) -> Result<Vec<u8>, Refused> {
        if self.bytes != self.total {
            return Err(Refused::Malformed);
        }
        let mut whole = Vec::with_capacity(self.total);
        for part in self.parts.into_iter().flatten() {
            whole.extend_from_slice(&part);
        }
        Ok(whole)
    }

    fn is_stale(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.touched_ms) > REASSEMBLY_TIMEOUT_MS
    }
}

fn lane_of(header: &Header) -> usize {
    usize::from(header.path.code()) * Class::COUNT + usize::from(header.class.code())
}
