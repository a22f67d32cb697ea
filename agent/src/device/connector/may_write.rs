//! Leave to write what nobody has just asked for.

use std::fmt;
use std::sync::Arc;

use fleet_state::DeviceId;
use tokio::time::Instant;

type Ask = dyn Fn(&DeviceId) -> Option<Instant> + Send + Sync;

/// Whether a session may write to a device by itself: what keeps it armed, as a watchdog is, and
/// nothing else. A device in observe or on hold, a paused link and a lease that is over all say no.
#[derive(Clone)]
pub struct MayWrite(Arc<Ask>);

impl MayWrite {
    /// As this says, each time anew.
    #[must_use]
    pub fn new(ask: impl Fn(&DeviceId) -> Option<Instant> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    /// Until when; `None`: now it may not.
    #[must_use]
    pub fn until(&self, device: &DeviceId) -> Option<Instant> {
        (self.0)(device)
    }
}

impl fmt::Debug for MayWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MayWrite")
    }
}
