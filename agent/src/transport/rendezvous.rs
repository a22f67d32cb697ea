//! Lets gateways find each other over NATS while it works, so that the mesh stands when it
//! does not: each tells the others where it can be reached.
//!
//! What is told is made and checked by the mesh; in here it is bytes.

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::{Interval, MissedTickBehavior};

use crate::mesh::MeshHandle;
use crate::nats::{Connection, LinkState};

/// Those who came later, or missed it, hear it again after this time.
const TELL_EVERY: Duration = Duration::from_secs(20);

/// Runs until the mesh or the client has ended.
///
/// # Errors
/// When the client has been closed before.
pub async fn meet(
    connection: Connection,
    subject: String,
    mesh: MeshHandle,
) -> Result<(), async_nats::SubscribeError> {
    let Connection { client, mut state } = connection;
    let mut subscriber = client.subscribe(subject.clone()).await?;
    let mut told = mesh.watch_announcement();
    let mut again = every();
    loop {
        let speak = tokio::select! {
            heard = subscriber.next() => match heard {
                Some(message) => {
                    mesh.hear(message.payload);
                    false
                }
                None => return Ok(()),
            },
            changed = told.changed() => match changed {
                Ok(()) => true,
                Err(_) => return Ok(()),
            },
            changed = state.changed() => match changed {
                Ok(()) => true,
                Err(_) => return Ok(()),
            },
            _ = again.tick() => true,
        };
        let connected = *state.borrow_and_update() != LinkState::Disconnected;
        mesh.note_nats(connected);
        let announcement = told.borrow_and_update().clone();
        if speak
            && connected
            && let Some(announcement) = announcement
        {
            // Without room in the client's queue it is told at the next occasion.
            let _queued = client.publish(subject.clone(), announcement).now_or_never();
        }
    }
}

fn every() -> Interval {
    let mut every = tokio::time::interval(TELL_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    every
}
