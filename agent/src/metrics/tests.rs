//! A scrape holds what it should, and nothing that somebody sent.

use std::sync::Arc;

use fleet_consensus::{NodeRole, Standing, View};
use fleet_state::{
    FleetState, FoundingMember, FoundingParams, NodeId, NodeKeys, Revision, SiteUid,
};

use crate::nats::LinkState;

use super::Metrics;

/// A view of a site of one, for tests of this crate.
pub(crate) fn view(role: NodeRole, leader: Option<u64>) -> View {
    let node = NodeId::new(1).unwrap();
    let keys = NodeKeys { sign: [1; 32], exchange: [2; 32] };
    let state = FleetState::found(FoundingParams {
        site: "home".parse().unwrap(),
        uid: "00112233445566778899aabbccddeeff".parse::<SiteUid>().unwrap(),
        site_public_key: [3; 32],
        member: FoundingMember { name: "gw1".parse().unwrap(), keys, credential: [4; 64] },
        voters: 5,
        feature_level: fleet_state::limits::FEATURE_LEVEL,
        token: None,
        wall_time_ms: 0,
    });
    let standing = Standing {
        node,
        role,
        leader: leader.and_then(NodeId::new),
        term: 7,
        commit: 12,
        first_index: 2,
        last_index: 13,
        voters: vec![node],
        learners: Vec::new(),
        progress: Vec::new(),
        snapshot_index: 1,
        log_bytes: 4096,
        low_space: false,
        leases: fleet_consensus::Leases::default(),
    };
    View {
        state,
        applied: Revision::new(12),
        standing: Arc::new(standing),
        applied_at_ms: 1_000,
        leaderless_since_ms: None,
    }
}

#[test]
fn a_scrape_holds_the_view_and_the_counts() {
    let metrics = Metrics::new();
    metrics.refuse("commands", "malformed");
    metrics.refuse("commands", "malformed");
    metrics.commands.accepted.inc();
    metrics.note_connection("control", LinkState::Connected);
    metrics.note_connection("control", LinkState::LameDuck);
    metrics.note_connection("control", LinkState::Disconnected);
    metrics.note_connection("control", LinkState::Disconnected);
    let text = metrics.render(&view(NodeRole::Leader, Some(1)));
    for line in [
        "flotilla_refused_total{surface=\"commands\",reason=\"malformed\"} 2",
        "flotilla_commands_total{outcome=\"accepted\"} 1",
        "flotilla_commands_total{outcome=\"rejected\"} 0",
        "flotilla_applied_index 12",
        "flotilla_commit_index 12",
        "flotilla_term 7",
        "flotilla_is_leader 1",
        "flotilla_role{role=\"leader\"} 1",
        "flotilla_role{role=\"follower\"} 0",
        "flotilla_log_size 4096",
        "flotilla_nats_connected{connection=\"control\"} 0",
        "flotilla_nats_disconnects_total{connection=\"control\"} 1",
        "flotilla_log_sync_seconds_count 0",
        "flotilla_log_written_bytes_total 0",
        "flotilla_snapshot_written_bytes_total 0",
        "# EOF",
    ] {
        assert!(text.lines().any(|held| held == line), "{line} is not in\n{text}");
    }
}

#[test]
fn clones_count_into_the_same_numbers() {
    let metrics = Metrics::new();
    metrics.clone().events.inc();
    assert_eq!(metrics.events.get(), 1);
}
