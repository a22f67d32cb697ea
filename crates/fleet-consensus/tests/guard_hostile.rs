//! Each message that harms a bare replica, sent to one behind the guard.
//!
//! Every test first shows the harm on the library alone, so that a check which is no longer needed is noticed.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm
)]

mod guard_support;

use fleet_consensus::{
    frame::{MessageKind, RaftMessage, limits},
    guard::{LostLog, Objection, Refusal, TERM_JUMP_MAX, TIMEOUT_NOW_GAP_MS},
};
use guard_support::{
    Replica, acknowledge, append, follower, granted, guarded, heartbeat, leader, leads_on,
    lives_on, message, normal, offer, refused, reject,
};
use raft::{
    StateRole,
    eraftpb::{Message, MessageType},
};

#[test]
fn a_proposal_without_entries_can_not_be_received() {
    let mut empty = Message { from: 2, to: 1, ..Default::default() };
    empty.set_msg_type(MessageType::MsgPropose);
    assert!(!leader().survives_bare(empty.clone()), "the library panics");
    assert!(RaftMessage::from_raft(empty).is_err());
    leads_on(leader());
}

#[test]
fn a_strangers_change_of_the_configuration_can_not_be_received() {
    let change = raft::eraftpb::ConfChange { node_id: 9, ..Default::default() };
    let mut entry = raft::eraftpb::Entry { data: vec![0x18, 9].into(), ..Default::default() };
    entry.set_entry_type(raft::eraftpb::EntryType::EntryConfChange);
    let mut proposal = Message { from: 9, to: 1, ..Default::default() };
    proposal.set_msg_type(MessageType::MsgPropose);
    proposal.set_entries(vec![entry].into());
    let mut bare = leader();
    bare.raw.step(proposal.clone()).unwrap();
    assert_eq!(bare.raw.raft.raft_log.last_index(), 3, "the library appends it, {change:?}");
    assert!(RaftMessage::from_raft(proposal).is_err());
    leads_on(leader());
}

#[test]
fn a_read_without_entries_can_not_be_received() {
    let mut empty = Message { from: 2, to: 1, ..Default::default() };
    empty.set_msg_type(MessageType::MsgReadIndex);
    let mut bare = leader();
    bare.deliver(2, message(2, 1, 1, acknowledge(2))).unwrap();
    assert!(!bare.survives_bare(empty.clone()), "the library panics");
    assert!(RaftMessage::from_raft(empty).is_err());
    leads_on(leader());
}

#[test]
fn a_heartbeat_that_commits_beyond_the_log_quarantines() {
    let hostile = message(1, 2, 5, heartbeat(5));
    assert!(!follower().survives_bare(hostile.clone().into_raft()), "the library panics");
    let mut replica = follower();
    let lost = LostLog { commit: 5, last_index: 4 };
    assert_eq!(replica.deliver(1, hostile), Err(Objection::Quarantine(lost)));
    lives_on(replica);
}

#[test]
fn a_heartbeat_of_an_old_leader_that_commits_beyond_the_log_is_only_old() {
    let mut replica = follower();
    assert_eq!(replica.deliver(3, message(3, 2, 4, heartbeat(50))), Ok(()));
    assert_eq!(replica.take_sent().len(), 1, "the old leader is told");
    lives_on(replica);
}

#[test]
fn entries_that_do_not_follow_each_other_are_refused() {
    let hole = append(4, 5, 4, vec![normal(5, 5), normal(7, 5)]);
    let early = append(4, 5, 4, vec![normal(9, 5)]);
    for kind in [hole, early] {
        let hostile = message(1, 2, 5, kind);
        let harmed = std::panic::catch_unwind(|| {
            let mut bare = follower();
            assert!(bare.survives_bare(hostile.clone().into_raft()));
            let log = bare.log(0);
            assert!(log.iter().zip(1..).all(|(entry, index)| entry.0 == index));
            assert_eq!(log.len() as u64, bare.last_index());
        });
        assert!(harmed.is_err(), "the library panics, or its log has a hole");
        lives_on(guarded(follower(), 1, &hostile, Refusal::Entries));
    }
}

#[test]
fn an_append_after_a_gap_that_names_no_term_is_refused() {
    // The library reads the term of an entry that it doesn't have as 0, and takes the two as equal.
    let hostile = message(1, 2, 5, append(50, 0, 4, vec![normal(51, 5)]));
    assert!(!follower().survives_bare(hostile.clone().into_raft()), "the library panics");
    lives_on(guarded(follower(), 1, &hostile, Refusal::ImpossibleLog));
}

#[test]
fn terms_of_entries_that_no_log_has_are_refused() {
    let falling = vec![normal(5, 5), normal(6, 4)];
    let beyond = vec![normal(5, 6)];
    let below = vec![normal(5, 4)];
    let none = vec![normal(5, 0)];
    for entries in [falling, beyond, below, none] {
        let hostile = message(1, 2, 5, append(4, 5, 4, entries));
        lives_on(guarded(follower(), 1, &hostile, Refusal::Entries));
    }
    let hostile = message(1, 2, 5, append(4, 6, 4, Vec::new()));
    lives_on(guarded(follower(), 1, &hostile, Refusal::ImpossibleLog));
}

#[test]
fn a_snapshot_that_contradicts_itself_is_refused() {
    let both = message(1, 2, 5, MessageKind::Snapshot(offer(9, 5, &[1, 2, 3], &[3])));
    assert!(!follower().survives_bare(both.clone().into_raft()), "the library panics");
    lives_on(guarded(follower(), 1, &both, Refusal::Configuration));
    for (offer, expected) in [
        (offer(9, 5, &[1, 2, 2], &[]), Refusal::Configuration),
        (offer(9, 5, &[], &[2]), Refusal::Configuration),
        (offer(9, 5, &[1, 3], &[]), Refusal::SelfNotInSnapshot),
        (offer(0, 5, &[1, 2, 3], &[]), Refusal::ImpossibleLog),
        (offer(9, 0, &[1, 2, 3], &[]), Refusal::ImpossibleLog),
        (offer(9, 6, &[1, 2, 3], &[]), Refusal::ImpossibleLog),
        (offer(9, 5, &(1..40).collect::<Vec<_>>(), &[]), Refusal::TooLarge),
    ] {
        let hostile = message(1, 2, 5, MessageKind::Snapshot(offer));
        lives_on(guarded(follower(), 1, &hostile, expected));
    }
}

#[test]
fn a_forged_snapshot_does_not_make_a_site_of_its_own() {
    let alone = MessageKind::Snapshot(offer(9, 5, &[2], &[]));
    let mut bare = follower();
    assert!(bare.survives_bare(message(3, 2, 5, alone.clone()).into_raft()));
    assert_eq!(bare.conf.voters, [2], "the library leaves its site");
    // Not by a stranger, not by another member in the leader's term, and not by the leader of a later one.
    lives_on(guarded(follower(), 9, &message(1, 2, 5, alone.clone()), Refusal::ForgedSender));
    lives_on(guarded(follower(), 3, &message(3, 2, 5, alone.clone()), Refusal::OtherLeader));
    lives_on(guarded(follower(), 3, &message(3, 2, 6, alone), Refusal::Configuration));
    let other = MessageKind::Snapshot(offer(9, 5, &[2, 9], &[]));
    lives_on(guarded(follower(), 3, &message(3, 2, 5, other), Refusal::OtherLeader));
}

#[test]
fn a_heartbeat_in_another_nodes_name_is_refused() {
    let hostile = message(9, 2, 6, heartbeat(0));
    let mut bare = follower();
    assert!(bare.survives_bare(hostile.clone().into_raft()));
    assert_eq!((bare.raw.raft.leader_id, bare.term()), (9, 6), "the library follows anybody");
    // Node 9 has no keys; whoever made this was let in as another.
    lives_on(guarded(follower(), 3, &hostile, Refusal::ForgedSender));
    lives_on(guarded(follower(), 3, &message(1, 2, 5, heartbeat(3)), Refusal::ForgedSender));
    lives_on(guarded(follower(), 2, &message(2, 2, 5, heartbeat(3)), Refusal::ForgedSender));
    lives_on(guarded(follower(), 1, &message(1, 3, 5, heartbeat(3)), Refusal::NotForMe));
}

#[test]
fn a_member_can_not_speak_against_the_leader_of_the_term() {
    for kind in [heartbeat(3), append(4, 5, 4, Vec::new())] {
        let hostile = message(3, 2, 5, kind.clone());
        let mut bare = follower();
        assert!(bare.survives_bare(hostile.clone().into_raft()));
        assert_eq!(bare.raw.raft.leader_id, 3, "the library changes its leader");
        lives_on(guarded(follower(), 3, &hostile, Refusal::OtherLeader));
        leads_on(guarded(leader(), 3, &message(3, 1, 1, kind), Refusal::OtherLeader));
    }
}

#[test]
fn a_term_at_the_end_of_numbers_is_refused() {
    let hostile = message(1, 2, u64::MAX, heartbeat(0));
    let mut bare = follower();
    assert!(bare.survives_bare(hostile.clone().into_raft()));
    assert_eq!(bare.term(), u64::MAX, "the library takes it, and can never hold an election again");
    let election = std::panic::AssertUnwindSafe(|| {
        for _ in 0..60 {
            bare.tick();
        }
    });
    assert!(std::panic::catch_unwind(election).is_err(), "the library panics at the next election");
    lives_on(guarded(follower(), 1, &hostile, Refusal::Term));
    let high = message(1, 2, limits::TERM_MAX, heartbeat(0));
    lives_on(guarded(follower(), 1, &high, Refusal::TermJump));
}

#[test]
fn a_term_may_grow_by_as_much_as_elections_can_make_it() {
    let mut replica = follower();
    assert_eq!(replica.deliver(3, message(3, 2, 5 + TERM_JUMP_MAX, heartbeat(0))), Ok(()));
    let beyond = message(3, 2, 6 + 2 * TERM_JUMP_MAX, heartbeat(0));
    assert_eq!(replica.deliver(3, beyond), refused(Refusal::TermJump));
    // A node without a configuration has no term to compare with.
    let mut joiner = Replica::new(4, &[], &[]);
    assert_eq!(joiner.deliver(3, message(3, 4, 9 * TERM_JUMP_MAX, heartbeat(0))), Ok(()));
}

#[test]
fn an_answer_at_the_end_of_numbers_does_not_depose_the_leader() {
    for kind in [acknowledge(1), heartbeat_answer(0), MessageKind::VoteResponse(granted())] {
        let hostile = message(2, 1, u64::MAX, kind);
        let mut bare = leader();
        assert!(bare.survives_bare(hostile.clone().into_raft()));
        assert!(!bare.is_leader(), "the library steps down");
        leads_on(guarded(leader(), 2, &hostile, Refusal::Term));
    }
}

fn heartbeat_answer(commit: u64) -> MessageKind {
    let MessageKind::Heartbeat(beat) = heartbeat(commit) else { unreachable!() };
    MessageKind::HeartbeatResponse(beat)
}

#[test]
fn a_term_of_zero_is_refused() {
    // The library takes it for a message of its own and skips every check of terms.
    let hostile = message(3, 2, 0, heartbeat(3));
    let mut bare = follower();
    assert!(bare.survives_bare(hostile.clone().into_raft()));
    assert_eq!(bare.raw.raft.leader_id, 3, "the library follows it in any term");
    lives_on(guarded(follower(), 3, &hostile, Refusal::Term));
    leads_on(guarded(leader(), 2, &message(2, 1, 0, acknowledge(2)), Refusal::Term));
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_is_refused() {
    let hostile = message(2, 1, 1, acknowledge(1_000_000));
    let mut bare = leader();
    assert!(bare.survives_bare(hostile.clone().into_raft()));
    assert_eq!(bare.committed(), 2, "the library commits what nobody else has");
    assert_eq!(bare.raw.raft.prs().get(2).unwrap().matched, 1_000_000);
    leads_on(guarded(leader(), 2, &hostile, Refusal::BeyondLog));
    leads_on(guarded(leader(), 9, &hostile, Refusal::ForgedSender));
    let stranger = message(9, 1, 1, acknowledge(2));
    leads_on(guarded(leader(), 9, &stranger, Refusal::NotInConfiguration));
    for kind in [heartbeat_answer(3), reject(3, 1, 1), reject(2, 3, 1)] {
        leads_on(guarded(leader(), 2, &message(2, 1, 1, kind), Refusal::BeyondLog));
    }
    let end = message(2, 1, 1, reject(0, u64::MAX, 0));
    let survives = leader().survives_bare(end.clone().into_raft());
    assert_eq!(survives, !cfg!(debug_assertions), "the library overflows");
    leads_on(guarded(leader(), 2, &end, Refusal::BeyondLog));
    leads_on(guarded(leader(), 2, &message(2, 1, 1, reject(2, 1, 9)), Refusal::ImpossibleLog));
}

#[test]
fn a_snapshot_can_not_be_asked_for_beyond_the_log() {
    let MessageKind::AppendResponse(mut response) = reject(1, 1, 1) else { unreachable!() };
    response.reject.as_mut().unwrap().request_snapshot = 50;
    let hostile = message(2, 1, 1, MessageKind::AppendResponse(response));
    leads_on(guarded(leader(), 2, &hostile, Refusal::BeyondLog));
}

#[test]
fn only_the_leader_hands_over() {
    let hostile = message(3, 2, 5, MessageKind::TimeoutNow);
    let mut bare = follower();
    assert!(bare.survives_bare(hostile.clone().into_raft()));
    assert_eq!(
        bare.raw.raft.state,
        StateRole::Candidate,
        "the library campaigns at once, without a pre-vote"
    );
    lives_on(guarded(follower(), 3, &hostile, Refusal::NotTheLeader));
    lives_on(guarded(
        follower(),
        9,
        &message(9, 2, 5, MessageKind::TimeoutNow),
        Refusal::NotTheLeader,
    ));
    lives_on(guarded(
        follower(),
        1,
        &message(1, 2, 6, MessageKind::TimeoutNow),
        Refusal::NotTheLeader,
    ));
    let mut replica = follower();
    assert_eq!(replica.deliver(1, message(1, 2, 5, MessageKind::TimeoutNow)), Ok(()));
    assert_eq!((replica.raw.raft.state, replica.term()), (StateRole::Candidate, 6));
}

#[test]
fn handovers_keep_their_distance() {
    let mut replica = follower();
    let handover = message(1, 2, 5, MessageKind::TimeoutNow);
    replica.now_ms = 1_000;
    assert_eq!(replica.check(1, &handover), Ok(()));
    assert_eq!(replica.check(1, &handover), refused(Refusal::TooOften));
    replica.now_ms += TIMEOUT_NOW_GAP_MS;
    assert_eq!(replica.check(1, &handover), Ok(()));
}

#[test]
fn a_learner_is_not_handed_the_lead() {
    let mut replica = Replica::new(4, &[1, 2, 3], &[4]);
    replica.deliver(1, message(1, 4, 5, heartbeat(0))).unwrap();
    let handover = message(1, 4, 5, MessageKind::TimeoutNow);
    assert_eq!(replica.deliver(1, handover), refused(Refusal::NotAVoter));
}

#[test]
fn a_second_change_of_the_configuration_becomes_an_empty_entry_that_can_be_read() {
    use fleet_consensus::frame::{ConfChange, EntryPayload};
    let mut replica = leader();
    assert!(replica.propose_change(ConfChange::AddLearner(guard_support::node(4))));
    assert!(replica.propose_change(ConfChange::AddLearner(guard_support::node(5))));
    let sent: Vec<_> = replica
        .raw
        .raft
        .raft_log
        .all_entries()
        .into_iter()
        .map(|entry| fleet_consensus::frame::LogEntry::from_raft(entry).unwrap().payload)
        .collect();
    assert_eq!(sent[2], EntryPayload::ConfChange(ConfChange::AddLearner(guard_support::node(4))));
    assert_eq!(sent[3], EntryPayload::Empty);
}
