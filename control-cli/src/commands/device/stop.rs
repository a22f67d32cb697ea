//! `flotilla device stop`: the action that brings a device to a standstill, then a hold.
//!
//! The hold keeps what is desired from setting it in motion again. With a majority these are two
//! commands; locally the gateway does both by itself.

use anyhow::Result;
use clap::Args;
use fleet_protocol::{CommandTarget, QueryTarget, local::LocalTarget, record::DeviceBody};
use fleet_state::{DeviceId, Entity, Object};

use super::local;
use crate::{
    commands::listed,
    exit::{Exit, Stop, stop_of_outcome},
    output::say,
    session::Session,
    write::{HandOverArgs, Order},
};

#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// The device
    id: DeviceId,
    /// Without a majority: stop it at this gateway, to which it is wired
    #[arg(long)]
    local: bool,
    #[command(flatten)]
    write: HandOverArgs,
}

pub(super) async fn run(args: StopArgs, session: &Session) -> Result<()> {
    let StopArgs { id, local, write } = args;
    let write = write.write();
    if local {
        return local::send(session, LocalTarget::Stop(id), Vec::new(), &write).await;
    }
    let device: DeviceBody =
        listed::one(session, QueryTarget::Get(Entity::Device(id.clone()))).await?;
    let action = device.policy.stop_action.ok_or_else(|| {
        Stop::new(Exit::Rejected, format!("the policy of device {id} names no stop_action"))
            .with_hint("Name one when it is registered: --policy '{\"stop_action\":…}'.")
    })?;
    let mut body = Object::new();
    body.insert("action", action);
    let payload = body.to_json().into_bytes();
    let order = Order { target: CommandTarget::DeviceInvoke(id.clone()), payload };
    // What is not handed over yet would be taken back by the hold, so that comes second. It comes in
    // any case: whatever became of the stop, nothing is to set the device in motion.
    let stopped = write.or_sent().send(session, order).await;
    let held = hold(session, id).await;
    stopped.and(held)
}

async fn hold(session: &Session, id: DeviceId) -> Result<()> {
    let mut body = Object::new();
    body.insert("reason", "stopped");
    let client = session.client().await?;
    let target = CommandTarget::DeviceHold(id.clone());
    let outcome = client.command(&target, body.to_json().into_bytes(), &Default::default()).await?;
    if let Some(stop) = stop_of_outcome(&outcome) {
        return Err(stop.into());
    }
    say(&format!(
        "{id} is on hold, so that nothing sets it in motion; end that with: flotilla device release {id}"
    ));
    Ok(())
}
