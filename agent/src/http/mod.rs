//! HTTP: health and metrics on the loopback (`/livez`, `/readyz`, `/metrics`), and the local door
//! (`door`), which has listeners of its own.
//!
//! - `/livez` answers 200 as long as the consensus loop runs, 503 once it has ended. A supervisor
//!   restarts the process on it.
//! - `/readyz` answers 200 when this agent can serve: it belongs to its site, a leader is known,
//!   what is committed is applied, its consensus loop turns, and the agent isn't stopping. Otherwise 503,
//!   with the reasons in a JSON body.
//! - `/metrics` is the Prometheus text format.
//!
//! Health and metrics are read-only and unauthenticated, so their listener stays on the loopback unless
//! the configuration says otherwise. They can't harm the agent: connections are few, short-lived
//! and never wait for the consensus loop, because all answers come from the newest view.

pub mod door;
mod listener;
mod ready;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::consensus::Handle;
use crate::metrics::Metrics;

/// How long open connections may take to finish when the agent stops.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// What Prometheus expects of the OpenMetrics text format.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the answers are made from.
#[derive(Clone, Debug)]
pub struct HttpContext {
    /// The consensus loop, for its view.
    pub handle: Handle,
    /// The numbers.
    pub metrics: Metrics,
    /// True once the agent is stopping.
    pub stopping: watch::Receiver<bool>,
}

/// A running server.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<io::Result<()>>,
}

impl HttpServer {
    /// Where it listens; the port is the one given by the system when 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it serves no more, which it should not before it is closed.
    pub async fn failed(&mut self) -> String {
        match (&mut self.task).await {
            Ok(Ok(())) => "health and metrics are served no more".to_owned(),
            Ok(Err(error)) => format!("health and metrics are served no more: {error}"),
            Err(error) => format!("the task that serves health and metrics failed: {error}"),
        }
    }

    /// Stops listening and lets open connections finish, within a bound.
    pub async fn close(mut self) {
        self.stop.send_replace(true);
        if tokio::time::timeout(CLOSE_TIMEOUT, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

/// Listens on `address` and serves until closed.
///
/// # Errors
/// When the address can't be bound; the caller names it.
pub async fn start(address: SocketAddr, context: HttpContext) -> io::Result<HttpServer> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let (stop, mut stopped) = watch::channel(false);
    let service = axum::serve(listener::Bounded::new(listener), router(context))
        .with_graceful_shutdown(async move {
            // An error means that the server's handle is gone, which also ends it.
            let _ = stopped.wait_for(|stop| *stop).await;
        });
    let task = tokio::spawn(async move { service.await });
    tracing::info!(%address, "health and metrics are served");
    Ok(HttpServer { address, stop, task })
}

fn router(context: HttpContext) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(|| async { (StatusCode::NOT_FOUND, "try /livez, /readyz or /metrics\n") })
        .with_state(context)
}

async fn livez(State(context): State<HttpContext>) -> Response {
    // The loop owns the sending side of the view: it is gone when the loop has ended.
    if context.handle.watch_view().has_changed().is_err() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the consensus loop has ended\n").into_response();
    }
    (StatusCode::OK, "ok\n").into_response()
}

async fn readyz(State(context): State<HttpContext>) -> Response {
    let view = context.handle.view();
    let stopping = *context.stopping.borrow();
    let now_ms = context.handle.clock().now_ms();
    let report = ready::report(&view, context.handle.still_ms(), now_ms, stopping);
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::to_string(&report).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn metrics(State(context): State<HttpContext>) -> Response {
    let text = context.metrics.render(&context.handle.view());
    ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response()
}
