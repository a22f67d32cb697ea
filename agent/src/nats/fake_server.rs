//! Connections to a server of a few lines, which does what a real one rarely does.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::metrics::Metrics;

use super::tests::{config, prepared};
use super::{Connection, ConnectionPlan, follow_server};

const LIMIT: Duration = Duration::from_secs(10);
/// What the server sends to a new subscription, all at once.
const FLOOD: usize = 1_000;

/// A server that calls itself this version; gives its address.
async fn serve(version: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(speak(stream, version));
        }
    });
    format!("nats://{address}")
}

/// One client's session, until it goes.
async fn speak(mut stream: TcpStream, version: &str) {
    let (lines, mut out) = stream.split();
    let info = format!(
        "INFO {{\"server_id\":\"x\",\"server_name\":\"fake\",\"version\":\"{version}\",\"host\":\"127.0.0.1\",\"port\":1,\"headers\":true,\"max_payload\":1048576,\"proto\":1,\"client_id\":1}}\r\n"
    );
    out.write_all(info.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(lines).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut words = line.split_whitespace();
        let said = match (words.next(), words.next(), words.next()) {
            (Some("PING"), ..) => "PONG\r\n".to_owned(),
            (Some("SUB"), Some(subject), Some(id)) => {
                format!("MSG {subject} {id} 1\r\nx\r\n").repeat(FLOOD)
            }
            _ => continue,
        };
        if out.write_all(said.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn connect(url: &str, slow_consumers: Counter) -> Connection {
    let plan = ConnectionPlan {
        name: "test".to_owned(),
        purpose: "control",
        subscription_capacity: 1,
        publish_capacity: 16,
        echo: true,
        slow_consumers,
    };
    prepared(&config(&[url])).unwrap().connect(&plan).await.unwrap()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let held = tokio::time::timeout(LIMIT, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    held.await.unwrap_or_else(|_| panic!("in vain until {what}"));
}

#[tokio::test]
async fn messages_that_are_dropped_unread_are_counted() {
    let url = serve("2.15.1").await;
    let slow = Counter::default();
    let connection = connect(&url, slow.clone()).await;
    let _unread = connection.client.subscribe("flood").await.unwrap();
    until("the drops are counted", || slow.get() > 0).await;
    assert!(slow.get() < FLOOD as u64, "what fitted was not dropped: {}", slow.get());
}

#[tokio::test]
async fn an_old_server_is_noted_and_used_all_the_same() {
    for (version, outdated) in [("2.9.10", "1"), ("2.14.3", "0")] {
        let url = serve(version).await;
        let metrics = Metrics::new();
        let connection = connect(&url, Counter::default()).await;
        let (client, state) = (connection.client.clone(), connection.state.clone());
        let following = tokio::spawn(follow_server(client, state, "control", metrics.clone()));
        let view = crate::metrics::tests::view(fleet_consensus::NodeRole::Leader, Some(1));
        let wanted = format!("flotilla_nats_server_outdated{{connection=\"control\"}} {outdated}");
        until(&wanted, || metrics.render(&view).contains(&wanted)).await;
        connection.client.flush().await.unwrap();
        following.abort();
    }
}
