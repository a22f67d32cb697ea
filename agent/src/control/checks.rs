//! What connectors say to links and devices before they are registered.
//!
//! The log takes whatever is well formed, since it knows no protocol; an agent that knows them
//! refuses what could never work, with the field and what to do. A registration that comes
//! before its link is checked by the owner of the link, and shown there.

use fleet_protocol::{ErrorCode, Failure};
use fleet_state::{Command, DeviceId, DeviceSpec, FleetState, LinkId, LinkSpec, Placement};

use crate::device::connector::Refusal;
use crate::device::connectors::Connectors;
use crate::device::{device_setup, link_setup};

/// Checks a command, and each item of a batch, as far as connectors know anything of it.
pub(super) fn check(
    connectors: &Connectors,
    state: &FleetState,
    command: &Command,
) -> Result<(), Failure> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "connectors have no say in the others")]
    let checked = match command {
        Command::LinkRegister { id, spec } => check_link(connectors, id, spec),
        Command::DeviceRegister { id, spec } => check_device(connectors, state, id, spec),
        Command::Batch(items) => {
            return items.iter().try_for_each(|item| check(connectors, state, &item.command));
        }
        _ => Ok(()),
    };
    checked.map_err(|refusal| {
        let Refusal { field, problem, hint } = refusal;
        let failure = Failure::new(ErrorCode::Malformed, format!("{field}: {problem}"));
        match hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    })
}

/// Checks a link, and that one that hangs on a node says on which.
fn check_link(connectors: &Connectors, id: &LinkId, spec: &LinkSpec) -> Result<(), Refusal> {
    let connector = connectors.get(&spec.connector)?;
    let setup = link_setup(id, spec);
    connector.check_link(&setup)?;
    if connector.is_wired(&setup) && matches!(spec.placement, Placement::Any { .. }) {
        return Err(Refusal::new("placement", "such a link is wired to one node")
            .with_hint("say {\"on\": \"<node name>\"}, as flotilla link register --on does"));
    }
    Ok(())
}

/// Checks a device against its link, if that is registered.
fn check_device(
    connectors: &Connectors,
    state: &FleetState,
    id: &DeviceId,
    spec: &DeviceSpec,
) -> Result<(), Refusal> {
    let Some(link) = spec.link.as_ref().and_then(|link| state.link(link)) else {
        return Ok(());
    };
    let connector = connectors.get(&link.spec.connector)?;
    let setup = link_setup(&link.id, &link.spec);
    connector.check_device(&setup, &device_setup(id, spec)).map(|_profile| ())
}
