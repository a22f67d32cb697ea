//! What a leader sends: appends, heartbeats, snapshots. The term is at least this node's own.

use std::collections::BTreeSet;

use fleet_state::NodeId;

use crate::frame::{
    Append, Beat, EntryPayload, RaftMessage, SnapshotOffer,
    limits::{
        APPEND_ENTRIES_MAX, ENTRY_DATA_BYTES_MAX, INDEX_MAX, LEARNERS_MAX, READ_CONTEXT_BYTES_MAX,
        SNAPSHOT_BYTES_MAX, VOTERS_MAX,
    },
};
use crate::status::NodeRole;

use super::{GuardView, LostLog, Objection, Refusal};

/// There is one leader in a term. Whom this node knows as such, or itself, is not talked over.
fn check_leader(message: &RaftMessage, view: &GuardView<'_>) -> Result<(), Objection> {
    if message.term != view.term {
        return Ok(());
    }
    let other = view.leader.is_some_and(|leader| leader != message.from);
    if other || view.role == NodeRole::Leader { Err(Refusal::OtherLeader.into()) } else { Ok(()) }
}

pub(super) fn check_append(
    message: &RaftMessage,
    append: &Append,
    view: &GuardView<'_>,
) -> Result<(), Objection> {
    check_leader(message, view)?;
    if append.entries.len() > APPEND_ENTRIES_MAX || append.index > INDEX_MAX {
        return Err(Refusal::TooLarge.into());
    }
    // An index without a term would match anywhere beyond this node's log: `raft` reads the term of an entry that it
    // doesn't have as 0, appends after the gap, and panics.
    if (append.index == 0) != (append.log_term == 0)
        || append.log_term > message.term
        || append.commit > INDEX_MAX
    {
        return Err(Refusal::ImpossibleLog.into());
    }
    let mut term = append.log_term.max(1);
    for (index, entry) in (append.index.saturating_add(1)..).zip(&append.entries) {
        if entry.index != index || entry.term < term || entry.term > message.term {
            return Err(Refusal::Entries.into());
        }
        term = entry.term;
        match &entry.payload {
            EntryPayload::Normal(data) if data.len() > ENTRY_DATA_BYTES_MAX => {
                return Err(Refusal::TooLarge.into());
            }
            EntryPayload::Normal(data) if data.is_empty() => return Err(Refusal::Entries.into()),
            EntryPayload::Normal(_) | EntryPayload::Empty | EntryPayload::ConfChange(_) => {}
        }
    }
    Ok(())
}

/// A leader's heartbeat commits no more than this node has acknowledged to it in this term. If that is not here, it was
/// lost here, or the leader lies; `raft` would panic either way.
pub(super) fn check_heartbeat(
    message: &RaftMessage,
    beat: &Beat,
    view: &GuardView<'_>,
) -> Result<(), Objection> {
    check_leader(message, view)?;
    if beat.context.len() > READ_CONTEXT_BYTES_MAX {
        return Err(Refusal::TooLarge.into());
    }
    if beat.commit > view.last_index {
        return Err(LostLog { commit: beat.commit, last_index: view.last_index }.into());
    }
    Ok(())
}

pub(super) fn check_snapshot(
    message: &RaftMessage,
    offer: &SnapshotOffer,
    view: &GuardView<'_>,
) -> Result<(), Objection> {
    check_leader(message, view)?;
    Ok(check_offer(offer, message.term, view.me)?)
}

/// Whether a replica at `term` could be restored from this snapshot, by what it says of itself. To be asked of the
/// offer, and again of what the file turns out to hold.
///
/// A snapshot brings a whole configuration. One that contradicts itself makes `raft` panic; one without this node is
/// from before it became a member, and one with no other voter would cut it off into a site of its own. A snapshot
/// at or below the commit index passes: it is no news, and must be answered without `raft`, which would let one that
/// disagrees about the last committed entry replace it.
///
/// # Errors
/// It could not.
pub fn check_offer(offer: &SnapshotOffer, term: u64, me: NodeId) -> Result<(), Refusal> {
    if offer.index == 0 || offer.index > INDEX_MAX || offer.term == 0 || offer.term > term {
        return Err(Refusal::ImpossibleLog);
    }
    let too_large = offer.voters.len() > VOTERS_MAX
        || offer.learners.len() > LEARNERS_MAX
        || offer.file.size_bytes > SNAPSHOT_BYTES_MAX;
    if too_large {
        return Err(Refusal::TooLarge);
    }
    let all: BTreeSet<_> = offer.voters.iter().chain(&offer.learners).collect();
    let repeated = all.len() != offer.voters.len() + offer.learners.len();
    if offer.voters.is_empty() || repeated || offer.file.size_bytes == 0 {
        return Err(Refusal::Configuration);
    }
    if !all.contains(&me) {
        return Err(Refusal::SelfNotInSnapshot);
    }
    // Where this node was the only voter it has committed everything itself; nobody can have news for it.
    if offer.voters == [me] { Err(Refusal::Configuration) } else { Ok(()) }
}
