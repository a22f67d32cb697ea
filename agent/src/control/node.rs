//! Questions to this node: how it is, and pieces of its snapshots.

use std::sync::Arc;

use fleet_consensus::View;
use fleet_protocol::limits::PAGE_ENVELOPE_BYTES;
use fleet_protocol::node::{
    NodeRequest, NodeStatus, SNAPSHOT_INDEX_HEADER, SNAPSHOT_OFFSET_HEADER, SNAPSHOT_SIZE_HEADER,
};
use fleet_protocol::reply::{self, ReplyMessage};
use fleet_protocol::{ErrorCode, Failure};

use super::IntakeState;
use super::desk::{Desk, Job};
use super::snapshots;

/// Answers one question.
pub(super) async fn serve(desk: Arc<Desk>, request: NodeRequest, job: Job) {
    match request {
        NodeRequest::Status => {
            let status = status(&desk).await;
            desk.answer(&job, reply::item(&job.request_id, &status)).await;
        }
        NodeRequest::SnapshotChunk { index, offset, length } => {
            match chunk(&desk, index, offset, length).await {
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
    let intake = *desk.intake.borrow();
    NodeStatus {
        name: desk.facts.name.to_string(),
        node: desk.facts.id.get(),
        site: desk.facts.site.to_string(),
        uid: desk.facts.uid.to_string(),
        version: desk.facts.version.to_owned(),
        boot: desk.facts.boot,
        uptime_ms: u64::try_from(desk.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        role: standing.role.as_str().to_owned(),
        term: standing.term,
        leader: standing.leader.map(|leader| leader.get()),
        applied: view.applied.get(),
        commit: standing.commit,
        first_index: standing.first_index,
        last_index: standing.last_index,
        snapshot_index: standing.snapshot_index,
        storage_bytes: standing.log_bytes.saturating_add(snapshot_bytes),
        digest: view.state.digests().combined().to_string(),
        nats_server: desk.client.try_server_info().map(|info| info.server_name),
        intake: intake == IntakeState::Serving,
        troubles: troubles(&view, intake, desk.handle.clock().now_ms()),
    }
}

/// What is wrong, in a sentence each.
fn troubles(view: &View, intake: IntakeState, now_ms: u64) -> Vec<String> {
    let mut troubles = Vec::new();
    if view.standing.leader.is_none() {
        let since = view.leaderless_since_ms.map_or(0, |since| now_ms.saturating_sub(since));
        troubles.push(format!("no leader is known for {since} ms"));
    }
    match intake {
        IntakeState::ForeignSite => troubles.push(
            "another site answers under the same name on this NATS server, so nothing is taken in; stop or rename one of them".to_owned(),
        ),
        IntakeState::Stopped => troubles.push("the agent is stopping".to_owned()),
        IntakeState::NoLeader | IntakeState::Serving => {}
    }
    troubles
}

async fn chunk(desk: &Desk, index: u64, offset: u64, length: u32) -> Result<ReplyMessage, Failure> {
    let internal = |error: std::io::Error| {
        tracing::warn!(index, %error, "a snapshot could not be read");
        Failure::new(ErrorCode::Internal, format!("snapshot {index} could not be read: {error}"))
    };
    let gone = || {
        Failure::new(ErrorCode::NotFound, format!("this node holds no snapshot {index} (any more)"))
            .with_hint("Take a new one: flotilla snapshot save.")
    };
    let snapshot = desk.snapshots.at(index).await.map_err(internal)?.ok_or_else(gone)?;
    let room = desk.client.max_payload().saturating_sub(PAGE_ENVELOPE_BYTES).max(1);
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(room);
    let payload = match snapshots::read_chunk(snapshot.path, offset, length).await {
        Ok(payload) => payload,
        // It was removed between the listing and the reading, because newer ones were taken.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(gone()),
        Err(error) => return Err(internal(error)),
    };
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

    use crate::metrics::tests::view;

    use super::*;

    #[test]
    fn troubles_are_said_and_nothing_else() {
        let fine = view(NodeRole::Leader, Some(1));
        assert!(troubles(&fine, IntakeState::Serving, 9_000).is_empty());
        // Between the election and the first subscription nothing is wrong.
        assert!(troubles(&fine, IntakeState::NoLeader, 9_000).is_empty());

        let mut alone = view(NodeRole::PreCandidate, None);
        alone.leaderless_since_ms = Some(1_000);
        let said = troubles(&alone, IntakeState::NoLeader, 9_000);
        assert_eq!(said, ["no leader is known for 8000 ms"]);

        let said = troubles(&fine, IntakeState::ForeignSite, 9_000);
        assert!(said.len() == 1 && said[0].contains("another site answers under the same name"));
    }
}
