//! Which invocations are open, dispatching and ended, so that nobody has to look through all of them.
//!
//! It follows from the records and is rebuilt when a snapshot is read.

use imbl::OrdSet;

use crate::ids::{DeviceId, LinkId, RequestId, Revision};
use crate::record::Invocation;
use crate::stage::Stage;

#[derive(Clone, Default)]
pub(crate) struct Errands {
    /// Committed or dispatching, by device.
    open: OrdSet<(DeviceId, RequestId)>,
    /// Dispatching, by the link that they go over.
    dispatching: OrdSet<(LinkId, RequestId)>,
    /// All others, by their end.
    ended: OrdSet<(Revision, RequestId)>,
}

impl Errands {
    pub(crate) fn add(&mut self, invocation: &Invocation) {
        let id = &invocation.id;
        if invocation.stage.is_open() {
            self.open.insert((invocation.device.clone(), id.clone()));
        } else {
            self.ended.insert((invocation.revision, id.clone()));
        }
        if let Some(link) = dispatching_on(invocation) {
            self.dispatching.insert((link.clone(), id.clone()));
        }
    }

    pub(crate) fn remove(&mut self, invocation: &Invocation) {
        let id = &invocation.id;
        self.open.remove(&(invocation.device.clone(), id.clone()));
        self.ended.remove(&(invocation.revision, id.clone()));
        if let Some(link) = dispatching_on(invocation) {
            self.dispatching.remove(&(link.clone(), id.clone()));
        }
    }

    /// The open ones of a device, in the order of their ids.
    pub(crate) fn open_of<'a>(&'a self, device: &DeviceId) -> impl Iterator<Item = &'a RequestId> {
        let device = device.clone();
        let from = (device.clone(), RequestId::lowest());
        self.open.range(from..).take_while(move |(of, _)| *of == device).map(|(_, id)| id)
    }

    /// Those on their way over a link, in the order of their ids.
    pub(crate) fn dispatching_over(&self, link: &LinkId) -> Vec<RequestId> {
        let from = (link.clone(), RequestId::lowest());
        let over = self.dispatching.range(from..).take_while(|(over, _)| over == link);
        over.map(|(_, id)| id.clone()).collect()
    }

    /// The one that ended first.
    pub(crate) fn oldest_ended(&self) -> Option<RequestId> {
        self.ended.get_min().map(|(_, id)| id.clone())
    }
}

fn dispatching_on(invocation: &Invocation) -> Option<&LinkId> {
    let dispatching = invocation.stage == Stage::Dispatching;
    invocation.dispatch.as_ref().filter(|_| dispatching).map(|dispatch| &dispatch.link)
}
