//! Calls of a connector, and commands of this agent's own, each in a task of its own.
//!
//! A call ends in a value in any case: at its deadline, and in a panic, it ends as one that may
//! have acted.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use fleet_state::{AgentCommand, DeviceId, Object, RequestId, Revision, StageItem};
use futures_util::FutureExt;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::consensus::{Handle, Submitted};
use crate::device::connector::{
    Handed, Invoke, Read, ReadError, ReadErrorKind, Reading, Session, Write, WriteError,
    WriteErrorKind,
};
use crate::device::local::{Begin, Begun, LocalHandle};

/// What a device's call ended with.
#[derive(Debug)]
pub(super) enum CallEnd {
    Read(Result<Reading, ReadError>),
    Written {
        values: Object,
        ended: Result<Handed, WriteError>,
    },
    /// Values of local writes were not handed over, since newer ones have taken their place.
    Overtaken {
        values: Object,
    },
    /// Wishes were asked for.
    Claimed {
        revisions: Vec<Revision>,
        asked_ms: u64,
        end: Submitted,
    },
    Adopted(Submitted),
    /// A one-shot was asked for.
    Taken {
        id: RequestId,
        asked_ms: u64,
        end: Submitted,
    },
    Invoked {
        id: RequestId,
        ended: Result<Handed, WriteError>,
    },
    /// The end of a one-shot was told.
    Settled {
        id: RequestId,
        end: Submitted,
    },
    /// A local stop was handed over, or local writes were merged; the book says what came of it.
    Local,
}

/// The end of a task.
#[derive(Debug)]
pub(super) enum Ended {
    /// A call for a device; by its number an abandoned one is told from the one after it.
    Call { device: DeviceId, number: u64, end: CallEnd },
    /// Stages were told.
    Stages { items: Vec<StageItem>, end: Submitted },
}

/// What tasks are made with.
pub(super) struct Calls {
    pub(super) tasks: JoinSet<Ended>,
    pub(super) session: Arc<Box<dyn Session>>,
    handle: Handle,
    next: u64,
    /// How the call that was begun last is ended.
    pub(super) last: Option<AbortHandle>,
}

impl Calls {
    pub(super) fn new(session: Box<dyn Session>, handle: Handle) -> Self {
        Self { tasks: JoinSet::new(), session: Arc::new(session), handle, next: 0, last: None }
    }

    /// Runs a call for a device, and gives its number.
    pub(super) fn call(
        &mut self,
        device: &DeviceId,
        call: impl Future<Output = CallEnd> + Send + 'static,
    ) -> u64 {
        self.next += 1;
        let (device, number) = (device.clone(), self.next);
        let task = async move { Ended::Call { device, number, end: call.await } };
        self.last = Some(self.tasks.spawn(task));
        number
    }

    pub(super) fn read(&mut self, read: Read) -> u64 {
        let session = Arc::clone(&self.session);
        let device = read.device.clone();
        self.call(&device, async move {
            let answer = guarded(read.deadline, async { session.read(&read).await }).await;
            CallEnd::Read(answer.unwrap_or_else(|failed| {
                let message = failed.as_str().to_owned();
                Err(ReadError { kind: ReadErrorKind::Timeout, message })
            }))
        })
    }

    /// Hands values over; those of local writes only once it is on disk that they are.
    pub(super) fn write(&mut self, write: Write, begins: Begins) -> u64 {
        let session = Arc::clone(&self.session);
        let device = write.device.clone();
        self.call(&device, async move {
            match begins.on_disk().await {
                Begun::Begins => {}
                Begun::Overtaken => return CallEnd::Overtaken { values: write.values },
                Begun::NotOnDisk => {
                    let ended = Err(not_on_disk());
                    return CallEnd::Written { ended, values: write.values };
                }
            }
            let ended = guarded(write.deadline, async { session.write(&write).await }).await;
            CallEnd::Written { ended: ended.unwrap_or_else(in_doubt), values: write.values }
        })
    }

    pub(super) fn invoke(&mut self, invoke: Invoke) -> u64 {
        let session = Arc::clone(&self.session);
        let device = invoke.device.clone();
        self.call(&device, async move {
            let ended = guarded(invoke.deadline, async { session.invoke(&invoke).await }).await;
            CallEnd::Invoked { id: invoke.request_id, ended: ended.unwrap_or_else(in_doubt) }
        })
    }

    /// Has a command of this agent's own decided, and tells its end as `to_end` makes it.
    pub(super) fn submit(
        &mut self,
        device: &DeviceId,
        command: AgentCommand,
        deadline: Instant,
        to_end: impl FnOnce(Submitted) -> CallEnd + Send + 'static,
    ) -> u64 {
        let handle = self.handle.clone();
        self.call(device, async move { to_end(handle.submit_own(command, deadline).await) })
    }

    /// Tells stages.
    pub(super) fn tell(&mut self, command: AgentCommand, items: Vec<StageItem>, deadline: Instant) {
        let handle = self.handle.clone();
        self.tasks.spawn(async move {
            Ended::Stages { items, end: handle.submit_own(command, deadline).await }
        });
    }
}

/// Local writes that a hand-over begins.
pub(super) struct Begins {
    pub(super) local: LocalHandle,
    pub(super) begin: Begin,
}

impl Begins {
    /// Notes that they begin.
    async fn on_disk(self) -> Begun {
        if self.begin.is_empty() { Begun::Begins } else { self.local.begin(self.begin).await }
    }
}

fn not_on_disk() -> WriteError {
    WriteError {
        may_have_acted: false,
        kind: WriteErrorKind::Busy,
        message: "the journal of local writes can't be written".to_owned(),
    }
}

/// Why a call has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// Its time was over before it could begin: nothing has left.
    Late,
    /// The connector panicked.
    Panicked,
    /// It had not ended at its deadline.
    NoAnswer,
}

impl Failed {
    fn as_str(self) -> &'static str {
        match self {
            Failed::Late => "its time was over before it could begin",
            Failed::Panicked => "the connector panicked",
            Failed::NoAnswer => "no answer in time",
        }
    }
}

pub(super) fn in_doubt(failed: Failed) -> Result<Handed, WriteError> {
    let (may_have_acted, message) = (failed != Failed::Late, failed.as_str().to_owned());
    Err(WriteError { may_have_acted, kind: WriteErrorKind::Timeout, message })
}

/// What a connector answers that is asked without waiting; `None` when it panicked. Its panic must
/// not end the link's task: the next owner's would end the same, and the link would belong to nobody.
pub(super) fn contained<T>(ask: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(AssertUnwindSafe(ask)).ok()
}

/// The value of a call; at the deadline and in a panic, the reason why there is none. A call is
/// not begun after its deadline: a process that was stopped for a while would hand over what its
/// lease does not cover any more.
pub(super) async fn guarded<T>(
    deadline: Instant,
    call: impl Future<Output = T> + Send,
) -> Result<T, Failed> {
    if deadline <= Instant::now() {
        return Err(Failed::Late);
    }
    match tokio::time::timeout_at(deadline, AssertUnwindSafe(call).catch_unwind()).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) => Err(Failed::Panicked),
        Err(_) => Err(Failed::NoAnswer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_is_not_begun_after_its_deadline() {
        let mut begun = false;
        let ended = guarded(Instant::now(), async { begun = true }).await;
        assert_eq!((ended, begun), (Err(Failed::Late), false));
        assert!(!in_doubt(Failed::Late).unwrap_err().may_have_acted);
        for failed in [Failed::Panicked, Failed::NoAnswer] {
            assert!(in_doubt(failed).unwrap_err().may_have_acted);
        }
    }
}
