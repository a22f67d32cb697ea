use super::*;

const ME_LEADS: bool = true;
const LATE_MS: u64 = 10_000;

fn node(id: u64) -> NodeId {
    NodeId::new(id).expect("not zero")
}

fn reads() -> Reads<&'static str> {
    Reads::new(1 << 40)
}

#[test]
fn a_leaders_read_waits_for_its_round_and_then_for_the_index() {
    let mut reads = reads();
    reads.add("a", LATE_MS).expect("room");
    reads.add("b", LATE_MS).expect("room");
    let round = reads.begin_round(0).expect("something to ask");
    assert_eq!(reads.begin_round(0), None, "nothing is left to ask");
    assert!(reads.take_ready(u64::MAX - 1).is_empty(), "it is not confirmed");
    assert!(reads.round_confirmed(round, 7).is_empty());
    assert!(reads.take_ready(6).is_empty(), "its index is not applied");
    assert_eq!(reads.take_ready(7), ["a", "b"]);
    assert_eq!(reads.len, 0);
}

#[test]
fn a_read_that_came_after_a_round_began_is_not_served_by_it() {
    let mut reads = reads();
    reads.add("early", LATE_MS).expect("room");
    let first = reads.begin_round(0).expect("asked");
    reads.add("late", LATE_MS).expect("room");
    reads.round_confirmed(first, 7);
    assert_eq!(reads.take_ready(100), ["early"]);
    let second = reads.begin_round(0).expect("asked");
    assert_ne!(first, second);
    reads.round_confirmed(second, 9);
    assert_eq!(reads.take_ready(100), ["late"]);
}

#[test]
fn a_confirmation_counts_once_and_only_for_its_round() {
    let mut reads = reads();
    reads.add("a", LATE_MS).expect("room");
    let round = reads.begin_round(0).expect("asked");
    reads.round_confirmed(round + 1, 7);
    assert!(reads.take_ready(100).is_empty());
    reads.round_confirmed(round, 7);
    reads.round_confirmed(round, 8);
    assert_eq!(reads.take_ready(100), ["a"]);
}

#[test]
fn a_round_without_an_answer_is_asked_again_under_another_number() {
    let mut reads = reads();
    reads.add("a", LATE_MS).expect("room");
    let lost = reads.begin_round(0).expect("asked");
    reads.retry(ME_LEADS, Some(node(1)), READ_RETRY_MS - 1);
    assert_eq!(reads.begin_round(READ_RETRY_MS - 1), None);
    reads.retry(ME_LEADS, Some(node(1)), READ_RETRY_MS);
    let again = reads.begin_round(READ_RETRY_MS).expect("asked again");
    reads.round_confirmed(lost, 7);
    assert!(reads.take_ready(100).is_empty(), "a late confirmation fits nothing");
    reads.round_confirmed(again, 7);
    assert_eq!(reads.take_ready(100), ["a"]);
}

#[test]
fn rounds_are_bounded_and_later_reads_join_the_next() {
    let mut reads = reads();
    let mut rounds = Vec::new();
    for _ in 0..READ_ROUNDS_MAX {
        reads.add("a", LATE_MS).expect("room");
        rounds.push(reads.begin_round(0).expect("asked"));
    }
    reads.add("b", LATE_MS).expect("room");
    assert_eq!(reads.begin_round(0), None);
    reads.round_confirmed(rounds.remove(0), 1);
    assert!(reads.begin_round(0).is_some());
}

#[test]
fn a_deposed_leader_hands_its_reads_on_and_forgets_those_of_others() {
    let mut reads = reads();
    reads.add("own", LATE_MS).expect("room");
    reads.add_remote(node(3), vec![8]);
    let round = reads.begin_round(0).expect("asked");
    reads.retry(!ME_LEADS, Some(node(2)), 1);
    let asked = reads.take_to_ask(node(2), 1);
    assert_eq!(asked.len(), 1);
    assert!(reads.round_confirmed(round, 7).is_empty(), "nobody is granted anything by it");
    reads.granted(node(2), &asked, 9);
    assert_eq!(reads.take_ready(9), ["own"]);
    assert_eq!(reads.begin_round(2), None, "node 3 asks the new leader itself");
}

#[test]
fn a_followers_read_is_granted_by_the_leader_it_asked_and_nobody_else() {
    let mut reads = reads();
    reads.add("a", LATE_MS).expect("room");
    let asked = reads.take_to_ask(node(2), 0);
    assert!(reads.take_to_ask(node(2), 0).is_empty());
    reads.granted(node(3), &asked, 5);
    reads.granted(node(2), &[asked[0] + 1], 5);
    assert!(reads.take_ready(100).is_empty());
    reads.granted(node(2), &asked, 7);
    assert!(reads.take_ready(6).is_empty());
    assert_eq!(reads.take_ready(7), ["a"]);
    reads.granted(node(2), &asked, 8);
    assert!(reads.take_ready(100).is_empty());
}

#[test]
fn a_followers_question_goes_to_the_next_leader_under_another_number() {
    let mut reads = reads();
    reads.add("a", LATE_MS).expect("room");
    let first = reads.take_to_ask(node(2), 0);
    reads.retry(!ME_LEADS, Some(node(2)), 1);
    assert!(reads.take_to_ask(node(2), 1).is_empty(), "it is still waited for");
    reads.retry(!ME_LEADS, Some(node(3)), 2);
    let second = reads.take_to_ask(node(3), 2);
    assert_ne!(first, second);
    reads.granted(node(2), &first, 7);
    assert!(reads.take_ready(100).is_empty(), "the former leader may be behind");
    reads.granted(node(3), &second, 7);
    assert_eq!(reads.take_ready(100), ["a"]);
}

#[test]
fn a_leader_grants_what_others_asked_for_with_the_rounds_index() {
    let mut reads = reads();
    reads.add_remote(node(2), vec![4, 5]);
    reads.add_remote(node(3), vec![6]);
    let round = reads.begin_round(0).expect("asked");
    let grants = reads.round_confirmed(round, 7);
    let expected = [
        Grant { to: node(2), ids: vec![4, 5], index: 7 },
        Grant { to: node(3), ids: vec![6], index: 7 },
    ];
    assert_eq!(grants, expected);
}

#[test]
fn numbers_of_an_earlier_start_fit_nothing() {
    let mut before = Reads::new(1 << 40);
    before.add("a", LATE_MS).expect("room");
    let asked = before.take_to_ask(node(2), 0);
    let mut after = Reads::new(2 << 40);
    after.add("b", LATE_MS).expect("room");
    after.take_to_ask(node(2), 0);
    after.granted(node(2), &asked, 7);
    assert!(after.take_ready(100).is_empty());
}

#[test]
fn every_read_ends_at_its_deadline_wherever_it_waits() {
    let mut reads = reads();
    reads.add("confirmed", 100).expect("room");
    let round = reads.begin_round(0).expect("asked");
    reads.round_confirmed(round, 50);
    reads.add("in a round", 100).expect("room");
    reads.begin_round(0).expect("asked");
    reads.add("asked", 100).expect("room");
    reads.take_to_ask(node(2), 0);
    reads.add("fresh", 100).expect("room");
    reads.add("patient", 101).expect("room");
    assert!(reads.expire(true, 99).is_empty());
    let mut ended = reads.expire(true, 100);
    ended.sort_unstable_by_key(|(token, _)| *token);
    let expected = ["asked", "confirmed", "fresh", "in a round"];
    assert_eq!(ended, expected.map(|token| (token, ReadEnd::Deadline)));
    assert_eq!(reads.end_all(), [("patient", ReadEnd::Deadline)]);
    assert_eq!(reads.len, 0);
}

#[test]
fn without_a_leader_the_end_says_so() {
    let mut reads = reads();
    reads.add("a", 100).expect("room");
    assert_eq!(reads.expire(false, 100), [("a", ReadEnd::NoLeader)]);
}

#[test]
fn beyond_the_bound_a_read_is_refused_and_ended_ones_make_room() {
    let mut reads = reads();
    for _ in 0..READS_MAX {
        reads.add("a", 100).expect("room");
    }
    assert_eq!(reads.add("b", 100), Err(("b", ReadEnd::Busy)));
    assert_eq!(reads.expire(true, 100).len(), READS_MAX);
    reads.add("b", 200).expect("room again");
}
