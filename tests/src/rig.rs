//! Links and devices of a site, registered, commanded and looked at by a client that knows only
//! subjects.

use std::time::Duration;

use serde_json::{Value, json};

use crate::bare::{Answer, BareClient};
use crate::wait;

/// How long anything about a device may take on a busy machine.
pub const RIG_LIMIT: Duration = Duration::from_secs(60);

/// The settings of a tank ([`crate::field::FieldDevice::tank`]) of this name.
pub fn tank_settings() -> Value {
    let topic = |what: &str| json!({"topic": format!("{{{{ address }}}}/{what}")});
    json!({
        "properties": {"level": {"type": "integer", "read": topic("level"), "write": topic("set"),
                                 "get": {"topic": "{{ address }}/get", "payload": "?"}}},
        "actions": {"go": {"topic": "{{ address }}/go", "payload": "{{ args.number | int }}"}},
        "availability": {"topic": "{{ address }}/alive", "online": "up", "offline": "down"},
    })
}

/// Registers a link.
pub async fn register_link(client: &BareClient, id: &str, body: &Value) {
    let subject = format!("control.commands.link.register.{id}");
    client.request(&subject, body.to_string()).await.accepted();
}

/// Registers a device, and says whether it may be written to.
pub async fn register_device(client: &BareClient, id: &str, body: &Value, mode: &str) {
    let subject = format!("control.commands.device.register.{id}");
    client.request(&subject, body.to_string()).await.accepted();
    let subject = format!("control.commands.device.mode.{id}");
    client.request(&subject, json!(mode).to_string()).await.accepted();
}

/// Waits until a device looks like that.
pub async fn until_device(
    client: &BareClient,
    id: &str,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    until(client, &format!("control.query.device.get.{id}"), &format!("{id}: {what}"), wanted).await
}

/// Waits until a link looks like that.
pub async fn until_link(
    client: &BareClient,
    id: &str,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    until(client, &format!("control.query.link.get.{id}"), &format!("{id}: {what}"), wanted).await
}

async fn until(
    client: &BareClient,
    subject: &str,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let last = std::sync::Mutex::new(Value::Null);
    let client = client.hasty();
    let found = wait::until(what, RIG_LIMIT, || async {
        let Answer::Reply(reply) = client.request(subject, "").await else { return None };
        let item = reply.0.get("item").cloned()?;
        last.lock().expect("nobody panics with it").clone_from(&item);
        wanted(&item).then_some(item)
    });
    // A test that waits in vain wants to know what there was instead.
    struct Tell<'a>(&'a std::sync::Mutex<Value>);
    impl Drop for Tell<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("last seen: {}", self.0.lock().map_or(Value::Null, |seen| seen.clone()));
            }
        }
    }
    let _tell = Tell(&last);
    found.await
}

/// The index of the agent that owns the link of a device, when it isn't one of these.
pub async fn owner_but(client: &BareClient, id: &str, not: &[usize]) -> usize {
    let index = |seen: &Value| usize::try_from(seen["owner"].as_u64()?).ok()?.checked_sub(1);
    let other = |seen: &Value| index(seen).is_some_and(|index| !not.contains(&index));
    let seen = until_device(client, id, "another agent owns it", other).await;
    index(&seen).expect("it was looked at")
}
