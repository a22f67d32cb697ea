//! Devices that aren't there: for development, demonstrations and tests.
//!
//! A simulated link is a file, its *journal*: one line of JSON for everything that happened to
//! the devices on it. Whoever owns the link appends what it hands over; anybody else may append
//! what a local hand did, or that a device went away:
//!
//! ```json
//! {"device":"hall2.lamp-1","did":"hand","values":{"on":false}}
//! {"device":"hall2.lamp-1","did":"availability","availability":"offline"}
//! ```
//!
//! What a device is follows from the lines about it, so it lives on when an agent dies, and a
//! test can read what a device was really told, in which order, by whom. Every node that may own
//! the link must see the same file: it is for agents on one machine.
//!
//! The link's address is the absolute path of the file; without one, it is a file in the
//! directory for temporary files. Settings, all optional: `latency_ms`,
//! `loss`, `refusal` and `drift` (probabilities from 0 to 1: a write that gets lost on the way,
//! one that is refused, one after which the device does something else), `seed`, `readable`
//! (false: it can't be asked), `reports` (false: it says nothing by itself), `acknowledges`
//! (false: a write is only sent). Actions are any word; `die` takes the device away.

mod journal;
mod session;
mod settings;

use std::path::Path;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::super::connector::{
    Access, Connect, ConnectError, Connector, DeviceSetup, Fence, LinkSetup, Profile, Refusal,
    Session,
};
use session::SimulatedSession;
use settings::Settings;

/// The connector of simulated devices.
#[derive(Clone, Copy, Debug, Default)]
pub struct Simulated;

impl Connector for Simulated {
    fn kind(&self) -> &'static str {
        "simulated"
    }

    fn check_link(&self, link: &LinkSetup) -> Result<(), Refusal> {
        let address = link.address.as_ref();
        if !address.is_empty() && !Path::new(address).is_absolute() {
            let problem = format!("{:?} is not an absolute path", link.address);
            let hint =
                "give the path of a file that all agents of this machine may write, or nothing";
            return Err(Refusal::new("address", problem).with_hint(hint));
        }
        Settings::read(&link.settings).map(|_| ())
    }

    fn check_device(&self, link: &LinkSetup, device: &DeviceSetup) -> Result<Profile, Refusal> {
        if let Some((key, _)) = device.settings.iter().next() {
            return Err(Refusal::new(
                format!("settings.{key}"),
                "a simulated device has no settings of its own",
            )
            .with_hint("give them to its link"));
        }
        let settings = Settings::read(&link.settings)?;
        let knowable = settings.readable || settings.reports;
        Ok(Profile {
            properties: std::collections::BTreeMap::new(),
            others: Some(if knowable { Access::Desired } else { Access::WriteOnly }),
            actions: None,
            fence: Fence::Lease,
            warnings: Vec::new(),
        })
    }

    fn connect<'a>(
        &'a self,
        connect: Connect,
    ) -> BoxFuture<'a, Result<Box<dyn Session>, ConnectError>> {
        async move {
            let settings = Settings::read(&connect.link.settings)
                .map_err(|refusal| ConnectError::new(refusal.to_string()))?;
            let session = SimulatedSession::open(connect, settings).await?;
            Ok(Box::new(session) as Box<dyn Session>)
        }
        .boxed()
    }
}
