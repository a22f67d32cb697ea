//! What holds of any site and any links.

use proptest::prelude::*;

use super::*;

/// Links with names as people give them, each once.
fn links() -> impl Strategy<Value = BTreeSet<LinkId>> {
    prop::collection::btree_set("[a-z]{1,6}(\\.[a-z0-9-]{1,8}){0,2}", 1..40)
        .prop_map(|names| names.iter().filter_map(|name| name.parse().ok()).collect())
}

fn site(members: u64, links: &BTreeSet<LinkId>) -> Site {
    let mut site = Site::of(members);
    links.iter().for_each(|link| site.register(link, with_labels(&[])));
    site
}

fn owners(due: &[Assignment]) -> BTreeMap<LinkId, NodeId> {
    due.iter().map(|due| (due.link.clone(), due.owner)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever leads gives every link to the same node.
    #[test]
    fn all_nodes_choose_the_same(members in 1..8_u64, links in links()) {
        let mut site = site(members, &links);
        let first = site.due();
        prop_assert_eq!(first.len(), links.len());
        for leader in 2..=members {
            site.leader = id(leader);
            prop_assert_eq!(&site.due(), &first, "node {}", leader);
        }
    }

    /// When a node is lost its links move, and no others; when it is back, none do.
    #[test]
    fn losing_a_node_moves_its_links_and_no_others(
        members in 2..8_u64, lost in 2..8_u64, links in links(),
    ) {
        let lost = 2 + lost % (members - 1);
        let mut site = site(members, &links);
        let first = site.due();
        site.carry_out(&first);
        prop_assert_eq!(site.due(), vec![]);
        site.silence(lost, silent_ms() + 1);
        let moved = site.due();
        let its: BTreeSet<&LinkId> =
            first.iter().filter(|due| due.owner == id(lost)).map(|due| &due.link).collect();
        prop_assert_eq!(moved.iter().map(|due| &due.link).collect::<BTreeSet<_>>(), its);
        prop_assert!(moved.iter().all(|due| due.from == Some(id(lost)) && due.owner != id(lost)));
        site.carry_out(&moved);
        prop_assert_eq!(site.due(), vec![]);
        site.heard_ms.clear();
        site.away.clear();
        prop_assert_eq!(site.due(), vec![]);
    }

    /// Also where nothing is given yet, a node more or less changes nothing between the others.
    #[test]
    fn a_choice_between_two_nodes_depends_on_no_third(
        members in 2..8_u64, lost in 2..8_u64, links in links(),
    ) {
        let lost = 2 + lost % (members - 1);
        let mut site = site(members, &links);
        let with = owners(&site.due());
        site.silence(lost, 0);
        let without = owners(&site.due());
        prop_assert_eq!(without.len(), with.len());
        for (link, owner) in with.iter().filter(|(_, owner)| **owner != id(lost)) {
            prop_assert_eq!(without.get(link), Some(owner));
        }
    }
}

/// Links are spread over the nodes, also those whose names differ in a number alone.
#[test]
fn links_are_spread() {
    let links = (0..500).map(|number| link(&format!("hall.bus-{number}"))).collect();
    let mut counts: BTreeMap<NodeId, usize> = BTreeMap::new();
    for owner in owners(&site(5, &links).due()).into_values() {
        *counts.entry(owner).or_default() += 1;
    }
    assert_eq!(counts.len(), 5);
    assert!(counts.values().all(|count| (60..=140).contains(count)), "{counts:?}");
}
