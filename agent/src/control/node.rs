//! Questions to this node: how it is, and pieces of its snapshots.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use fleet_consensus::View;
use fleet_protocol::limits::PAGE_ENVELOPE_BYTES;
use fleet_protocol::node::{
    NodeRequest, NodeStatus, ROLE_REMOVED, SNAPSHOT_INDEX_HEADER, SNAPSHOT_OFFSET_HEADER,
    SNAPSHOT_SIZE_HEADER,
};
use fleet_protocol::reply::{self, ReplyMessage};
use fleet_protocol::{ErrorCode, Failure};

use crate::consensus::stands_still;

use super::IntakeState;
use super::desk::{Desk, Job};
use super::elsewhere::Elsewhere;
use super::judge::LEADERLESS_MS_MAX;
use super::local_writes;
use super::membership::Membership;
use super::mesh;

/// Without a leader for so long, a node says what may be the reason.
const LONG_LEADERLESS_MS: u64 = 30_000;

/// Answers one question.
pub(super) async fn serve(desk: Arc<Desk>, request: NodeRequest, job: Job) {
    match request {
        NodeRequest::Status => {
            let status = status(&desk).await;
            desk.answer(&job, reply::item(&job.request_id, &status)).await;
        }
        NodeRequest::Mesh => {
            let seen = mesh::view(&desk);
            desk.answer(&job, reply::item(&job.request_id, &seen)).await;
        }
        NodeRequest::Partition => {
            let told = local_writes::report(&desk);
            desk.answer(&job, reply::item(&job.request_id, &told)).await;
        }
        NodeRequest::Ping { to } => match mesh::ping(&desk, to, &job).await {
            Ok(message) => desk.answer(&job, message).await,
            Err(failure) => desk.fail(&job, &failure).await,
        },
        NodeRequest::Look(asked) => match desk.lookout.look(&asked).await {
            Ok(looked) => desk.answer(&job, reply::item(&job.request_id, &looked)).await,
            Err(failure) => desk.fail(&job, &failure).await,
        },
        // A member of the same name may have come since; only that one's snapshots count.
        NodeRequest::SnapshotChunk { .. }
            if *desk.intake.borrow() == IntakeState::Removed && !job.answers.are_local() => {}
        NodeRequest::SnapshotChunk { index, offset, length } => {
            match chunk(&desk, &job, (index, offset, length)).await {
                Ok(message) => desk.answer(&job, message).await,
                Err(failure) => desk.fail(&job, &failure).await,
            }
        }
    }
}

async fn status(desk: &Desk) -> NodeStatus {
    let view = desk.handle.view();
    let standing = &view.standing;
    let snapshots = desk.snapshots.all().await.unwrap_or_default();
    let snapshot_bytes: u64 = snapshots.iter().map(|snapshot| snapshot.size_bytes).sum();
    let membership = Membership::of(&view);
    let cut_off =
        CutOff { elsewhere: *desk.elsewhere.borrow(), now_ms: desk.handle.clock().now_ms() };
    NodeStatus {
        name: desk.facts.name.to_string(),
        node: desk.facts.id.get(),
        site: desk.facts.site.to_string(),
        uid: desk.facts.uid.to_string(),
        version: desk.facts.version.to_owned(),
        boot: desk.facts.boot,
        uptime_ms: u64::try_from(desk.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        role: match membership {
            Membership::Removed => ROLE_REMOVED.to_owned(),
            Membership::Member | Membership::Leaving => standing.role.as_str().to_owned(),
        },
        term: standing.term,
        leader: standing.leader.map(|leader| leader.get()),
        applied: view.applied.get(),
        commit: standing.commit,
        first_index: standing.first_index,
        last_index: standing.last_index,
        snapshot_index: standing.snapshot_index,
        storage_bytes: standing.log_bytes.saturating_add(snapshot_bytes),
        digest: view.state.digests().combined().to_string(),
        nats_server: desk
            .nats
            .as_ref()
            .and_then(|nats| nats.client.try_server_info())
            .map(|info| info.server_name),
        intake: takes_commands(desk),
        troubles: troubles(&view, *desk.intake.borrow(), cut_off)
            .into_iter()
            .chain(desk.handle.still_ms().map(stands_still))
            .chain(local_writes::troubles(desk))
            .collect(),
    }
}

/// Whether it takes commands: over NATS, where there is a connection to it, else at its own door.
fn takes_commands(desk: &Desk) -> bool {
    match &desk.nats {
        Some(_) => desk.takes_commands.load(Ordering::Relaxed),
        None => *desk.intake.borrow() == IntakeState::Serving,
    }
}

/// What is known of a leader that this node has not.
#[derive(Clone, Copy, Debug)]
struct CutOff {
    elsewhere: Option<Elsewhere>,
    now_ms: u64,
}

/// What is wrong, in a sentence each.
fn troubles(view: &View, intake: IntakeState, cut_off: CutOff) -> Vec<String> {
    let membership = Membership::of(view);
    let mut troubles: Vec<String> = membership.trouble().map(str::to_owned).into_iter().collect();
    // A removed node has no leader to miss.
    if view.standing.leader.is_none() && membership != Membership::Removed {
        let since =
            view.leaderless_since_ms.map_or(0, |since| cut_off.now_ms.saturating_sub(since));
        troubles.push(format!("no leader is known for {since} ms"));
        troubles.extend(why_leaderless(since, cut_off.elsewhere));
    }
    if view.standing.low_space {
        troubles.push(
            "the disk is nearly full, so this node does not lead and takes nothing in; free space"
                .to_owned(),
        );
    }
    match intake {
        IntakeState::ForeignSite => troubles.push(
            "another site answers under the same name on this NATS server, so nothing is taken in; stop or rename one of them".to_owned(),
        ),
        IntakeState::Stopped => troubles.push("the agent is stopping".to_owned()),
        IntakeState::NoLeader
        | IntakeState::Reading
        | IntakeState::Removed
        | IntakeState::Serving => {}
    }
    troubles
}

/// What may keep a node without a leader for long.
fn why_leaderless(since_ms: u64, elsewhere: Option<Elsewhere>) -> Option<String> {
    if since_ms < LEADERLESS_MS_MAX {
        return None;
    }
    match elsewhere.filter(Elsewhere::is_there) {
        Some(Elsewhere { leader, term, .. }) => Some(format!(
            "the site has a leader, node {leader} in term {term}, that does not speak to this node: it may have been removed while it was away (see flotilla member ls; then clear its data directory and join anew), or its frames don't get through"
        )),
        None if since_ms < LONG_LEADERLESS_MS => None,
        None => Some(
            "a majority of voters must be running and reach each other; if the site works elsewhere, this node was cut off or removed while it was away (see flotilla member ls)".to_owned(),
        ),
    }
}

/// A piece of a snapshot: which one, from where, and how long at most.
async fn chunk(
    desk: &Desk,
    job: &Job,
    (index, offset, length): (u64, u64, u32),
) -> Result<ReplyMessage, Failure> {
    let internal = |error: std::io::Error| {
        tracing::warn!(index, %error, "a snapshot could not be read");
        Failure::new(ErrorCode::Internal, format!("snapshot {index} could not be read: {error}"))
    };
    let gone = || {
        Failure::new(ErrorCode::NotFound, format!("this node holds no snapshot {index} (any more)"))
            .with_hint("Take a new one: flotilla snapshot save.")
    };
    let snapshot = desk.snapshots.open(index).await.map_err(internal)?.ok_or_else(gone)?;
    let room = job.answers.payload_bytes_max().saturating_sub(PAGE_ENVELOPE_BYTES).max(1);
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(room);
    let payload = snapshot.read(offset, length).await.map_err(internal)?;
    let headers = vec![
        (SNAPSHOT_INDEX_HEADER, index.to_string()),
        (SNAPSHOT_OFFSET_HEADER, offset.to_string()),
        (SNAPSHOT_SIZE_HEADER, snapshot.size_bytes.to_string()),
    ];
    Ok(ReplyMessage { headers, payload })
}

#[cfg(test)]
mod tests {
    use fleet_consensus::NodeRole;
    use fleet_state::{Revision, Role};

    use crate::metrics::tests::view;

    use super::*;

    fn at(now_ms: u64) -> CutOff {
        CutOff { elsewhere: None, now_ms }
    }

    #[test]
    fn troubles_are_said_and_nothing_else() {
        let fine = view(NodeRole::Leader, Some(1));
        assert!(troubles(&fine, IntakeState::Serving, at(9_000)).is_empty());
        // Between the election and the first subscription nothing is wrong.
        assert!(troubles(&fine, IntakeState::NoLeader, at(9_000)).is_empty());

        let said = troubles(&fine, IntakeState::ForeignSite, at(9_000));
        assert!(said.len() == 1 && said[0].contains("another site answers under the same name"));
    }

    #[test]
    fn a_node_without_a_leader_says_for_how_long_and_what_may_be_the_reason() {
        let mut alone = view(NodeRole::PreCandidate, None);
        alone.leaderless_since_ms = Some(1_000);
        let said = troubles(&alone, IntakeState::Reading, at(9_000));
        assert_eq!(said, ["no leader is known for 8000 ms"]);
        let said = troubles(&alone, IntakeState::Reading, at(61_000));
        assert!(said.len() == 2 && said[1].contains("a majority of voters"), "{said:?}");
        let elsewhere = Some(Elsewhere { leader: 2, term: 9, at: tokio::time::Instant::now() });
        let said = troubles(&alone, IntakeState::NoLeader, CutOff { elsewhere, now_ms: 9_000 });
        assert!(said.len() == 2 && said[1].contains("node 2 in term 9"), "{said:?}");
        assert!(said[1].contains("removed while it was away"), "{said:?}");
    }

    #[test]
    fn a_removed_node_says_so_and_misses_no_leader() {
        let mut removed = view(NodeRole::Follower, None);
        removed.leaderless_since_ms = Some(1_000);
        let node = removed.standing.node;
        removed.state.apply_role(Revision::new(13), node, Role::Removed);
        let said = troubles(&removed, IntakeState::Removed, at(9_000));
        assert!(said.len() == 1 && said[0].contains("was removed from the site"), "{said:?}");
    }
}
