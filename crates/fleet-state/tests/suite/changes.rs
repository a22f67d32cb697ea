//! What changed since a revision.

use fleet_state::limits::TOMBSTONES_MAX;
use fleet_state::{Body, Compacted, Entry, Proposal, Revision};

use crate::site::{Site, delete_device, register, restored, set, snapshot_of, unset, update};

fn since(site: &Site, revision: u64) -> Vec<(u64, String, bool)> {
    let changes = site.state.changes_since(Revision::new(revision)).unwrap();
    let shown = changes.map(|(revision, change)| {
        assert!(change.previous.is_none());
        (revision.get(), change.entity.id_text(), change.record.is_some())
    });
    shown.collect()
}

#[test]
fn the_newest_of_everything_and_the_deletions() {
    let mut site = Site::default();
    let a = site.accept(set("a", "1"));
    let b = site.accept(set("b", "1"));
    let d = site.accept(register("d"));
    let a2 = site.accept(set("a", "2"));
    let gone = site.accept(unset("b"));
    let row = |revision, id: &str, lives| (revision, id.to_owned(), lives);
    let all = [row(1, "1", true), row(d, "d", true), row(a2, "a", true), row(gone, "b", false)];
    assert_eq!(since(&site, 0), all);
    assert_eq!(since(&site, a), all[1..]);
    assert_eq!(since(&site, b), all[1..]);
    assert_eq!(since(&site, d), all[2..]);
    assert_eq!(since(&site, gone), []);
    assert_eq!(since(&site, u64::MAX), []);
    let back = site.accept(set("b", "3"));
    assert_eq!(since(&site, d), [row(a2, "a", true), row(back, "b", true)]);
    site.accept(update("d", r#"{"on":true}"#));
    site.accept(delete_device("d"));
    assert_eq!(since(&site, back).len(), 1);
    let copy = Site { state: restored(&snapshot_of(&site.state)), ..Site::default() };
    assert_eq!(since(&copy, 0), since(&site, 0));
}

#[test]
fn below_the_floor_it_is_compacted() {
    let mut site = Site::default();
    let mut apply = |number: usize, deleting: bool| {
        let key = format!("p-{number}");
        let command = if deleting { unset(&key) } else { set(&key, "1") };
        let request_id = format!("{number}-{deleting}").parse().unwrap();
        let proposal = Proposal { request_id, if_revision: None, actor: None, command };
        let entry = Entry { log_time_ms: 0, wall_time_ms: 0, body: Body::Proposal(proposal) };
        let revision = site.next_revision();
        site.state.apply(revision, &entry);
        revision
    };
    let mut first_deleted = Revision::NONE;
    for number in 0..=TOMBSTONES_MAX {
        apply(number, false);
        let deleted = apply(number, true);
        if number == 0 {
            first_deleted = deleted;
        }
    }
    let floor = site.state.changes_floor();
    assert_eq!(floor, first_deleted);
    let below = Revision::new(floor.get() - 1);
    assert_eq!(site.state.changes_since(below).err(), Some(Compacted { floor }));
    assert_eq!(site.state.changes_since(floor).unwrap().count(), TOMBSTONES_MAX);
    assert_eq!(site.state.changes_since(Revision::NONE).unwrap().count(), TOMBSTONES_MAX + 1);
    let copy = restored(&snapshot_of(&site.state));
    assert_eq!(copy.digests(), site.state.digests());
    assert_eq!(copy.changes_floor(), floor);
}

#[test]
fn a_clone_is_a_point_in_time() {
    let mut site = Site::default();
    site.accept(set("a", "1"));
    let view = site.state.clone();
    let digests = view.digests();
    let bytes = snapshot_of(&view);
    for number in 0..200 {
        site.accept(set(&format!("k-{number}"), "1"));
    }
    site.accept(unset("a"));
    assert_eq!((view.digests(), view.params_len()), (digests, 1));
    assert_eq!(snapshot_of(&view), bytes);
    assert_ne!(site.state.digests().params, digests.params);
}
