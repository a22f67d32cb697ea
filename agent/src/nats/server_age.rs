//! Whether the NATS server is older than it should be, which is said and refused to nobody.
//!
//! Flotilla needs nothing that is newer than 2.9.10. But older servers have holes that are known to
//! everybody: in the login of routes and leaf nodes, in denials for queue groups, in permissions of
//! MQTT clients, in trace headers. They are closed in 2.12.12 and 2.14.3.

use std::time::Duration;

use async_nats::Client;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::metrics::Metrics;

use super::LinkState;

/// The first version of each line that has no known holes; a later line has none either.
const FLOORS: [Version; 2] = [(2, 12, 12), (2, 14, 3)];
/// How often the server is looked at. The library tells of a new connection before it knows to what.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Major, minor and patch.
type Version = (u64, u64, u64);

/// How old a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// It has no holes that were known when this was written.
    Recent,
    /// It has.
    Outdated,
    /// It doesn't say a version that could be compared.
    Unknown,
}

impl Age {
    /// The age of a server that says this version.
    pub(super) fn of(version: &str) -> Self {
        let plain = version.split(['-', '+']).next().unwrap_or("");
        let Some(numbers) = numbers(plain) else { return Self::Unknown };
        let fits = |floor: &Version| (floor.0, floor.1) == (numbers.0, numbers.1);
        let newest = FLOORS.last().is_some_and(|newest| numbers > *newest);
        // What comes before a release need not have all that is in it.
        let is_early = version.contains('-');
        let enough = FLOORS
            .iter()
            .find(|floor| fits(floor))
            .is_some_and(|floor| numbers > *floor || (numbers == *floor && !is_early));
        if newest || enough { Self::Recent } else { Self::Outdated }
    }
}

fn numbers(version: &str) -> Option<Version> {
    let mut parts = version.trim_start_matches('v').split('.').map(str::parse::<u64>);
    let mut next = || parts.next()?.ok();
    let version = (next()?, next()?, next()?);
    parts.next().is_none().then_some(version)
}

/// Notes the age of the server of a connection, and says it when it should be renewed: once for
/// each version it finds, for as long as the connection is there.
pub async fn follow_server(
    client: Client,
    state: watch::Receiver<LinkState>,
    purpose: &'static str,
    metrics: Metrics,
) {
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = None;
    loop {
        looks.tick().await;
        let is_connected = *state.borrow() != LinkState::Disconnected;
        let Some(info) = client.try_server_info().filter(|_| is_connected) else { continue };
        if known.as_ref() == Some(&info.version) {
            continue;
        }
        let age = Age::of(&info.version);
        metrics.note_server_outdated(purpose, age == Age::Outdated);
        if age == Age::Outdated {
            tracing::warn!(
                connection = purpose,
                server = info.server_name,
                version = info.version,
                hint = "take 2.12.12, or 2.14.3 or newer; everything goes on working until then",
                "this NATS server has known holes in who may do what"
            );
        }
        known = Some(info.version);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_below_the_floor_of_their_line_are_outdated() {
        let cases = [
            ("2.9.10", Age::Outdated),
            ("1.99.99", Age::Outdated),
            ("2.12.11", Age::Outdated),
            ("2.12.12-RC.1", Age::Outdated),
            ("2.12.12", Age::Recent),
            ("v2.12.13", Age::Recent),
            ("2.12.13-RC.1", Age::Recent),
            ("2.13.99", Age::Outdated),
            ("2.14.2", Age::Outdated),
            ("2.14.3-RC.2", Age::Outdated),
            ("2.14.3", Age::Recent),
            ("2.14.3+build7", Age::Recent),
            ("2.15.0", Age::Recent),
            ("3.0.0", Age::Recent),
            ("", Age::Unknown),
            ("2.14", Age::Unknown),
            ("2.14.3.1", Age::Unknown),
            ("dev", Age::Unknown),
            ("99999999999999999999.0.0", Age::Unknown),
        ];
        for (version, wanted) in cases {
            assert_eq!(Age::of(version), wanted, "{version}");
        }
    }
}
