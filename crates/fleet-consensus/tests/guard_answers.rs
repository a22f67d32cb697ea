//! Votes and answers that harm a bare replica, sent to one behind the guard.
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
    frame::{Ballot, BallotAnswer, MessageKind, limits},
    guard::{Guard, Refusal},
};
use guard_support::{
    Replica, acknowledge, ballot, follower, granted, guarded, heartbeat, leader, lives_on, message,
    refused, reject,
};
use raft::{StateRole, eraftpb::ConfState};

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
