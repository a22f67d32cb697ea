//! Local writes: what is commanded at this gateway while no majority can be reached.

use anyhow::Result;
use fleet_client::LocalOutcome;
use fleet_protocol::{
    WaitFor,
    local::{LocalDone, LocalStage, LocalTarget},
};
use fleet_state::DeviceId;
use serde::Serialize;

use crate::{
    exit::{Exit, Stop, stop_of_failed, stop_of_unknown},
    output::{Table, tame},
    session::Session,
    value,
    write::WriteArgs,
};

/// What was done, as it is printed.
#[derive(Debug, Serialize)]
struct Taken {
    id: String,
    ok: bool,
    #[serde(flatten)]
    done: LocalDone,
}

/// Writes values locally.
pub(super) async fn set(
    session: &Session,
    id: Option<&DeviceId>,
    values: &[String],
    write: &WriteArgs,
) -> Result<()> {
    let id = id.ok_or_else(|| Stop::usage("give a device and what should be"))?;
    if values.is_empty() {
        return Err(Stop::usage("nothing to set")
            .with_hint("Say what it should be, as in: on=true level=3.")
            .into());
    }
    let payload = value::object(values)?.to_json().into_bytes();
    send(session, LocalTarget::Update(id.clone()), payload, write).await
}

/// Sends a local write to the agent of this machine and prints what came of it.
pub(super) async fn send(
    session: &Session,
    target: LocalTarget,
    payload: Vec<u8>,
    write: &WriteArgs,
) -> Result<()> {
    write.check_local()?;
    let client = session.gateway().await?;
    let options = write.named(session, &client);
    let done = match client.write_locally(&target, payload, &options).await? {
        LocalOutcome::Taken(done) => done,
        LocalOutcome::Refused(failed) => return Err(stop_of_failed(&failed).into()),
        LocalOutcome::Unknown(unknown) => return Err(stop_of_unknown(&unknown).into()),
    };
    let stop = write.wait().and_then(|wait| missed(&done, wait));
    let taken = Taken { id: target.device().to_string(), ok: true, done };
    session.form().print(&taken, || {
        let Taken { id, done, .. } = &taken;
        let mut table = Table::new(&[]);
        let got = match done.stage.as_str() {
            stage if stage == LocalStage::Local.as_str() => String::new(),
            stage => format!(", {stage}"),
        };
        table.row([id.clone(), format!("local write {}{got}", done.local), done.detail.clone()]);
        table
    })?;
    stop.map_or(Ok(()), |stop| Err(stop.into()))
}

/// Why a local write does not end as it was asked for.
fn missed(done: &LocalDone, wait: WaitFor) -> Option<Stop> {
    // A stage that is newer than this program is taken for reached.
    let stage = LocalStage::from_name(&done.stage)?;
    if stage.meets(wait) == Some(true) {
        return None;
    }
    let (exit, what) = if stage == LocalStage::Unknown {
        (Exit::Unknown, "nobody can say whether the device acted")
    } else {
        (Exit::StageNotReached, "it did not get that far")
    };
    let message = format!(
        "local write {} is {}, not {wait}: {what}; {}",
        done.local,
        done.stage,
        tame(&done.detail)
    );
    Some(Stop::new(exit, message).with_hint("See how it goes on: flotilla partition report."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(stage: &str) -> LocalDone {
        LocalDone {
            request_id: "r".to_owned(),
            local: 7,
            stage: stage.to_owned(),
            detail: "local, not committed".to_owned(),
        }
    }

    #[test]
    fn a_stage_that_was_not_reached_is_told() {
        assert!(missed(&done("local"), WaitFor::Committed).is_none());
        assert_eq!(missed(&done("local"), WaitFor::Sent).unwrap().exit, Exit::StageNotReached);
        assert_eq!(missed(&done("unknown"), WaitFor::Sent).unwrap().exit, Exit::Unknown);
        assert!(missed(&done("verified"), WaitFor::Sent).is_none());
        assert!(missed(&done("newer"), WaitFor::Verified).is_none());
    }
}
