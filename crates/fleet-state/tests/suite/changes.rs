//! What changed since a revision.

use fleet_state::limits::TOMBSTONES_MAX;
use fleet_state::{BatchItem, Command, Compacted, Revision};

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
    let first = (site.accept(set("first", "1")), site.accept(unset("first")));
    for number in 0..TOMBSTONES_MAX / 128 {
        let keys = || (0..128).map(move |item| format!("p-{number}-{item}"));
        let commands = keys().map(|key| set(&key, "1")).chain(keys().map(|key| unset(&key)));
        let item = |command| BatchItem { command, if_revision: None };
        site.accept(Command::Batch(commands.map(item).collect()));
    }
    let first_deleted = Revision::new(first.1);
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
