//! What changed since a revision.

use thiserror::Error;

use super::FleetState;
use crate::ids::Revision;
use crate::record::Change;

/// Deletions after the revision asked for are no longer remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "deletions before revision {floor} are forgotten; read everything anew, then follow from there"
)]
pub struct Compacted {
    /// The lowest revision that can be asked for.
    pub floor: Revision,
}

impl FleetState {
    /// The newest record of everything that changed after `since`, and the deletions, by revision.
    ///
    /// A record that changed several times stands once, at its newest revision. From [`Revision::NONE`] everything is
    /// given, whatever the floor: who knows nothing can miss no deletion.
    ///
    /// # Errors
    /// `since` lies below the floor of remembered deletions.
    pub fn changes_since(
        &self,
        since: Revision,
    ) -> Result<impl Iterator<Item = (Revision, Change)> + '_, Compacted> {
        let floor = self.index.floor();
        if since != Revision::NONE && since < floor {
            return Err(Compacted { floor });
        }
        Ok(self.index.since(since).map(|(revision, entity, lives)| {
            let record = if lives { self.record(entity) } else { None };
            (revision, Change { entity: entity.clone(), previous: None, record })
        }))
    }

    /// The lowest revision, besides zero, that changes can be asked for since.
    #[must_use]
    pub fn changes_floor(&self) -> Revision {
        self.index.floor()
    }
}
