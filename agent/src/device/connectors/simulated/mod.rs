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
//! The link's address is the name of the file in the folder that the agent's configuration gives
//! (`devices.simulated_dir`), or its absolute path there; without one, the file is named after the
//! link. An agent without such a folder has no simulated links: whoever may register links must not
//! be able to have it write to any file that it may write. Settings, all optional: `latency_ms`,
//! `loss`, `refusal` and `drift` (probabilities from 0 to 1: a write that gets lost on the way,
//! one that is refused, one after which the device does something else), `seed`, `readable`
//! (false: it can't be asked), `reports` (false: it says nothing by itself), `acknowledges`
//! (false: a write is only sent). Actions are any word; `die` takes the device away.

mod journal;
mod session;
mod settings;

use std::path::{Component, Path, PathBuf};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::super::connector::{
    Access, Connect, ConnectError, Connector, DeviceSetup, Fence, LinkSetup, Profile, Refusal,
    Session,
};
use session::SimulatedSession;
use settings::Settings;

/// The connector of simulated devices.
#[derive(Clone, Debug, Default)]
pub struct Simulated {
    dir: Option<PathBuf>,
}

impl Simulated {
    /// With journals in this folder only; without one every link is refused.
    #[must_use]
    pub fn new(dir: Option<PathBuf>) -> Self {
        Self { dir }
    }

    /// The journal of an address.
    fn journal(&self, address: &str) -> Result<PathBuf, Refusal> {
        let refuse =
            |problem: String, hint: String| Err(Refusal::new("address", problem).with_hint(hint));
        let Some(dir) = &self.dir else {
            let problem = "this agent has no folder for simulated links".to_owned();
            let hint = "set devices.simulated_dir in the configuration of the site's agents";
            return Err(Refusal::new("connector", problem).with_hint(hint));
        };
        let path = Path::new(address);
        let below = if path.is_absolute() { path.strip_prefix(dir).ok() } else { Some(path) };
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        let is_name = path.is_absolute() || path.components().count() == 1;
        match below {
            Some(below)
                if is_name && below.file_name().is_some() && below.components().all(plain) =>
            {
                Ok(dir.join(below))
            }
            Some(_) | None => refuse(
                format!("{address:?} is no file in the folder for simulated links"),
                format!("give a file name, an absolute path below {}, or nothing", dir.display()),
            ),
        }
    }
}

impl Connector for Simulated {
    fn kind(&self) -> &'static str {
        "simulated"
    }

    fn check_link(&self, link: &LinkSetup) -> Result<(), Refusal> {
        let own_name = format!("{}.journal", link.id);
        self.journal(if link.address.is_empty() { &own_name } else { &link.address })?;
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
            let refused = |refusal: Refusal| ConnectError::new(refusal.to_string());
            let settings = Settings::read(&connect.link.settings).map_err(refused)?;
            let own_name = format!("flotilla-{}-{}.journal", connect.site, connect.link.id);
            let address = connect.link.address.as_ref();
            let journal = self.journal(if address.is_empty() { &own_name } else { address });
            let path = journal.map_err(refused)?;
            let session = SimulatedSession::open(connect, settings, path).await?;
            Ok(Box::new(session) as Box<dyn Session>)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(dir: Option<&str>, address: &str) -> Result<PathBuf, &'static str> {
        let simulated = Simulated::new(dir.map(PathBuf::from));
        let link = LinkSetup {
            id: "hall.sim".parse().unwrap(),
            address: address.into(),
            settings: Default::default(),
        };
        let checked = simulated.check_link(&link);
        let journal = simulated.journal(address).map_err(|_| "refused");
        assert!(address.is_empty() || checked.is_ok() == journal.is_ok(), "{address}");
        if address.is_empty() {
            checked.map(|()| PathBuf::new()).map_err(|_| "refused")
        } else {
            journal
        }
    }

    #[test]
    fn a_journal_is_in_the_folder_or_nowhere() {
        let dir = Some("/var/tmp/plant");
        let inside = |name: &str| Ok(Path::new("/var/tmp/plant").join(name));
        assert_eq!(check(dir, "a.journal"), inside("a.journal"));
        assert_eq!(check(dir, "/var/tmp/plant/hall/a.journal"), inside("hall/a.journal"));
        assert!(check(dir, "").is_ok());
        for outside in [
            "/etc/passwd",
            "/var/tmp/plant",
            "/var/tmp/plant/",
            "/var/tmp/plant/../x",
            "/var/tmp/plantation/x",
            "../x",
            "..",
            ".",
            "a/b",
            "a/../../x",
            "/",
        ] {
            assert_eq!(check(dir, outside), Err("refused"), "{outside}");
        }
        for any in ["", "a.journal", "/var/tmp/plant/a"] {
            assert_eq!(check(None, any), Err("refused"), "{any}");
        }
    }
}
