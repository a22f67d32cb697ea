//! A wire to a NATS server that a test can cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Carries TCP connections to a port of the loopback while it is whole.
#[derive(Debug)]
pub struct Wire {
    port: u16,
    whole: watch::Sender<bool>,
    broken: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Wire {
    /// A wire to `port`.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a port");
        let own = listener.local_addr().expect("a listener has an address").port();
        let (whole, seen) = watch::channel(true);
        let broken = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(carry(listener, port, seen, Arc::clone(&broken)));
        Self { port: own, whole, broken, task }
    }

    /// Where it begins.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Breaks every connection, and lets none through until it is mended.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.whole.send_replace(true);
    }

    /// Connections that a cut has broken, or that were not let through.
    pub fn broken(&self) -> usize {
        self.broken.load(Ordering::Relaxed)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(
    listener: TcpListener,
    port: u16,
    whole: watch::Receiver<bool>,
    broken: Arc<AtomicUsize>,
) {
    loop {
        let Ok((mut near, _)) = listener.accept().await else { return };
        let mut whole = whole.clone();
        let broken = Arc::clone(&broken);
        tokio::spawn(async move {
            if !*whole.borrow_and_update() {
                broken.fetch_add(1, Ordering::Relaxed);
                return;
            }
            let Ok(mut far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                _ = whole.wait_for(|whole| !whole) => {
                    broken.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
}
