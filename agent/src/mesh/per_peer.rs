//! Places for what one peer asks at a time, so that one that is busy, or worse, leaves places for
//! the others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use libp2p::PeerId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places, so many in all and so many per peer. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    // Taken for a look and a count, never across a wait: places are given back where they are
    // dropped, on whichever thread that is.
    taken: Arc<Mutex<BTreeMap<PeerId, usize>>>,
    per_peer_max: usize,
}

/// One place; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    peer: PeerId,
    taken: Arc<Mutex<BTreeMap<PeerId, usize>>>,
    _all: OwnedSemaphorePermit,
}

impl Places {
    /// So many places.
    pub(super) fn new(max: usize, per_peer_max: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(max)), taken: Arc::default(), per_peer_max }
    }

    /// A place for this peer, if there is one.
    pub(super) fn take(&self, peer: PeerId) -> Option<Place> {
        let all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = taken.get(&peer).copied().unwrap_or(0);
        if of_peer >= self.per_peer_max {
            return None;
        }
        taken.insert(peer, of_peer.saturating_add(1));
        drop(taken);
        Some(Place { peer, taken: Arc::clone(&self.taken), _all: all })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let left = taken.get(&self.peer).map_or(0, |of_peer| of_peer.saturating_sub(1));
        if left == 0 {
            taken.remove(&self.peer);
        } else {
            taken.insert(self.peer, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_leaves_places_for_others() {
        let places = Places::new(6, 4);
        let (greedy, other) = (PeerId::random(), PeerId::random());
        let mut held: Vec<_> = (0..10).filter_map(|_| places.take(greedy)).collect();
        assert_eq!(held.len(), 4);
        let others: Vec<_> = (0..10).filter_map(|_| places.take(other)).collect();
        assert_eq!(others.len(), 2, "all are taken");
        held.pop();
        assert!(places.take(greedy).is_some());
        drop((held, others));
        assert!(places.taken.lock().unwrap().is_empty());
        assert_eq!(places.all.available_permits(), 6);
    }
}
