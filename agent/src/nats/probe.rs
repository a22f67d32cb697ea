//! Finding out why a server can't be reached.
//!
//! The client library reports a failed connection as "IO error" and drops the system's own reason.
//! For the log line, which is written once in a while, the servers are tried once more by a plain
//! TCP connection, which is closed at once.

use std::time::Duration;

use async_nats::ServerAddr;
use tokio::net::TcpStream;

/// How long one server is tried.
const TRY_LIMIT: Duration = Duration::from_secs(1);
/// Servers that are tried; a longer list would only make the line longer.
const SERVERS_MAX: usize = 8;

/// What the system says of each server; `None` when there are none.
pub(super) async fn servers(servers: &[ServerAddr]) -> Option<String> {
    let mut found = Vec::new();
    for server in servers.iter().take(SERVERS_MAX) {
        found.push(reason(server.host(), server.port()).await);
    }
    (!found.is_empty()).then(|| found.join("; "))
}

async fn reason(host: &str, port: u16) -> String {
    let place = format!("{host}:{port}");
    // An address in brackets is written so in URLs only.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match tokio::time::timeout(TRY_LIMIT, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => format!(
            "{place}: something accepts connections there, but the conversation of NATS or its TLS breaks off"
        ),
        Ok(Err(error)) => format!("{place}: {error}"),
        Err(_) => format!("{place}: no answer within {} s", TRY_LIMIT.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn the_systems_own_reason_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: ServerAddr =
            format!("nats://{}", listener.local_addr().unwrap()).parse().unwrap();
        let open = servers(std::slice::from_ref(&address)).await.unwrap();
        assert!(open.contains("accepts connections"), "{open}");
        drop(listener);
        let closed = servers(&[address]).await.unwrap();
        assert!(closed.contains("refused"), "{closed}");
        assert_eq!(servers(&[]).await, None);
    }
}
