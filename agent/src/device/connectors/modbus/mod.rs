//! Modbus: devices that have numbered registers and nothing else.
//!
//! A link is an endpoint (`link`), a device is a unit number and a register map (`map`,
//! `register`). `codec` does values and words, `blocks` says which questions read a set of
//! registers, `unit` what is known of a device, all of it purely. `bus` is the connection (over
//! `serial` at a port of the node itself), `session` the task that owns it and asks one question
//! after the other, `scan` what asks around who is there.
//!
//! What it keeps to:
//! - a map is checked when it is registered: types, places, overlaps, constants;
//! - several words of one value are written in one request (function 16), a bit of a word with
//!   function 22 or in the way that its map declares;
//! - the device's answer to a write is its own word: `acknowledged`. No answer means that it may
//!   have acted, and costs the connection, so that a late answer can't be taken for another's;
//! - exception 5 is an acknowledgement, 6 is busy, 10 and 11 say that a device behind a gateway is
//!   away;
//! - a register that wears out is written only when it differs, and so often a day at most.
//!
//! Modbus has no sessions and no owner: what protects a device against two writers is the lease
//! alone, and `fence: lease` says so.

mod blocks;
mod budget;
mod bus;
mod bus_error;
mod codec;
mod link;
mod map;
mod register;
mod scan;
mod serial;
mod session;
mod unit;

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::device::connector::{
    AskedUnit, Connect, ConnectError, Connector, DeviceSetup, LinkSetup, LookError, Place, Profile,
    Refusal, Scan, Session,
};

use budget::Budgets;
use link::Endpoint;
use map::Map;
use session::ModbusSession;

/// The connector `modbus`.
#[derive(Clone, Debug, Default)]
pub struct ModbusConnector {
    budgets: Arc<Budgets>,
}

impl ModbusConnector {
    /// One that keeps in this folder how often registers that wear out may still be written; without
    /// it, a new start of the agent begins with full budgets.
    #[must_use]
    pub fn kept_in(dir: PathBuf) -> Self {
        Self { budgets: Arc::new(Budgets::kept_in(dir)) }
    }
}

impl Connector for ModbusConnector {
    fn kind(&self) -> &'static str {
        "modbus"
    }

    fn check_link(&self, link: &LinkSetup) -> Result<(), Refusal> {
        Endpoint::parse(link).map(|_| ())
    }

    fn check_device(&self, link: &LinkSetup, device: &DeviceSetup) -> Result<Profile, Refusal> {
        Endpoint::parse(link)?;
        Map::parse(device).map(|map| map.profile())
    }

    fn connect<'a>(
        &'a self,
        connect: Connect,
    ) -> BoxFuture<'a, Result<Box<dyn Session>, ConnectError>> {
        Box::pin(async move {
            let session = ModbusSession::connect(connect, Arc::clone(&self.budgets)).await?;
            Ok(Box::new(session) as Box<dyn Session>)
        })
    }

    fn is_wired(&self, link: &LinkSetup) -> bool {
        Endpoint::parse(link).is_ok_and(|endpoint| endpoint.is_wired())
    }

    fn scan<'a>(
        &'a self,
        place: Place,
        scan: Scan,
    ) -> BoxFuture<'a, Result<Vec<AskedUnit>, LookError>> {
        Box::pin(scan::scan(place, scan))
    }
}
