//! Links and parameters.

use fleet_state::{Command, Placement, RejectCode, Revision};

use crate::site::{
    Site, delete_device, delete_link, device_on, json, link_spec, register_link, set, unset,
};

#[test]
fn a_parameter_is_set_changed_and_deleted() {
    let mut site = Site::default();
    let first = site.accept(set("hall.temp", "20"));
    let key = "hall.temp".parse().unwrap();
    let second = site.accept(set("hall.temp", "21"));
    let param = site.state.param(&key).unwrap();
    assert_eq!((param.created.get(), param.revision.get()), (first, second));
    assert_eq!(param.value, json("21"));
    assert_eq!(param.changed_wall_ms, site.wall_time_ms);
    site.unchanged(set("hall.temp", "21"));
    assert_eq!(site.state.param(&key).unwrap().revision.get(), second);
    site.accept(set("hall.temp", "21.0"));
    site.accept(unset("hall.temp"));
    assert!(site.state.param(&key).is_none());
    let message = site.reject(unset("hall.temp"), RejectCode::NotFound);
    assert!(message.contains("parameter hall.temp does not exist"), "{message}");
}

#[test]
fn preconditions_of_a_parameter() {
    let mut site = Site::default();
    site.reject_if(Some(7), set("p", "1"), RejectCode::RevisionMismatch);
    let applied = site.run_if(Some(0), set("p", "1"));
    let revision = applied.answer.unwrap().revision.get();
    assert_eq!(applied.changes.len(), 1);
    site.reject_if(Some(0), set("p", "2"), RejectCode::RevisionMismatch);
    // A wrong precondition is refused even when nothing would change.
    site.reject_if(Some(0), set("p", "1"), RejectCode::RevisionMismatch);
    let message = site.reject_if(Some(revision + 1), set("p", "2"), RejectCode::RevisionMismatch);
    assert!(message.contains(&format!("is at revision {revision}")), "{message}");
    site.reject_if(Some(revision + 1), unset("p"), RejectCode::RevisionMismatch);
    site.run_if(Some(revision), unset("p"));
    assert_eq!(site.state.params_len(), 0);
    site.reject_if(Some(revision), unset("p"), RejectCode::NotFound);
}

#[test]
fn a_link_is_registered_changed_and_deleted() {
    let mut site = Site::default();
    let first = site.accept(register_link("l"));
    site.unchanged(register_link("l"));
    let spec =
        fleet_state::LinkSpec { placement: Placement::On("gw-2".parse().unwrap()), ..link_spec() };
    let second =
        site.accept(Command::LinkRegister { id: "l".parse().unwrap(), spec: spec.clone() });
    let link = site.state.link(&"l".parse().unwrap()).unwrap();
    assert_eq!((link.registered, link.revision), (Revision::new(first), Revision::new(second)));
    assert_eq!(link.spec, spec);
    site.reject_if(Some(0), register_link("l"), RejectCode::RevisionMismatch);
    site.reject_if(Some(first), delete_link("l"), RejectCode::RevisionMismatch);
    site.accept(delete_link("l"));
    site.reject(delete_link("l"), RejectCode::NotFound);
}

#[test]
fn a_link_that_is_used_stays() {
    let mut site = Site::default();
    site.accept(register_link("l"));
    site.accept(register_link("m"));
    let on = |device: &str, link: &str| Command::DeviceRegister {
        id: device.parse().unwrap(),
        spec: device_on(link),
    };
    site.accept(on("d", "l"));
    site.accept(on("e", "l"));
    assert_eq!(site.state.link_uses(&"l".parse().unwrap()), 2);
    let message = site.reject(delete_link("l"), RejectCode::InUse);
    assert!(message.contains("carries 2 devices"), "{message}");
    site.accept(on("d", "m"));
    site.accept(delete_device("e"));
    site.accept(delete_link("l"));
    site.reject(delete_link("m"), RejectCode::InUse);
    site.reject(on("f", "l"), RejectCode::LinkNotFound);
    site.reject(on("d", "l"), RejectCode::LinkNotFound);
    assert_eq!(site.state.link_uses(&"m".parse().unwrap()), 1);
}

#[test]
fn fields_beyond_their_limits_are_rejected_in_apply_too() {
    let mut site = Site::default();
    let mut link = |change: fn(&mut fleet_state::LinkSpec), code| {
        let mut spec = link_spec();
        change(&mut spec);
        // Straight into the state, past the decoder, which has limits of its own.
        let command = Command::LinkRegister { id: "l".parse().unwrap(), spec };
        let proposal = fleet_state::Proposal {
            request_id: format!("r-{}", site.next_revision()).parse().unwrap(),
            if_revision: None,
            actor: None,
            command,
        };
        let entry = fleet_state::Entry {
            log_time_ms: 0,
            wall_time_ms: 0,
            body: fleet_state::Body::Proposal(proposal),
        };
        let answer = site.state.apply(site.next_revision(), &entry).answer.unwrap();
        assert_eq!(crate::site::rejection(&answer), Some(code));
    };
    link(|spec| spec.connector = "MQTT".into(), RejectCode::Malformed);
    link(|spec| spec.connector = "".into(), RejectCode::Malformed);
    link(|spec| spec.address = "x".repeat(257).into(), RejectCode::TooLarge);
    link(|spec| spec.name = "a\u{1b}[2J".into(), RejectCode::Malformed);
    link(|spec| spec.name = "x".repeat(129).into(), RejectCode::TooLarge);
    link(|spec| spec.labels = [("".into(), "".into())].into(), RejectCode::Malformed);
    link(
        |spec| spec.labels = (0..17).map(|n| (format!("{n}").into(), "".into())).collect(),
        RejectCode::TooLarge,
    );
    assert_eq!(site.state.links_len(), 0);
}
