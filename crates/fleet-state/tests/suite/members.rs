//! Members: joining, roles, removal, founding and restoring.

use fleet_state::limits::MEMBERS_MAX;
use fleet_state::{
    Accepted, Body, Command, FleetState, FoundingToken, JoinRequest, NodeId, Outcome, RejectCode,
    Revision, Role,
};

use crate::site::{
    Site, create_token, founding, join, join_request, keys, register, restored, set, snapshot_of,
    token_id, token_key,
};

fn node(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

fn role(site: &mut Site, number: u64, role: Role) -> usize {
    let revision = site.next_revision();
    let changes = site.state.apply_role(revision, node(number), role);
    assert_eq!(site.state.last_applied(), revision);
    changes.len()
}

fn joined(applied: fleet_state::Applied) -> u64 {
    match applied.answer.unwrap().outcome {
        Outcome::Accepted(Accepted { node: Some(node), .. }) => node.get(),
        other => panic!("{other:?}"),
    }
}

fn with_token() -> Site {
    let mut site = Site::default();
    site.accept(create_token(1, 3_600_000, 64));
    site
}

#[test]
fn a_founded_site_has_one_voter() {
    let token = FoundingToken {
        id: token_id(1),
        key: token_key(1),
        ttl_ms: 60_000,
        uses: 1,
        note: "first".into(),
    };
    let params = fleet_state::FoundingParams { token: Some(token), ..founding("home", 1) };
    let state = FleetState::found(params);
    assert_eq!(state.last_applied(), Revision::new(1));
    let member = state.member(&NodeId::FOUNDER).unwrap();
    assert_eq!((member.role, member.joined), (Role::Voter, Revision::new(1)));
    assert_eq!(state.next_node(), node(2));
    assert_eq!((state.voters_wanted(), state.tokens_len(), state.feature_level()), (5, 1, 1));
    assert_eq!(state.next_deadline_log_ms(), Some(60_000));
}

#[test]
fn joining_gives_an_id_and_repeats_it() {
    let mut site = with_token();
    assert_eq!(joined(site.run(join(1, "gw-2", 2))), 2);
    let uses_left = site.state.token(&token_id(1)).unwrap().uses_left;
    let again = site.run(join(1, "gw-2", 2));
    assert!(again.changes.is_empty());
    assert_eq!(joined(again), 2);
    assert_eq!(site.state.token(&token_id(1)).unwrap().uses_left, uses_left);
    // Also when the token is gone meanwhile.
    site.accept(Command::TokenRevoke { id: token_id(1) });
    assert_eq!(joined(site.run(join(1, "gw-2", 2))), 2);
    let member = site.state.member(&node(2)).unwrap();
    assert_eq!((member.role, member.credential), (Role::Joining, None));
    assert_eq!(site.state.member_named(&"gw-2".parse().unwrap()).unwrap().id, node(2));
}

#[test]
fn a_member_that_lost_its_files_does_not_come_back_under_its_id() {
    let mut site = with_token();
    site.accept(join(1, "gw-2", 2));
    for (role_now, word) in [(Role::Learner, "a learner"), (Role::Voter, "a voter")] {
        role(&mut site, 2, role_now);
        let message = site.reject(join(1, "gw-2", 2), RejectCode::Denied);
        assert!(message.contains("flotilla member remove gw-2"), "{message}");
        assert!(message.contains("empty data directory"), "{message}");
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn the_longest_refusal_of_a_join_is_not_cut() {
    let mut site = with_token();
    let name = "x".repeat(32);
    site.accept(join(1, &name, 2));
    role(&mut site, 2, Role::Learner);
    let message = site.reject(join(1, &name, 2), RejectCode::Denied);
    assert!(message.ends_with("empty data directory"), "{message}");
}

#[test]
fn no_more_nodes_are_named_than_the_site_wants_voters() {
    let mut site = with_token();
    site.accept(Command::SetVoters { voters: 3 });
    for number in 2..=4 {
        site.accept(join(1, &format!("gw-{number}"), number));
        role(&mut site, u64::from(number), Role::Learner);
    }
    site.accept(Command::MemberPromote { node: node(2) });
    site.accept(Command::MemberPromote { node: node(3) });
    let promote = Command::MemberPromote { node: node(4) };
    let message = site.reject(promote.clone(), RejectCode::LimitReached);
    assert!(message.contains("3 nodes vote") && message.contains("have 5"), "{message}");
    role(&mut site, 2, Role::Voter);
    role(&mut site, 3, Role::Voter);
    site.unchanged(Command::MemberPromote { node: node(3) });
    site.reject(promote.clone(), RejectCode::LimitReached);
    // One that goes makes room, and so does a larger number.
    site.accept(Command::MemberRemove { node: node(3) });
    site.accept(promote);
    site.accept(Command::SetVoters { voters: 7 });
    for number in 5..=8 {
        site.accept(join(1, &format!("gw-{number}"), number));
        role(&mut site, u64::from(number), Role::Voter);
    }
    site.accept(join(1, "gw-9", 9));
    let message = site.reject(Command::MemberPromote { node: node(9) }, RejectCode::LimitReached);
    assert!(message.contains("no site has more"), "{message}");
}

#[test]
fn names_and_keys_are_unique() {
    let mut site = with_token();
    site.accept(join(1, "gw-2", 2));
    site.reject(join(1, "gw-1", 3), RejectCode::AlreadyExists);
    site.reject(join(1, "gw-2", 3), RejectCode::AlreadyExists);
    site.reject(join(1, "gw-3", 2), RejectCode::AlreadyExists);
    let half = JoinRequest {
        keys: fleet_state::NodeKeys { exchange: [0; 32], ..keys(2) },
        ..join_request(1, "gw-3", 2)
    };
    site.reject(Command::Join(half), RejectCode::AlreadyExists);
    assert_eq!(site.state.token(&token_id(1)).unwrap().uses_left, 63);
}

#[test]
fn ids_and_keys_of_removed_members_never_return() {
    let mut site = with_token();
    site.accept(join(1, "gw-2", 2));
    // Not in the configuration yet, so it is removed at once.
    site.accept(Command::MemberRemove { node: node(2) });
    assert_eq!(site.state.member(&node(2)).unwrap().role, Role::Removed);
    let message = site.reject(join(1, "gw-2", 2), RejectCode::Denied);
    assert!(message.contains("node 2, which was removed"), "{message}");
    // Its name is free again.
    assert_eq!(joined(site.run(join(1, "gw-2", 3))), 3);
    assert_eq!(role(&mut site, 2, Role::Learner), 0);
    site.reject(Command::MemberRemove { node: node(2) }, RejectCode::NotFound);
    site.reject(Command::MemberPromote { node: node(2) }, RejectCode::NotFound);
    site.reject(Command::Certify { node: node(2), credential: [1; 64] }, RejectCode::NotFound);
    let copy = restored(&snapshot_of(&site.state));
    assert_eq!(copy.next_node(), node(4));
}

#[test]
fn roles_follow_the_configuration() {
    let mut site = with_token();
    site.accept(join(1, "gw-2", 2));
    site.unchanged(Command::MemberPromote { node: node(1) });
    site.accept(Command::MemberPromote { node: node(2) });
    site.unchanged(Command::MemberPromote { node: node(2) });
    assert_eq!(role(&mut site, 2, Role::Learner), 1);
    assert!(site.state.member(&node(2)).unwrap().wanted_voter);
    assert_eq!(role(&mut site, 2, Role::Learner), 0);
    assert_eq!(role(&mut site, 2, Role::Voter), 1);
    assert!(!site.state.member(&node(2)).unwrap().wanted_voter);
    assert_eq!(role(&mut site, 9, Role::Voter), 0);
    // An entry is applied once.
    let last = site.state.last_applied();
    assert!(site.state.apply_role(last, node(2), Role::Removed).is_empty());
    site.accept(Command::MemberRemove { node: node(2) });
    let member = site.state.member(&node(2)).unwrap();
    assert!(member.leaving && member.role == Role::Voter);
    site.unchanged(Command::MemberRemove { node: node(2) });
    site.reject(Command::MemberPromote { node: node(2) }, RejectCode::Denied);
    assert_eq!(role(&mut site, 2, Role::Removed), 1);
    let member = site.state.member(&node(2)).unwrap();
    assert!(!member.leaving && !member.is_live());
}

#[test]
fn the_last_voter_stays() {
    let mut site = with_token();
    site.reject(Command::MemberRemove { node: node(1) }, RejectCode::LastVoter);
    site.accept(join(1, "gw-2", 2));
    role(&mut site, 2, Role::Learner);
    site.reject(Command::MemberRemove { node: node(1) }, RejectCode::LastVoter);
    role(&mut site, 2, Role::Voter);
    site.accept(Command::MemberRemove { node: node(1) });
    // The other one is on its way out, so this is the last.
    site.reject(Command::MemberRemove { node: node(2) }, RejectCode::LastVoter);
}

#[test]
fn credentials_are_set_once_and_outside_the_memory_of_answers() {
    let mut site = with_token();
    site.accept(join(1, "gw-2", 2));
    let answers = site.state.answers_len();
    let certify = |number| Command::Certify { node: node(2), credential: [number; 64] };
    site.accept(certify(1));
    site.unchanged(certify(1));
    site.reject(certify(2), RejectCode::AlreadyExists);
    site.reject(Command::Certify { node: node(1), credential: [1; 64] }, RejectCode::AlreadyExists);
    site.reject(Command::Certify { node: node(8), credential: [1; 64] }, RejectCode::NotFound);
    assert_eq!(site.state.answers_len(), answers);
    assert_eq!(site.state.member(&node(2)).unwrap().credential, Some([1; 64]));
}

#[test]
fn voters_wanted_are_odd_and_up_to_seven() {
    let mut site = Site::default();
    for voters in [1, 3, 7] {
        site.accept(Command::SetVoters { voters });
        site.unchanged(Command::SetVoters { voters });
        assert_eq!(site.state.voters_wanted(), voters);
    }
    for voters in [0, 2, 6, 8, 9, 255] {
        site.reject(Command::SetVoters { voters }, RejectCode::Malformed);
    }
    site.reject_if(Some(1), Command::SetVoters { voters: 5 }, RejectCode::Malformed);
}

#[test]
fn members_are_bounded_and_removed_ones_are_forgotten_in_the_end() {
    let mut site = Site::default();
    let join_next = |site: &mut Site, number: u64| {
        let token = (number / 60) as u8 + 1;
        if site.state.token(&token_id(token)).is_none() {
            site.accept(create_token(token, 3_600_000, 64));
        }
        let mut keys = keys(0);
        keys.sign[..8].copy_from_slice(&number.to_be_bytes());
        keys.exchange[..8].copy_from_slice(&number.to_be_bytes());
        let name: fleet_state::NodeName = format!("n-{number}").parse().unwrap();
        let message = fleet_state::credential::join_message(token_id(token), &name, &keys);
        let proof = fleet_state::credential::join_proof(&token_key(token), &message);
        site.run(Command::Join(JoinRequest { token: token_id(token), name, keys, proof }))
    };
    for number in 1..MEMBERS_MAX as u64 {
        joined(join_next(&mut site, number));
    }
    let full = join_next(&mut site, 64).answer.unwrap();
    assert_eq!(crate::site::rejection(&full), Some(RejectCode::LimitReached));
    for number in 64..1_200u64 {
        let oldest = site.state.members().find(|member| member.role == Role::Joining).unwrap().id;
        site.accept(Command::MemberRemove { node: oldest });
        joined(join_next(&mut site, number));
    }
    assert!(site.state.members_len() <= MEMBERS_MAX + 1_024);
    assert_eq!(site.state.next_node(), node(1_201));
    let copy = restored(&snapshot_of(&site.state));
    assert_eq!(copy.digests(), site.state.digests());
}

#[test]
fn restoring_makes_another_site_of_the_same_devices() {
    let mut site = with_token();
    site.accept(join(1, "gw-2", 2));
    site.accept(register("lamp"));
    site.accept(set("p", "1"));
    let before = site.state.clone();
    let credential_for = before.next_node();
    let after = before.clone().restore_as(founding("ship", 2));
    assert_eq!(after.site().as_str(), "ship");
    assert_ne!(after.uid(), before.uid());
    // So many that no revision of the site that was can come again.
    assert_eq!(after.last_applied().get(), before.last_applied().get() + 1_000_000_000);
    let heard_later = Revision::new(before.last_applied().get() + 3);
    assert!(after.changes_since(heard_later).is_err(), "what it heard of is no more");
    assert!(after.changes_since(after.last_applied()).is_ok());
    let (one, other) = (before.digests(), after.digests());
    assert_eq!((one.params, one.links), (other.params, other.links));
    let lamp = after.device(&"lamp".parse().unwrap()).unwrap();
    assert_eq!(&*lamp.hold.as_ref().unwrap().reason, "the site was restored from a snapshot");
    assert_eq!((after.members_len(), after.tokens_len(), after.answers_len()), (1, 0, 0));
    let member = after.members().next().unwrap();
    assert_eq!((member.id, member.role), (credential_for, Role::Voter));
    assert_eq!(after.next_node().get(), credential_for.get() + 1);
    // The old one is untouched, and the new one is whole.
    assert_eq!(before.digests(), site.state.digests());
    assert_eq!(restored(&snapshot_of(&after)).digests(), other);
    let mut new = Site { state: after, ..Site::default() };
    new.accept(set("p", "2"));
}

#[test]
fn restoring_parts_the_site_from_what_was_under_way() {
    use crate::hall::{LAMP, errand, hall, invoke, lamp, link, marked, set_for, shot, stage, told};
    use crate::site::update;
    let mut site = hall();
    let first = site.accept(update(LAMP, r#"{"on":true}"#));
    let epoch = link(&site).epoch;
    site.accept(told(epoch, marked(first, first, first)));
    let limited = site.accept(set_for(r#"{"on":false,"level":2}"#, 60_000));
    for id in ["under way", "waits"].map(|id| id.replace(' ', "-")) {
        site.propose_as(&id, invoke("beep", None));
    }
    site.claimed(vec![shot("under-way")]);
    let state = site.state.clone().restore_as(founding("ship", 2));
    let new = Site { state, ..Site::default() };
    assert_eq!((link(&new).owner, link(&new).epoch), (None, new.state.last_applied().get()));
    assert!(link(&new).epoch > epoch + 1_000_000, "nothing that was ever told a device is newer");
    for id in ["under-way", "waits"] {
        assert_eq!(errand(&new, id).stage, fleet_state::Stage::Unknown);
    }
    assert_eq!(lamp(&new).desired(), crate::site::object(r#"{"on":true}"#));
    assert_eq!(lamp(&new).blocked(), Some("is on hold"));
    assert_eq!(stage(&new, first), Some(fleet_state::Stage::Committed));
    assert_ne!(stage(&new, limited), Some(fleet_state::Stage::Committed));
    assert_eq!(new.state.next_deadline_log_ms(), None);
    assert_eq!(restored(&snapshot_of(&new.state)).digests(), new.state.digests());
}

/// What each member's program reads, and what the site has then.
#[test]
fn the_site_has_the_highest_feature_level_that_every_member_reads() {
    let founded = fleet_state::FoundingParams { feature_level: 4, ..founding("home", 1) };
    let mut site = Site { state: FleetState::found(founded), ..Site::default() };
    site.accept(create_token(1, 3_600_000, 64));
    let level = |site: &mut Site, number: u64, level: u16| {
        let applied = site.apply_body(Body::MemberLevel { node: node(number), level });
        (site.state.feature_level(), applied.changes.len())
    };
    assert_eq!(site.state.feature_level(), 4);
    site.accept(join(1, "gw-2", 2));
    // Who joins reads what the site has, and says later what else.
    assert_eq!(site.state.member(&node(2)).unwrap().feature_level, 4);
    assert_eq!(level(&mut site, 1, 6), (4, 1));
    assert_eq!(level(&mut site, 1, 6), (4, 0));
    assert_eq!(level(&mut site, 2, 5), (5, 1));
    // It never goes back, and who reads less is shown as such.
    assert_eq!(level(&mut site, 2, 3), (5, 1));
    assert_eq!(site.state.member(&node(2)).unwrap().feature_level, 3);
    assert_eq!(level(&mut site, 9, 1), (5, 0));
    // Who leaves holds nobody back any more.
    site.accept(Command::MemberRemove { node: node(2) });
    assert_eq!(site.state.feature_level(), 6);
    assert_eq!(level(&mut site, 2, 1), (6, 0));
    site.accept(join(1, "gw-3", 3));
    site.state.apply_role(site.next_revision(), node(3), Role::Learner);
    assert_eq!(level(&mut site, 1, 8), (6, 1));
    site.accept(Command::MemberRemove { node: node(3) });
    assert_eq!(
        site.state.feature_level(),
        6,
        "it is a member until the configuration is without it"
    );
    site.state.apply_role(site.next_revision(), node(3), Role::Removed);
    assert_eq!(site.state.feature_level(), 8);
}
