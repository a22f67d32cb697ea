//! Long looks at the state, aside from the thread that carries frames.
//!
//! One thread serves sockets and requests. A page out of a hundred thousand devices takes it
//! milliseconds, a hundred readers at once take it longer than an election timeout, and then a
//! healthy leader would fall because somebody reads. So whatever grows with the state is looked
//! at on threads of its own, a few at a time; who waits does so no longer than its deadline.

use std::sync::Arc;

use fleet_protocol::{ErrorCode, Failure};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

/// Long looks at a time; more would take the processor from those who vote.
const LOOKS_MAX: usize = 2;

/// The places of long looks.
#[derive(Debug)]
pub(super) struct Aside(Arc<Semaphore>);

impl Default for Aside {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LOOKS_MAX)))
    }
}

impl Aside {
    /// Takes a look aside, unless the deadline comes before its turn.
    pub(super) async fn look<T, F>(&self, deadline: Instant, look: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let place = timeout_at(deadline, Arc::clone(&self.0).acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            let why = "this agent has more long lists to read than it can; retry later, ask \
                       another one, or ask for one area";
            return Err(Failure::new(ErrorCode::Busy, why));
        };
        let looked = tokio::task::spawn_blocking(move || {
            let seen = look();
            drop(place);
            seen
        });
        looked.await.map_err(|error| {
            Failure::new(ErrorCode::Internal, format!("reading the state failed: {error}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn looks_wait_for_a_place_until_their_deadline() {
        let aside = Arc::new(Aside::default());
        let (go, wait) = std::sync::mpsc::sync_channel::<()>(1);
        let wait = Arc::new(std::sync::Mutex::new(wait));
        let far = Instant::now() + Duration::from_secs(60);
        let busy: Vec<_> = (0..LOOKS_MAX)
            .map(|_| {
                let (aside, wait) = (Arc::clone(&aside), Arc::clone(&wait));
                tokio::spawn(async move {
                    aside.look(far, move || wait.lock().unwrap().recv().is_ok()).await.unwrap()
                })
            })
            .collect();
        while aside.0.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let soon = Instant::now() + Duration::from_millis(20);
        let refused = aside.look(soon, || ()).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Busy);
        drop(go);
        for busy in busy {
            assert!(!busy.await.unwrap());
        }
        assert_eq!(aside.look(far, || 7).await.unwrap(), 7);
        let failed = aside.look(far, || panic!("a look that fails")).await.unwrap_err();
        assert_eq!(failed.code, ErrorCode::Internal);
        assert_eq!(aside.0.available_permits(), LOOKS_MAX);
    }
}
