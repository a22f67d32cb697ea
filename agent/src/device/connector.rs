//! The contract between the agent and the code that speaks a protocol of devices.
//!
//! A [`Connector`] is one protocol. It checks, without any I/O, what a link and a device of it
//! are registered with, and it connects: a [`Session`] is one connection of the owner of one
//! link, in one epoch. The agent opens at most one session per link and closes it before the
//! link goes to another node; a node that doesn't own a link has none.
//!
//! The agent promises a session:
//! - reads, writes and invocations of different devices may come at the same time, those of one
//!   device come one after the other;
//! - every call has a deadline, after which its future is dropped. A write that was dropped
//!   counts as one that may have acted;
//! - a write is absolute and may be repeated; an invocation comes once and is never repeated;
//! - reports are taken out of the queue all the time; [`Reports::send`] waits when they come too
//!   fast, which is how a flood is slowed down at its source.
//!
//! A session promises the agent:
//! - it tells the truth about itself: [`Handed::Acknowledged`] is the device's own word, not that
//!   of a broker; an error says whether the device may have acted ([`WriteError::may_have_acted`]),
//!   and says so when in doubt;
//! - it retries nothing by itself that was handed to it, and keeps nothing for later: what can't
//!   be sent now is an error now. The agent decides what is still wanted;
//! - what was kept by somebody else and may be old (a retained message) is a report with
//!   [`Observation::retained`], and its values have at best [`Quality::Uncertain`];
//! - its memory is bounded whatever the other side sends: messages that are too long or can't be
//!   read are counted, reported as quality bad where a device is known, and dropped.
//!
//! Beside that a connector may look along a link that it has no session of (`looking`).
//!
//! Panics and hangs are contained by the task that calls, in `link`.

mod looking;
mod may_write;
mod reports;
mod setup;
mod traffic;

use std::path::PathBuf;

use fleet_state::SiteName;
use futures_util::future::BoxFuture;
use thiserror::Error;

// What the planner knows as well, in the words that both use.
pub use fleet_device::{
    Access, Availability, Fence, Handed, Observation, Profile, Quality, ReadErrorKind, Reading,
    WriteError, WriteErrorKind,
};
pub use looking::{AskedUnit, Candidate, Discover, Found, LookError, Place, Scan};
pub use may_write::MayWrite;
pub use reports::Reports;
pub use setup::{DeviceSetup, LinkSetup, Refusal};
pub use traffic::{ANSWER_MS_MAX, Invoke, Read, ReadError, Write};

/// A protocol of devices.
pub trait Connector: Send + Sync {
    /// The word that links are registered with: `mqtt`, `modbus`, `nats`, `simulated`.
    fn kind(&self) -> &'static str;

    /// Checks what a link is registered with. Pure: no I/O, no files, the same on every node.
    ///
    /// # Errors
    /// What is wrong, in which field, and what to do.
    fn check_link(&self, link: &LinkSetup) -> Result<(), Refusal>;

    /// Checks what a device is registered with, and tells what can be done with it. Pure, as
    /// above. Also called with a link that `check_link` has passed only.
    ///
    /// # Errors
    /// What is wrong, in which field, and what to do.
    fn check_device(&self, link: &LinkSetup, device: &DeviceSetup) -> Result<Profile, Refusal>;

    /// Connects. Called again, with growing pauses, when it fails or when the session closes.
    fn connect<'a>(
        &'a self,
        connect: Connect,
    ) -> BoxFuture<'a, Result<Box<dyn Session>, ConnectError>>;

    /// Whether the link hangs on one node by its nature, as a serial port does. Pure.
    fn is_wired(&self, _link: &LinkSetup) -> bool {
        false
    }

    /// Which devices a bridge, or devices themselves, have told of. Registers and writes nothing.
    fn discover<'a>(
        &'a self,
        _place: Place,
        _discover: Discover,
    ) -> BoxFuture<'a, Result<Found, LookError>> {
        Box::pin(async { Err(LookError::Unsupported(self.kind(), "asked for devices")) })
    }

    /// Which units of a bus answer: as many as can be asked in the time there is, in their order,
    /// and at least one. Called while there is no session only. Reads and writes nothing of
    /// theirs, but asks who they are.
    fn scan<'a>(
        &'a self,
        _place: Place,
        _scan: Scan,
    ) -> BoxFuture<'a, Result<Vec<AskedUnit>, LookError>> {
        Box::pin(async { Err(LookError::Unsupported(self.kind(), "scanned")) })
    }
}

/// One connection of the owner of a link.
pub trait Session: Send + Sync {
    /// Asks the device itself, now. What the session remembers or a broker keeps is no answer;
    /// [`ReadErrorKind::Unsupported`] says that this device can't be asked and only reports.
    fn read<'a>(&'a self, read: &'a Read) -> BoxFuture<'a, Result<Reading, ReadError>>;

    /// Hands values to the device.
    fn write<'a>(&'a self, write: &'a Write) -> BoxFuture<'a, Result<Handed, WriteError>>;

    /// Hands a one-shot to the device. Called at most once per request id.
    fn invoke<'a>(&'a self, invoke: &'a Invoke) -> BoxFuture<'a, Result<Handed, WriteError>>;

    /// The devices of the link, all of them, after one was registered, changed or deleted.
    fn devices_changed(&self, devices: Vec<DeviceSetup>);

    /// Ends when the connection is gone, with the reason. Called once per session.
    fn closed<'a>(&'a self) -> BoxFuture<'a, CloseReason>;

    /// Closes the connection in an orderly way; afterwards nothing leaves any more. A session that
    /// is dropped instead ends as if its node had died: what is armed against that goes off.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// What a session is opened with.
#[derive(Clone, Debug)]
pub struct Connect {
    /// The link.
    pub link: LinkSetup,
    /// Its devices. [`Session::devices_changed`] tells when they change.
    pub devices: Vec<DeviceSetup>,
    /// Whose command it is: grows with every change of owner.
    pub epoch: u64,
    /// The site; with the link's id it makes names that are the same for every owner.
    pub site: SiteName,
    /// Where credentials are, on this node. Settings name a file in it, never a secret.
    pub secrets_dir: PathBuf,
    /// Where what is heard goes.
    pub reports: Reports,
    /// Whether a device may be written to that has to be kept armed.
    pub may_write: MayWrite,
}

/// Why a link can't be connected; it is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct ConnectError {
    /// The reason and what to do, for people.
    pub message: String,
}

impl ConnectError {
    /// The reason and what to do.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

/// Why a connection is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// It was lost, or the other side closed it; it is connected again.
    Lost(String),
    /// Somebody else took it over: the broker closed it in favour of a newer session. It is
    /// connected again only when this node still owns the link.
    TakenOver(String),
}
