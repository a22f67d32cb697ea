//! What a leader sees to beside replication: who votes, how much goes to the log at once, and a disk that fills up.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm
)]

mod site_support;

use fleet_consensus::CommandEnd;
use fleet_consensus::config::LEAVE_AGAIN_TICKS;
use fleet_state::command::{BatchItem, Command};
use fleet_state::{Outcome, Value};
use site_support::{Hall, node};

fn set(key: &str, text: &str) -> Command {
    Command::ParamSet { key: key.parse().unwrap(), value: Value::Text(text.into()) }
}

#[test]
fn a_queue_larger_than_a_batch_of_the_log_is_proposed_in_parts() {
    let mut hall = Hall::found(1);
    let text = "x".repeat(32_000);
    let large = |number: u64| {
        let item = |part| BatchItem {
            command: set(&format!("p.{number}.{part}"), &text),
            if_revision: None,
        };
        Command::Batch((0..8).map(item).collect())
    };
    let bytes: usize = 280 * 8 * text.len();
    assert!(bytes > fleet_log::BATCH_BYTES_MAX);
    let tokens: Vec<u64> = (0..280).map(|number| hall.submit(node(1), large(number))).collect();
    let ends: Vec<CommandEnd> = tokens.into_iter().map(|token| hall.end(token)).collect();
    // What Raft has no room for is refused and can be sent again; the node lives on.
    let accepted = |end: &&CommandEnd| matches!(end, CommandEnd::Decided(answer) if matches!(answer.outcome, Outcome::Accepted(_)));
    let refused = |end: &&CommandEnd| matches!(end, CommandEnd::Busy(_));
    let (accepted, refused) =
        (ends.iter().filter(accepted).count(), ends.iter().filter(refused).count());
    assert_eq!(accepted + refused, 280);
    assert!(accepted > 32, "{accepted}");
    hall.decide(large(0));
}

#[test]
fn turns_that_take_two_ticks_skip_no_upkeep() {
    let mut hall = Hall::found(3);
    // Whatever the count of ticks is now, one of two steps makes it odd.
    for ticks in [1, 2] {
        hall.ticks_per_turn = ticks;
        hall.turn();
        hall.ticks_per_turn = 2;
        hall.join(1 + ticks);
    }
    hall.wait("both vote", |hall| hall.voters().len() == 3);
}

#[test]
fn fewer_voters_are_made_by_demotion_and_more_by_promotion() {
    let mut hall = Hall::of(3);
    let leader = hall.leader().unwrap();
    hall.decide(Command::SetVoters { voters: 1 });
    hall.wait("one votes", |hall| hall.voters().len() == 1);
    assert_eq!(hall.voters(), [leader]);
    assert_eq!(hall.learners().len(), 2);
    hall.decide(set("p", "1"));
    hall.decide(Command::SetVoters { voters: 3 });
    hall.wait("three vote", |hall| hall.voters().len() == 3);
    // The one that was demoted last can lead again.
    let heir = hall.voters().into_iter().find(|id| *id != leader).unwrap();
    hall.replicas.get_mut(&leader).unwrap().handle_transfer(Some(heir)).unwrap();
    hall.wait("it leads", |hall| hall.leader() == Some(heir));
    hall.decide(set("p", "2"));
}

#[test]
fn a_leader_whose_disk_is_nearly_full_hands_over() {
    let mut hall = Hall::of(3);
    let low = hall.leader().unwrap();
    hall.replicas.get_mut(&low).unwrap().set_low_space(true);
    hall.wait("another leads", |hall| hall.leader().is_some_and(|leader| leader != low));
    hall.decide(set("p", "1"));
}

#[test]
fn where_all_disks_are_nearly_full_leadership_comes_to_rest_and_the_refusal_says_why() {
    let mut hall = Hall::of(3);
    for replica in hall.replicas.values_mut() {
        replica.set_low_space(true);
    }
    // Each hands over once, and then keeps what comes back to it for a while.
    for _ in 0..200 {
        hall.turn();
    }
    let (leader, term) = (hall.leader().unwrap(), hall.replicas[&node(1)].view().standing.term);
    for _ in 0..150 {
        hall.turn();
        assert_eq!(hall.leader(), Some(leader));
    }
    assert_eq!(hall.replicas[&node(1)].view().standing.term, term);
    for id in 1..=3 {
        let token = hall.submit(node(id), set("p", "1"));
        match hall.end(token) {
            CommandEnd::Busy(why) => assert!(why.contains("disk of the leader"), "{id}: {why}"),
            other => panic!("{id}: {other:?}"),
        }
    }
    for replica in hall.replicas.values_mut() {
        replica.set_low_space(false);
    }
    hall.decide(set("p", "1"));
    // The next time it hands over again.
    hall.replicas.get_mut(&leader).unwrap().set_low_space(true);
    hall.wait("another leads", |hall| hall.leader().is_some_and(|now| now != leader));
}

#[test]
fn a_leader_without_space_that_others_could_relieve_does_not_stay_for_good() {
    let mut hall = Hall::of(3);
    let low = hall.leader().unwrap();
    hall.replicas.get_mut(&low).unwrap().set_low_space(true);
    hall.wait("another leads", |hall| hall.leader().is_some_and(|now| now != low));
    // It is made the leader again, though there is room elsewhere.
    let now = hall.leader().unwrap();
    hall.replicas.get_mut(&now).unwrap().handle_transfer(Some(low)).unwrap();
    hall.wait("it leads again", |hall| hall.leader() == Some(low));
    for _ in 0..LEAVE_AGAIN_TICKS {
        hall.turn();
    }
    hall.wait("another leads again", |hall| hall.leader().is_some_and(|now| now != low));
    hall.decide(set("p", "1"));
}
