//! Devices and their desired states.

use fleet_state::{Command, DeviceSpec, RejectCode, Revision, Schema};

use crate::site::{Site, delete_device, json, object, register, replace, update};

fn device(site: &Site) -> fleet_state::Device {
    site.state.device(&"hall.lamp".parse().unwrap()).unwrap().as_ref().clone()
}

fn with_model(model: &str) -> Command {
    let model = Some(Schema::from_value(json(model)).unwrap());
    let spec = DeviceSpec { model, ..DeviceSpec::default() };
    Command::DeviceRegister { id: "hall.lamp".parse().unwrap(), spec }
}

#[test]
fn registering_is_explicit() {
    let mut site = Site::default();
    let message = site.reject(update("hall.lamp", r#"{"on":true}"#), RejectCode::NotFound);
    assert!(message.contains("device hall.lamp does not exist"), "{message}");
    site.reject(replace("hall.lamp", "{}"), RejectCode::NotFound);
    site.reject(delete_device("hall.lamp"), RejectCode::NotFound);
    site.accept(register("hall.lamp"));
    site.unchanged(register("hall.lamp"));
    site.accept(update("hall.lamp", r#"{"on":true}"#));
    site.accept(delete_device("hall.lamp"));
    // A late update does not bring the device back.
    site.reject(update("hall.lamp", r#"{"on":false}"#), RejectCode::NotFound);
    assert_eq!(site.state.devices_len(), 0);
}

#[test]
fn desired_states_are_merged_and_replaced() {
    let mut site = Site::default();
    let registered = site.accept(register("hall.lamp"));
    assert_eq!(device(&site).desired_revision, Revision::NONE);
    let first = site.accept(update("hall.lamp", r#"{"on":true,"color":{"r":1,"g":2}}"#));
    site.unchanged(update("hall.lamp", r#"{"on":true,"level":null}"#));
    assert_eq!(device(&site).revision.get(), first);
    let second = site.accept(update("hall.lamp", r#"{"color":{"g":null},"level":5}"#));
    assert_eq!(device(&site).desired(), object(r#"{"on":true,"color":{"r":1},"level":5}"#));
    assert_eq!(device(&site).registered.get(), registered);
    assert_eq!(device(&site).desired_revision.get(), second);
    site.accept(replace("hall.lamp", r#"{"on":null}"#));
    assert_eq!(device(&site).desired(), object(r#"{"on":null}"#));
    site.unchanged(replace("hall.lamp", r#"{"on":null}"#));
}

#[test]
fn the_first_desired_state_counts_even_when_empty() {
    let mut site = Site::default();
    site.accept(register("hall.lamp"));
    let revision = site.accept(replace("hall.lamp", "{}"));
    assert_eq!(device(&site).desired_revision.get(), revision);
    site.unchanged(replace("hall.lamp", "{}"));
}

#[test]
fn registering_again_keeps_what_is_desired() {
    let mut site = Site::default();
    let registered = site.accept(register("hall.lamp"));
    let desired = site.accept(update("hall.lamp", r#"{"on":true}"#));
    let spec = DeviceSpec { name: "Lamp".into(), ..DeviceSpec::default() };
    let command = Command::DeviceRegister { id: "hall.lamp".parse().unwrap(), spec };
    let again = site.accept(command);
    let device = device(&site);
    assert_eq!(device.desired(), object(r#"{"on":true}"#));
    assert_eq!(
        (device.registered.get(), device.desired_revision.get(), device.revision.get()),
        (registered, desired, again)
    );
}

#[test]
fn preconditions_compare_the_revision_of_the_device() {
    let mut site = Site::default();
    site.reject_if(Some(5), register("hall.lamp"), RejectCode::RevisionMismatch);
    let first = site.run_if(Some(0), register("hall.lamp")).answer.unwrap().revision.get();
    site.reject_if(Some(0), register("hall.lamp"), RejectCode::RevisionMismatch);
    site.reject_if(Some(0), update("hall.lamp", "{}"), RejectCode::RevisionMismatch);
    let second =
        site.run_if(Some(first), update("hall.lamp", r#"{"a":1}"#)).answer.unwrap().revision;
    assert_eq!(device(&site).revision, second);
    site.reject_if(Some(first), replace("hall.lamp", "{}"), RejectCode::RevisionMismatch);
    site.reject_if(Some(first), delete_device("hall.lamp"), RejectCode::RevisionMismatch);
    site.run_if(Some(second.get()), delete_device("hall.lamp"));
    assert_eq!(site.state.devices_len(), 0);
}

#[test]
fn a_model_binds_what_is_desired() {
    let mut site = Site::default();
    let model = r#"{"properties":{"on":{"type":"boolean"},"level":{"type":"integer","maximum":9}},
        "required":["on"],"additionalProperties":false}"#;
    // Registering needs no desired state yet, so `required` does not bite.
    site.accept(with_model(model));
    let message = site.reject(update("hall.lamp", r#"{"level":1}"#), RejectCode::Schema);
    assert!(message.contains("desired must have a member \"on\""), "{message}");
    site.accept(update("hall.lamp", r#"{"on":true}"#));
    site.accept(update("hall.lamp", r#"{"level":9}"#));
    site.reject(update("hall.lamp", r#"{"level":10}"#), RejectCode::Schema);
    site.reject(update("hall.lamp", r#"{"on":null}"#), RejectCode::Schema);
    site.reject(replace("hall.lamp", r#"{"on":true,"x":1}"#), RejectCode::Schema);
    // A new model must fit what is desired.
    site.reject(with_model(r#"{"properties":{"level":{"maximum":8}}}"#), RejectCode::Schema);
    site.accept(with_model(r#"{"properties":{"level":{"maximum":11}}}"#));
    site.accept(update("hall.lamp", r#"{"level":10,"x":1}"#));
}

#[test]
fn a_desired_state_cannot_grow_beyond_a_value() {
    let mut site = Site::default();
    site.accept(register("hall.lamp"));
    let part = |name: &str| format!(r#"{{"{name}":"{}"}}"#, "x".repeat(12_000));
    site.accept(update("hall.lamp", &part("a")));
    site.accept(update("hall.lamp", &part("b")));
    let message = site.reject(update("hall.lamp", &part("c")), RejectCode::TooLarge);
    assert!(message.contains("the limit is 32768"), "{message}");
}

#[test]
fn pages_go_on_by_key() {
    let mut site = Site::default();
    for number in 0..50 {
        site.accept(register(&format!("d-{number:02}")));
    }
    let mut seen = Vec::new();
    let mut last = None;
    loop {
        let page: Vec<_> = site
            .state
            .devices_after(last.as_ref())
            .take(7)
            .map(|device| device.id.clone())
            .collect();
        let Some(end) = page.last().cloned() else { break };
        last = Some(end);
        seen.extend(page);
    }
    let all: Vec<_> = site.state.devices().map(|device| device.id.clone()).collect();
    assert_eq!(seen, all);
    assert!(all.is_sorted() && all.len() == 50);
}
