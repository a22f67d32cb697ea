//! MQTT: devices that speak over a broker, in version 3.1.1 or 5.
//!
//! A link is a broker (`link`), a device is a set of topics (`model`), written out in full or by
//! a preset (`presets`: zigbee2mqtt, tasmota, shelly). `wiring` is the pure heart: which topics
//! are listened to, what a message means, what a wish becomes. `wire` is the connection, `session`
//! the task that owns both.
//!
//! What it keeps to:
//! - the client id is the same for every owner of a link, so that the broker itself ends the
//!   session of an owner that is no more: `fence: broker`;
//! - command topics are never retained, one-shots have QoS 0 and go to a device that is there
//!   only; a message with a time limit carries it (5) or is not kept by the broker (3.1.1);
//! - the broker's word is `sent`. Nobody listening on a command topic (5: reason 0x10) is an
//!   error. It can be told only while this link itself doesn't listen there: so a device without
//!   availability topics is not watched for commands of others, unless `watch` says so;
//! - retained reports are uncertain; so are reports right after a write to something that
//!   repeats what it is told;
//! - a payload is at most `PAYLOAD_BYTES_MAX` long, UTF-8, and what the model says; anything
//!   else is counted, reported as bad, and changes nothing.

mod credentials;
pub mod discovery;
mod form;
mod link;
mod model;
mod presets;
mod session;
mod template;
mod topic;
mod wire;
mod wiring;

use futures_util::future::BoxFuture;

use crate::device::connector::{
    Connect, ConnectError, Connector, DeviceSetup, Discover, Found, LinkSetup, LookError, Place,
    Profile, Refusal, Session,
};

use link::Broker;
use model::Model;
use session::MqttSession;
use template::Engine;

/// Bytes of a payload of a device.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 1_000_000;

/// The connector `mqtt`.
#[derive(Clone, Copy, Debug, Default)]
pub struct MqttConnector;

impl Connector for MqttConnector {
    fn kind(&self) -> &'static str {
        "mqtt"
    }

    fn check_link(&self, link: &LinkSetup) -> Result<(), Refusal> {
        Broker::parse(link).map(|_| ())
    }

    fn check_device(&self, link: &LinkSetup, device: &DeviceSetup) -> Result<Profile, Refusal> {
        Broker::parse(link)?;
        Model::parse(&mut Engine::new(), device).map(|model| model.profile())
    }

    fn connect<'a>(
        &'a self,
        connect: Connect,
    ) -> BoxFuture<'a, Result<Box<dyn Session>, ConnectError>> {
        Box::pin(async move {
            let session = MqttSession::connect(connect).await?;
            Ok(Box::new(session) as Box<dyn Session>)
        })
    }

    fn discover<'a>(
        &'a self,
        place: Place,
        discover: Discover,
    ) -> BoxFuture<'a, Result<Found, LookError>> {
        Box::pin(discovery::discover(place, discover))
    }
}
