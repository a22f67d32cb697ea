//! An agent's metrics, scraped over HTTP.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for a scrape; an agent answers in a millisecond.
const SCRAPE_LIMIT: Duration = Duration::from_secs(2);
/// What stands before the address in the agent's log.
const SERVED: &str = "health and metrics are served";

/// What one scrape said.
#[derive(Debug, Clone)]
pub struct Metrics(String);

impl Metrics {
    /// Asks the agent that has written this log last; `None` when it does not answer.
    pub async fn scrape(log: &str) -> Option<Self> {
        let line = log.lines().rev().find(|line| line.contains(SERVED))?;
        let address = line.split("address=").nth(1)?.split_whitespace().next()?;
        timeout(SCRAPE_LIMIT, get(address, "/metrics")).await.ok()?.ok().map(Self)
    }

    /// The value of a series, written as in the scrape; 0 for one that is not there.
    ///
    /// # Panics
    /// If it is no number.
    pub fn value(&self, series: &str) -> f64 {
        let line = self
            .0
            .lines()
            .find_map(|line| line.strip_prefix(series).and_then(|rest| rest.strip_prefix(' ')));
        line.map_or(0.0, |value| value.trim().parse().expect("a metric is a number"))
    }
}

async fn get(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await?;
    Ok(reply)
}
