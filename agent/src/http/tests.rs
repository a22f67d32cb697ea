//! Readiness by the view, and the listener's manners.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use fleet_consensus::{NodeRole, View};
use fleet_state::{Revision, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::metrics::tests::view;

use super::listener::Bounded;
use super::ready::report;

fn with_commit(mut view: View, commit: u64) -> View {
    Arc::make_mut(&mut view.standing).commit = commit;
    view
}

#[test]
fn readiness_says_why_not() {
    let follower = || view(NodeRole::Follower, Some(1));
    let mut leaderless = view(NodeRole::PreCandidate, None);
    leaderless.leaderless_since_ms = Some(1_000);
    // View, now, stopping, part of the reason; none when ready.
    let mut removed = follower();
    let node = removed.standing.node;
    removed.state.apply_role(Revision::new(13), node, Role::Removed);
    let cases: [(View, u64, bool, Option<&str>); 8] = [
        (removed, 1_000, false, Some("this node was removed from the site")),
        (view(NodeRole::Leader, Some(1)), 1_000, false, None),
        // An idle site applies nothing for hours and is ready all the same.
        (follower(), 9_999_999, false, None),
        (follower(), 1_000, true, Some("the agent is stopping")),
        (
            leaderless,
            3_500,
            false,
            Some("no leader is known for 2500 ms; a majority of the 1 voters"),
        ),
        (with_commit(follower(), 20), 2_000, false, None),
        (
            with_commit(follower(), 20),
            7_000,
            false,
            Some("8 committed entries are not applied, for 6000 ms"),
        ),
        // Applied beyond what is known as committed, as right after a restart.
        (with_commit(follower(), 3), 7_000, false, None),
    ];
    for (view, now_ms, stopping, reason) in cases {
        let report = report(&view, None, now_ms, stopping);
        assert_eq!(report.ready, reason.is_none(), "{report:?}");
        assert_eq!(report.ready, report.reasons.is_empty());
        if let Some(reason) = reason {
            assert!(report.reasons.iter().any(|held| held.contains(reason)), "{report:?}");
        }
    }
    // What the view says is old then.
    let still = report(&follower(), Some(2_300), 3_300, false);
    assert!(!still.ready && still.reasons[0].contains("stood still for 2300 ms"), "{still:?}");
    let json = serde_json::to_string(&report(&follower(), None, 1_000, false)).unwrap();
    assert!(json.starts_with(r#"{"ready":true,"reasons":[],"node":1,"role":"follower""#), "{json}");
}

#[tokio::test]
async fn the_listener_answers_and_outlives_bad_clients() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/livez", get(|| async { "ok\n" }));
    let server = tokio::spawn(async move { axum::serve(Bounded::new(listener), router).await });

    let huge = format!("GET /livez HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(2_000_000));
    for (request, status) in [
        ("GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", Some("200")),
        ("GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", Some("404")),
        ("POST /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", Some("405")),
        ("\0\0\0\0\r\n\r\n", Some("400")),
        (huge.as_str(), None),
        ("GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", Some("200")),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The server may hang up on a huge header before all of it is sent.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        if let Some(status) = status {
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:.40}: {answer}");
        }
    }
    server.abort();
}
