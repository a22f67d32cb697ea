//! Counts: links, and the digests' independence of the way.

use fleet_state::RejectCode;
use fleet_state::limits::LINKS_MAX;

use crate::site::{Site, delete_link, register_link, set, unset};

#[test]
fn a_state_may_be_read_on_any_thread() {
    fn shared<T: Send + Sync + Clone>() {}
    shared::<fleet_state::FleetState>();
    shared::<fleet_state::Applied>();
}

#[test]
fn links_are_bounded() {
    let mut site = Site::default();
    for number in 0..LINKS_MAX {
        site.accept(register_link(&format!("l-{number}")));
    }
    let message = site.reject(register_link("more"), RejectCode::LimitReached);
    assert!(message.contains("4096 links"), "{message}");
    site.unchanged(register_link("l-7"));
    site.accept(delete_link("l-7"));
    site.accept(register_link("more"));
}

#[test]
fn a_section_digest_depends_on_what_is_there_and_not_on_the_way() {
    let mut site = Site::default();
    let empty = site.state.digests();
    site.accept(set("a", "1"));
    let one = site.state.digests();
    assert_ne!(empty.params, one.params);
    assert_eq!(empty.devices, one.devices);
    assert_ne!(empty.combined(), one.combined());
    site.accept(set("b", "1"));
    site.accept(unset("b"));
    assert_eq!(site.state.digests().params, one.params);
    assert_eq!(one.params.to_string().len(), 64);
    assert!(one.to_string().contains("combined="));
}
