//! When a link is given, and to whom: one rule each.

use super::*;

/// A site of five with one link that any node may own.
fn hall() -> (Site, LinkId) {
    let (mut site, bus) = (Site::of(5), link("hall.bus"));
    site.register(&bus, with_labels(&[]));
    (site, bus)
}

#[test]
fn who_does_not_lead_proposes_nothing() {
    let (mut site, bus) = hall();
    let roles = [
        NodeRole::Follower,
        NodeRole::Candidate,
        NodeRole::PreCandidate,
        NodeRole::Learner,
        NodeRole::Leader,
    ];
    for owner in [None, Some(2)] {
        if owner.is_some() {
            site.assign(&bus, owner);
            site.silence(2, silent_ms() + 1);
        }
        for role in roles {
            let due = due(&site.view_as(role), &Resting::default(), NOW_MS);
            assert_eq!(due.len(), usize::from(role == NodeRole::Leader), "{role} {owner:?}");
        }
    }
}

#[test]
fn the_choice_is_what_it_always_was() {
    // Where it changed from one version to the next, an upgrade would move links.
    let mut site = Site::of(5);
    for (name, owner) in [("hall.bus", 1), ("broker", 1), ("press.plc-7", 2)] {
        site.register(&link(name), with_labels(&[]));
        assert_eq!(site.chosen(&link(name)), Some(owner), "{name}");
    }
}

#[test]
fn an_owner_keeps_its_link_until_its_lease_is_over_for_certain() {
    let (mut site, bus) = hall();
    site.assign(&bus, Some(2));
    let table = [(0, false), (silent_ms(), false), (silent_ms() + 1, true), (60_000, true)];
    for (silence_ms, taken) in table {
        site.silence(2, silence_ms);
        let due = site.due();
        assert_eq!(!due.is_empty(), taken, "silent for {silence_ms} ms");
        if let [due] = due.as_slice() {
            assert_eq!(due.from, Some(id(2)));
            assert_ne!(due.owner, id(2));
            assert_eq!(due.expect_epoch, site.state.link(&bus).unwrap().epoch);
        }
    }
}

#[test]
fn an_owner_that_a_new_leader_never_heard_has_its_time_from_the_election_on() {
    let (mut site, bus) = hall();
    site.assign(&bus, Some(2));
    site.silence(2, NOW_MS);
    let view = site.view_as(NodeRole::Leader);
    let look = |after_ms: u64| due(&view, &Resting::default(), ELECTED_MS + after_ms).len();
    assert_eq!((look(silent_ms()), look(silent_ms() + 1)), (0, 1));
}

#[test]
fn an_owner_that_is_there_and_asks_for_no_barrier_loses_its_link_all_the_same() {
    // Node 2 is the first choice for this one, and would be again.
    let (mut site, bus) = (Site::of(5), link("press.plc-7"));
    site.register(&bus, with_labels(&[]));
    assert_eq!(site.chosen(&bus), Some(2));
    site.assign(&bus, Some(2));
    site.heard_ms.insert(id(2), NOW_MS - silent_ms() - 1);
    let due = site.due();
    assert!(matches!(due.as_slice(), [due] if due.owner != id(2)), "{due:?}");
}

#[test]
fn the_leader_takes_nothing_from_itself() {
    let (mut site, bus) = hall();
    site.assign(&bus, Some(1));
    site.heard_ms.insert(id(1), 0);
    assert_eq!(site.due(), []);
}

#[test]
fn a_wired_link_stays_with_a_silent_member_and_goes_from_one_that_was_removed() {
    let (mut site, bus) = (Site::of(3), link("press.bus"));
    site.register(&bus, Placement::On(name(2)));
    assert_eq!(site.chosen(&bus), Some(2));
    site.assign(&bus, Some(2));
    site.silence(2, 600_000);
    assert_eq!(site.due(), []);
    // Wired no more: its owner need not have heard of it, and writes without a lease still.
    site.register(&bus, with_labels(&[]));
    assert_eq!(site.due(), []);
    site.becomes(2, Role::Removed);
    assert!(matches!(site.chosen(&bus), Some(1 | 3)));
}

#[test]
fn a_wired_link_waits_for_its_node() {
    let (mut site, bus) = (Site::of(3), link("press.bus"));
    site.register(&bus, Placement::On(name(2)));
    site.silence(2, 0);
    site.register(&link("nowhere"), Placement::On("gw9".parse().unwrap()));
    assert_eq!(site.due(), []);
}

#[test]
fn labels_decide_who_fits() {
    let mut site = Site::of(4);
    for (node, floor) in [(2, "1"), (3, "2"), (4, "2")] {
        let labels = BTreeMap::from([(Arc::from("floor"), Some(Arc::from(floor)))]);
        site.run(Command::MemberLabel { node: id(node), labels });
    }
    let table: [(Placement, &[u64]); 5] = [
        (with_labels(&[("floor", "1")]), &[2]),
        (with_labels(&[("floor", "2")]), &[3, 4]),
        (with_labels(&[("floor", "2"), ("node", "gw4")]), &[4]),
        (with_labels(&[("floor", "3")]), &[]),
        (with_labels(&[]), &[1, 2, 3, 4]),
    ];
    for (row, (placement, fit)) in table.into_iter().enumerate() {
        // Which of them is chosen differs by link; in sum all of them are.
        let links: Vec<LinkId> = (0..40).map(|n| link(&format!("row-{row}.{n}"))).collect();
        links.iter().for_each(|link| site.register(link, placement.clone()));
        let chosen: BTreeSet<u64> = links.iter().filter_map(|link| site.chosen(link)).collect();
        assert_eq!(chosen, fit.iter().copied().collect(), "{placement:?}");
    }
}

#[test]
fn who_is_drained_leaves_or_is_not_there_gets_no_link_that_another_could_own() {
    type Change = fn(&mut Site);
    let changes: [(&str, Change); 4] = [
        ("drained", |site| site.run(Command::NodeDrain { node: id(2), drain: true })),
        ("leaving", |site| site.run(Command::MemberRemove { node: id(2) })),
        ("removed", |site| site.becomes(2, Role::Removed)),
        ("away", |site| site.silence(2, 0)),
    ];
    for (what, change) in changes {
        let mut site = Site::of(2);
        let (bus, wired) = (link("hall.bus"), link("press.bus"));
        site.register(&bus, with_labels(&[("node", "gw2")]));
        site.register(&wired, Placement::On(name(2)));
        assert_eq!((site.chosen(&bus), site.chosen(&wired)), (Some(2), Some(2)));
        change(&mut site);
        // Nobody but the drained node could speak to what is wired to it.
        let wired_to = (what == "drained").then_some(2);
        assert_eq!((site.chosen(&bus), site.chosen(&wired)), (None, wired_to), "{what}");
    }
}

#[test]
fn a_link_goes_where_it_is_wanted_if_that_fits() {
    let (mut site, bus) = hall();
    for node in 1..=5 {
        let to = Some(name(node));
        site.run(Command::LinkMove { id: bus.clone(), to });
        assert_eq!(site.chosen(&bus), Some(node));
    }
    // The last one that it was wanted on isn't there: another one gets it meanwhile.
    site.silence(5, 0);
    assert!(site.chosen(&bus).is_some_and(|node| node != 5));
}

#[test]
fn a_link_that_was_let_go_rests_from_its_owner_if_another_one_fits() {
    let (mut site, bus) = hall();
    let first = site.chosen(&bus).unwrap();
    site.assign(&bus, Some(first));
    let mut resting = Resting::default();
    resting.note(&site.view_as(NodeRole::Leader), NOW_MS);
    site.assign(&bus, None);
    let chosen = |site: &Site, resting: &Resting, after_ms: u64| {
        let due = due(&site.view_as(NodeRole::Leader), resting, NOW_MS + after_ms);
        due.first().map(|due| due.owner.get())
    };
    let second = chosen(&site, &resting, REST_MS - 1).unwrap();
    assert_ne!(second, first);
    assert_eq!(chosen(&site, &resting, REST_MS), Some(first));

    // Somebody wants it there, or nobody else is there: then it doesn't rest.
    let mut wanted = site.clone();
    wanted.run(Command::LinkMove { id: bus.clone(), to: Some(name(first)) });
    assert_eq!(chosen(&wanted, &resting, 0), Some(first));
    let mut alone = site.clone();
    alone.leader = id(first);
    (1..=5).filter(|node| *node != first).for_each(|node| alone.silence(node, 0));
    assert_eq!(chosen(&alone, &resting, 0), Some(first));

    // What is no link any more is forgotten.
    site.run(Command::LinkDelete { id: bus.clone() });
    resting.note(&site.view_as(NodeRole::Leader), NOW_MS);
    site.register(&bus, with_labels(&[]));
    assert_eq!(chosen(&site, &resting, 0), Some(first));
}
