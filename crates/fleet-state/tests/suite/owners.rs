//! Who owns a link, and that nothing of a former owner has an effect.

use fleet_state::{Command, LinkSpec, Placement, RejectCode, Stage};

use crate::hall::{
    LINK, assign, claim, end, errand, hall, invoke, link, marked, node, release, set_for, shot,
    told, wish,
};
use crate::site::{Site, delete_link, link_spec, register_link, update};

#[test]
fn every_change_of_owner_begins_an_epoch() {
    let mut site = hall();
    let first = link(&site);
    assert_eq!((first.owner, first.epoch), (Some(node(1)), first.registered.get() + 1));
    site.accept(assign(first.epoch, Some(2)));
    assert_eq!((link(&site).owner, link(&site).epoch), (Some(node(2)), first.epoch + 1));
    site.accept(release(first.epoch + 1));
    assert_eq!((link(&site).owner, link(&site).epoch), (None, first.epoch + 2));
    site.reject(assign(first.epoch, Some(1)), RejectCode::StaleEpoch);
    site.reject(assign(first.epoch + 2, Some(9)), RejectCode::NotFound);
    site.accept(assign(first.epoch + 2, Some(1)));
    // The same owner anew: it was restarted.
    site.accept(assign(first.epoch + 3, Some(1)));
    site.accept(assign(first.epoch + 4, None));
    assert_eq!((link(&site).owner, link(&site).epoch), (None, first.epoch + 5));
}

#[test]
fn nothing_of_a_former_owner_counts() {
    let mut site = hall();
    let epoch = link(&site).epoch;
    let revision = site.accept(update("hall.lamp", r#"{"on":true}"#));
    site.accept(told(epoch, marked(revision, 0, 0)));
    site.propose_as("shot", invoke("open", None));
    assert_eq!(site.claimed(vec![shot("shot")]), [fleet_state::Claimed::Granted]);
    site.accept(assign(epoch, Some(2)));
    for stale in [
        told(epoch, marked(revision, revision, revision)),
        claim(epoch, vec![wish(revision)]),
        end(epoch, "shot", Stage::Verified),
        release(epoch),
    ] {
        site.reject(stale, RejectCode::StaleEpoch);
    }
    // An epoch that nobody owns is nobody's.
    site.accept(release(epoch + 1));
    site.reject(claim(epoch + 2, vec![wish(revision)]), RejectCode::StaleEpoch);
}

#[test]
fn a_link_of_the_same_name_is_another_one() {
    let mut site = Site::default();
    site.accept(register_link("a"));
    let of = |site: &Site| site.state.link(&"a".parse().unwrap()).unwrap().epoch;
    let first = of(&site);
    site.accept(delete_link("a"));
    site.accept(register_link("a"));
    assert!(of(&site) > first);
    // Registering it again leaves its owner alone.
    let epoch = of(&site);
    site.accept(Command::LinkRegister {
        id: "a".parse().unwrap(),
        spec: LinkSpec { name: "A".into(), ..link_spec() },
    });
    assert_eq!(of(&site), epoch);
}

#[test]
fn a_move_asks_the_owner_to_let_go() {
    let mut site = hall();
    let epoch = link(&site).epoch;
    let id = || LINK.parse().unwrap();
    let to = |name: &str| Command::LinkMove { id: id(), to: Some(name.parse().unwrap()) };
    site.reject(to("gw-9"), RejectCode::NotFound);
    site.unchanged(to("gw-1"));
    site.accept(to("gw-2"));
    assert_eq!((link(&site).releasing, link(&site).wanted), (true, Some(node(2))));
    assert_eq!((link(&site).owner, link(&site).epoch), (Some(node(1)), epoch));
    // Taken back.
    site.accept(to("gw-1"));
    assert!(!link(&site).releasing);
    site.accept(to("gw-2"));
    site.accept(release(epoch));
    assert_eq!((link(&site).owner, link(&site).wanted), (None, Some(node(2))));
    site.accept(assign(epoch + 1, Some(2)));
    assert_eq!((link(&site).wanted, link(&site).releasing), (None, false));
    site.accept(Command::LinkMove { id: id(), to: None });
    assert_eq!((link(&site).wanted, link(&site).releasing), (None, true));
}

#[test]
fn a_wired_link_stays_where_it_is() {
    let mut site = hall();
    let epoch = link(&site).epoch;
    let spec = LinkSpec { placement: Placement::On("gw-1".parse().unwrap()), ..link_spec() };
    site.accept(Command::LinkRegister { id: LINK.parse().unwrap(), spec });
    let to = Command::LinkMove { id: LINK.parse().unwrap(), to: Some("gw-2".parse().unwrap()) };
    site.reject(to, RejectCode::Denied);
    site.reject(assign(epoch, Some(2)), RejectCode::Denied);
    site.accept(Command::NodeDrain { node: node(1), drain: true });
    assert!(!link(&site).releasing);
    site.accept(assign(epoch, Some(1)));
}

#[test]
fn a_drained_node_lets_go_of_its_links() {
    let mut site = hall();
    let drain = |number, drain| Command::NodeDrain { node: node(number), drain };
    site.reject(drain(7, true), RejectCode::NotFound);
    site.accept(drain(1, true));
    site.unchanged(drain(1, true));
    assert!(link(&site).releasing && site.state.member(&node(1)).unwrap().draining);
    site.accept(drain(1, false));
    assert!(!link(&site).releasing);
    // A link is not moved to a node that is drained.
    site.accept(drain(2, true));
    let to = Command::LinkMove { id: LINK.parse().unwrap(), to: Some("gw-2".parse().unwrap()) };
    site.reject(to, RejectCode::Denied);
}

#[test]
fn an_owner_that_may_write_without_a_lease_is_remembered() {
    let mut site = hall();
    let placed = |placement| {
        let spec = LinkSpec { placement, ..link_spec() };
        Command::LinkRegister { id: LINK.parse().unwrap(), spec }
    };
    let wired = |name: &str| placed(Placement::On(name.parse().unwrap()));
    assert!(!link(&site).unleased);
    // Wired to another node: its owner never was free of leases.
    site.accept(wired("gw-2"));
    assert!(!link(&site).unleased && link(&site).releasing);
    let epoch = link(&site).epoch;
    site.accept(assign(epoch, Some(2)));
    assert!(link(&site).unleased && !link(&site).releasing);
    // Wired no more: the owner may not have heard of it, and has to let go to come under a lease.
    site.accept(placed(Placement::Any { labels: Default::default() }));
    assert!(link(&site).unleased && link(&site).releasing);
    site.accept(release(epoch + 1));
    assert!(!link(&site).unleased);
    site.accept(assign(epoch + 2, Some(1)));
    assert!(!link(&site).unleased && !link(&site).releasing);
    // Wired where it is.
    site.accept(wired("gw-1"));
    assert!(link(&site).unleased && !link(&site).releasing);
}

fn label(number: u64, labels: &[(&str, Option<&str>)]) -> Command {
    let patch = labels.iter().map(|(key, value)| ((*key).into(), value.map(Into::into)));
    Command::MemberLabel { node: node(number), labels: patch.collect() }
}

#[test]
fn labels_of_members_are_set_and_taken_away_one_by_one() {
    let mut site = hall();
    site.reject(label(7, &[("hall", Some("2"))]), RejectCode::NotFound);
    site.reject(label(1, &[]), RejectCode::Malformed);
    site.reject(label(1, &[("node", Some("gw-9"))]), RejectCode::Malformed);
    site.accept(label(1, &[("hall", Some("2")), ("radio", Some("zigbee"))]));
    site.unchanged(label(1, &[("hall", Some("2"))]));
    site.accept(label(1, &[("hall", None)]));
    let labels = &site.state.member(&node(1)).unwrap().labels;
    assert_eq!(labels.iter().map(|(k, v)| (&**k, &**v)).collect::<Vec<_>>(), [("radio", "zigbee")]);
    let many: Vec<String> = (0..16).map(|number| format!("key-{number}")).collect();
    let many: Vec<(&str, Option<&str>)> = many.iter().map(|key| (&**key, Some("x"))).collect();
    site.reject(label(1, &many), RejectCode::LimitReached);
}

#[test]
fn a_link_leaves_an_owner_that_its_placement_fits_no_more() {
    let mut site = hall();
    let placed = |placement| {
        let spec = LinkSpec { placement, ..link_spec() };
        Command::LinkRegister { id: LINK.parse().unwrap(), spec }
    };
    let hall_2 = || Placement::Any { labels: [("hall".into(), "2".into())].into() };
    // Node 1 owns it, and is not in hall 2.
    site.accept(placed(hall_2()));
    assert!(link(&site).releasing);
    let to = |name: &str| {
        let to = Some(name.parse().unwrap());
        Command::LinkMove { id: LINK.parse().unwrap(), to }
    };
    site.reject(to("gw-1"), RejectCode::Denied);
    site.accept(label(1, &[("hall", Some("2"))]));
    site.accept(to("gw-1"));
    assert!(!link(&site).releasing, "it fits now, and somebody wants it there");
    site.accept(label(1, &[("hall", Some("3"))]));
    assert!(link(&site).releasing);
    site.accept(Command::NodeDrain { node: node(1), drain: true });
    site.accept(Command::NodeDrain { node: node(1), drain: false });
    assert!(link(&site).releasing, "the end of a drain makes no place of it");
    let epoch = link(&site).epoch;
    site.accept(release(epoch));
    site.reject(assign(epoch + 1, Some(1)), RejectCode::Denied);
    site.accept(label(2, &[("hall", Some("2"))]));
    site.accept(assign(epoch + 1, Some(2)));
    // Its name is a label that everybody has.
    site.accept(placed(Placement::Any { labels: [("node".into(), "gw-1".into())].into() }));
    assert!(link(&site).releasing);
}

#[test]
fn what_was_under_way_when_the_owner_went_is_unknown() {
    let mut site = hall();
    for id in ["open", "beep", "waits"] {
        site.propose_as(id, invoke(if id == "beep" { "beep" } else { "open" }, None));
    }
    site.claimed(vec![shot("open"), shot("beep")]);
    let epoch = link(&site).epoch;
    site.accept(assign(epoch, Some(2)));
    assert_eq!(errand(&site, "open").stage, Stage::Unknown);
    assert!(errand(&site, "open").detail.contains("changed hands"));
    assert_eq!(errand(&site, "waits").stage, Stage::Committed);
    // It may be done again, so it is.
    assert_eq!(
        (errand(&site, "beep").stage, errand(&site, "beep").dispatch),
        (Stage::Committed, None)
    );
    use fleet_state::Claimed::{Granted, Taken};
    let claims = site.claimed(vec![shot("open"), shot("beep"), shot("waits")]);
    assert_eq!(claims, [Taken, Granted, Granted]);
}

#[test]
fn a_pause_blocks_what_is_claimed() {
    let mut site = hall();
    let revision = site.accept(set_for(r#"{"on":true}"#, 1_000));
    site.accept(Command::LinkPause { id: LINK.parse().unwrap(), paused: true });
    site.unchanged(Command::LinkPause { id: LINK.parse().unwrap(), paused: true });
    assert_eq!(site.claimed(vec![wish(revision)]), [fleet_state::Claimed::Blocked]);
    let message = site.reject(invoke("open", None), RejectCode::Blocked);
    assert!(message.contains("link hall.bus of device hall.lamp is paused"), "{message}");
    site.accept(Command::LinkPause { id: LINK.parse().unwrap(), paused: false });
    assert_eq!(site.claimed(vec![wish(revision)]), [fleet_state::Claimed::Granted]);
}
