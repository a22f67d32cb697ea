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
    frame::{Ballot, BallotAnswer, MessageKind, RaftMessage, limits},
    guard::{Guard, LostLog, Objection, Refusal, TERM_JUMP_MAX, TIMEOUT_NOW_GAP_MS},
};
use guard_support::{
    Replica, acknowledge, append, ballot, follower, granted, heartbeat, leader, message, normal,
    offer, reject,
};
use raft::{
    StateRole,
    eraftpb::{ConfState, Message, MessageType},
};

fn refused(refusal: Refusal) -> Result<(), Objection> {
    Err(Objection::Refused(refusal))
}

/// A follower that goes on as if nothing had happened: it takes what its leader sends.
fn lives_on(mut replica: Replica) {
    assert_eq!((replica.term(), replica.last_index(), replica.committed()), (5, 4, 3));
    assert_eq!(replica.raw.raft.leader_id, 1);
    let next = append(4, 5, 5, vec![normal(5, 5)]);
    replica.deliver(1, message(1, 2, 5, next)).unwrap();
    assert_eq!((replica.last_index(), replica.committed(), replica.applied), (5, 5, 5));
    // And it can be elected once the leader is gone.
    for _ in 0..60 {
        replica.tick();
    }
    assert_eq!(replica.raw.raft.state, StateRole::PreCandidate);
}

/// A leader that goes on: it commits once a follower acknowledges.
fn leads_on(mut replica: Replica) {
    assert!(replica.is_leader());
    assert_eq!((replica.term(), replica.last_index(), replica.committed()), (1, 2, 0));
    replica.deliver(2, message(2, 1, 1, acknowledge(2))).unwrap();
    assert_eq!((replica.committed(), replica.applied), (2, 2));
    assert!(replica.propose(b"two"));
}

fn guarded(mut replica: Replica, sender: u64, hostile: &RaftMessage, expected: Refusal) -> Replica {
    assert_eq!(replica.deliver(sender, hostile.clone()), refused(expected));
    replica
}

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

#[test]
fn votes_and_their_answers_can_not_move_the_commit_index_beyond_the_log() {
    // The library looks for the entry that a vote message says is committed. Here are those that no log can hold.
    let good = Ballot { commit: 2, commit_term: 5, ..ballot(4, 5) };
    let impossible = [
        Ballot { commit: 5, ..good },
        Ballot { commit_term: 6, ..good },
        Ballot { log_term: 7, ..good },
        Ballot { log_term: 0, ..good },
        Ballot { index: 0, commit: 0, ..good },
        Ballot { index: limits::INDEX_MAX + 1, ..good },
    ];
    for ballot in impossible {
        for kind in [MessageKind::Vote(ballot), MessageKind::PreVote(ballot)] {
            lives_on(guarded(follower(), 3, &message(3, 2, 6, kind), Refusal::ImpossibleLog));
        }
    }
    let answer = BallotAnswer { reject: true, commit: 9, commit_term: 7 };
    let hostile = message(3, 2, 6, MessageKind::VoteResponse(answer));
    lives_on(guarded(follower(), 3, &hostile, Refusal::ImpossibleLog));
}

#[test]
fn a_stale_grant_of_a_pre_vote_is_not_counted() {
    let pre_candidate = || {
        let mut replica = follower();
        while replica.raw.raft.state != StateRole::PreCandidate {
            replica.tick();
        }
        replica
    };
    // It asks for term 6. Grants for term 5 and 9 were given to somebody else's question, or to an older one.
    for term in [5, 9] {
        let stale = message(3, 2, term, MessageKind::PreVoteResponse(granted()));
        let mut bare = pre_candidate();
        assert!(bare.survives_bare(stale.clone().into_raft()));
        assert_eq!(bare.raw.raft.state, StateRole::Candidate, "the library counts it");
        let mut replica = pre_candidate();
        assert_eq!(replica.deliver(3, stale), refused(Refusal::StaleAnswer));
        assert_eq!(replica.raw.raft.state, StateRole::PreCandidate);
        let grant = message(3, 2, 6, MessageKind::PreVoteResponse(granted()));
        assert_eq!(replica.deliver(3, grant), Ok(()));
        assert_eq!(replica.raw.raft.state, StateRole::Candidate);
    }
}

#[test]
fn a_node_that_was_never_in_a_term_is_not_asked_for_a_pre_vote() {
    let ask = message(3, 2, 1, MessageKind::PreVote(Ballot { priority: -1, ..ballot(0, 0) }));
    let fresh = || Replica::new(2, &[1, 2, 3], &[]);
    assert!(!fresh().survives_bare(ask.clone().into_raft()), "the library panics");
    let mut replica = fresh();
    assert_eq!(replica.deliver(3, ask), refused(Refusal::NotAVoter));
    assert_eq!(replica.deliver(3, message(3, 2, 1, MessageKind::Vote(ballot(0, 0)))), Ok(()));
}

#[test]
fn votes_of_learners_and_strangers_are_not_counted() {
    let mut replica = Replica::new(1, &[1, 2, 3], &[4]);
    replica.raw.campaign().unwrap();
    replica.settle();
    for id in [4, 9] {
        let vote = message(id, 1, 1, MessageKind::PreVoteResponse(granted()));
        assert_eq!(replica.deliver(id, vote), refused(Refusal::NotInConfiguration));
    }
    assert_eq!(replica.raw.raft.state, StateRole::PreCandidate);
}

#[test]
fn requests_of_nodes_that_the_configuration_here_does_not_know_are_taken() {
    // Node 4 became a voter by an entry that this node has not applied yet. Refusing it could cost a majority.
    let mut replica = follower();
    for _ in 0..60 {
        replica.tick();
    }
    replica.take_sent();
    let vote = message(4, 2, 7, MessageKind::Vote(ballot(9, 6)));
    assert_eq!(replica.deliver(4, vote), Ok(()));
    let answer = replica.take_sent().pop().unwrap();
    assert_eq!(answer.kind, MessageKind::VoteResponse(granted()));
    assert_eq!(replica.deliver(4, message(4, 2, 7, heartbeat(0))), Ok(()));
    assert_eq!(replica.raw.raft.leader_id, 4);
}

#[test]
fn a_late_rejection_does_not_move_next_below_matched_raft_rs_557() {
    // 1. Node 2 acknowledges both entries. 2. It becomes unreachable for a moment, and is probed from there on.
    // 3. Its rejection of the very first probe arrives, late.
    let probing = || {
        let mut replica = leader();
        replica.deliver(2, message(2, 1, 1, acknowledge(2))).unwrap();
        replica.raw.report_unreachable(2);
        let progress = replica.raw.raft.prs().get(2).unwrap();
        assert_eq!((progress.matched, progress.next_idx), (2, 3));
        replica
    };
    let late = message(2, 1, 1, reject(2, 0, 0));
    let mut bare = probing();
    assert!(bare.survives_bare(late.clone().into_raft()));
    assert_eq!(bare.raw.raft.prs().get(2).unwrap().next_idx, 1, "below what is known to be equal");

    let mut replica = probing();
    assert_eq!(replica.deliver(2, late), refused(Refusal::StaleReject));
    let progress = replica.raw.raft.prs().get(2).unwrap();
    assert_eq!((progress.matched, progress.next_idx), (2, 3));
    assert!(replica.propose(b"two"));
    replica.deliver(2, message(2, 1, 1, acknowledge(3))).unwrap();
    assert_eq!(replica.committed(), 3);
}

#[test]
fn a_rejection_that_hints_below_what_was_acknowledged_is_late_too() {
    let mut replica = leader();
    replica.deliver(2, message(2, 1, 1, acknowledge(1))).unwrap();
    assert_eq!(
        replica.deliver(2, message(2, 1, 1, reject(2, 0, 0))),
        refused(Refusal::StaleReject)
    );
    assert_eq!(replica.deliver(2, message(2, 1, 1, reject(2, 1, 1))), Ok(()));
}

#[test]
fn an_append_response_with_a_request_for_a_snapshot_passes() {
    let mut replica = leader();
    replica.deliver(2, message(2, 1, 1, acknowledge(2))).unwrap();
    let MessageKind::AppendResponse(mut response) = reject(1, 2, 1) else { unreachable!() };
    response.reject.as_mut().unwrap().request_snapshot = 2;
    let request = message(2, 1, 1, MessageKind::AppendResponse(response));
    assert_eq!(replica.check(2, &request), Ok(()));
}

#[test]
fn every_word_is_its_own() {
    let all = [
        Refusal::ForgedSender,
        Refusal::NotForMe,
        Refusal::Term,
        Refusal::TermJump,
        Refusal::OtherLeader,
        Refusal::NotTheLeader,
        Refusal::NotAVoter,
        Refusal::TooOften,
        Refusal::NotInConfiguration,
        Refusal::Entries,
        Refusal::ImpossibleLog,
        Refusal::BeyondLog,
        Refusal::StaleReject,
        Refusal::StaleAnswer,
        Refusal::TooLarge,
        Refusal::Configuration,
        Refusal::SelfNotInSnapshot,
    ];
    let words: std::collections::BTreeSet<_> = all.iter().map(|refusal| refusal.as_str()).collect();
    assert_eq!(words.len(), all.len());
    let _ = (Guard::new(), ConfState::default());
}
