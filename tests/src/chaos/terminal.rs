//! Where clients sit that have nothing but the network: a machine of their own behind the switch.

use std::future::Future;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use crate::bare::BareClient;
use crate::lan::machine::Machine;

/// Tasks whose sockets belong to one machine.
#[derive(Debug)]
pub struct Terminal {
    // Taken by drop only.
    runtime: Option<Runtime>,
}

impl Terminal {
    /// On this machine.
    ///
    /// # Panics
    /// If it is gone.
    pub fn on(machine: &Machine) -> Self {
        // A thread is where the one was that started it, so the workers are made inside.
        let runtime = machine.enter(|| {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(1).thread_name("terminal").enable_all();
            builder.build().expect("a runtime can be made")
        });
        Self { runtime: Some(runtime) }
    }

    /// Does something there; sockets that it opens are the machine's.
    ///
    /// # Panics
    /// If what is done panics.
    pub async fn run<T: Send + 'static>(
        &self,
        inside: impl Future<Output = T> + Send + 'static,
    ) -> T {
        self.spawn(inside).await.expect("what is done at a terminal ends without a panic")
    }

    /// The same for what goes on for longer.
    pub fn spawn<T: Send + 'static>(
        &self,
        inside: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.runtime.as_ref().expect("only drop takes it").spawn(inside)
    }

    /// A connection to a NATS server. Whoever holds it may be anywhere.
    pub async fn connect(&self, url: &str, site: &str) -> BareClient {
        let (url, site) = (url.to_owned(), site.to_owned());
        self.run(async move { BareClient::connect(&url, &site).await }).await
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A test is a task, and a task may not wait for a runtime's end.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
