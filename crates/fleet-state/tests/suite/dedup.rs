//! Retries: the first answer, other commands, expiry.

use fleet_state::limits::{DEDUP_RECORDS_MAX, DEDUP_WINDOW_MS};
use fleet_state::{Command, RejectCode, RequestId};

use crate::site::{
    Site, create_token, delete_link, join, register, rejection, restored, set, snapshot_of, update,
    uuid_v7,
};

fn id(text: &str) -> RequestId {
    text.parse().unwrap()
}

#[test]
fn a_retry_gets_the_first_answer() {
    let mut site = Site::default();
    let first = site.propose(id("a"), None, set("p", "1")).answer.unwrap();
    site.accept(set("p", "2"));
    let again = site.propose(id("a"), None, set("p", "1"));
    assert_eq!(again.answer.as_ref(), Some(&first));
    assert_eq!(again.request_id, Some(id("a")));
    assert!(again.changes.is_empty());
    assert_eq!(site.state.param(&"p".parse().unwrap()).unwrap().value, crate::site::json("2"));
    assert_eq!(site.state.answer_for(&id("a")), Some(first));
    assert_eq!(site.state.answer_for(&id("b")), None);
}

#[test]
fn a_rejection_is_repeated_though_it_would_succeed_now() {
    let mut site = Site::default();
    let first = site.propose(id("a"), None, update("d", "{}")).answer.unwrap();
    assert_eq!(rejection(&first), Some(RejectCode::NotFound));
    site.accept(register("d"));
    assert_eq!(site.propose(id("a"), None, update("d", "{}")).answer.unwrap(), first);
    let unchanged = site.propose(id("b"), None, register("d")).answer.unwrap();
    assert_eq!(site.propose(id("b"), None, register("d")).answer.unwrap(), unchanged);
    let malformed = site.propose(id("c"), None, Command::SetVoters { voters: 2 }).answer.unwrap();
    assert_eq!(
        site.propose(id("c"), None, Command::SetVoters { voters: 2 }).answer.unwrap(),
        malformed
    );
}

#[test]
fn a_join_is_repeated_with_its_node_id() {
    let mut site = Site::default();
    site.accept(create_token(1, 60_000, 1));
    let first = site.propose(id("a"), None, join(1, "gw-2", 2)).answer.unwrap();
    assert_eq!(site.propose(id("a"), None, join(1, "gw-2", 2)).answer.unwrap(), first);
    let mut copy = Site { state: restored(&snapshot_of(&site.state)), ..Site::default() };
    assert_eq!(copy.propose(id("a"), None, join(1, "gw-2", 2)).answer.unwrap(), first);
}

#[test]
fn one_id_is_for_one_command() {
    let mut site = Site::default();
    let first = site.propose(id("a"), None, set("p", "1")).answer.unwrap();
    for (if_revision, command) in
        [(None, set("p", "2")), (Some(0), set("p", "1")), (None, delete_link("l"))]
    {
        let answer = site.propose(id("a"), if_revision, command).answer.unwrap();
        assert_eq!(rejection(&answer), Some(RejectCode::RequestIdReused));
    }
    // The refusals did not take the place of the first answer.
    assert_eq!(site.propose(id("a"), None, set("p", "1")).answer.unwrap(), first);
}

#[test]
fn answers_age_by_log_time_and_uuids_leave_a_horizon() {
    let mut site = Site::default();
    let now = site.wall_time_ms;
    site.propose(uuid_v7(now, 1), None, set("p", "1"));
    site.propose(uuid_v7(now + 1, 1), None, set("p", "2"));
    site.propose(id("text"), None, set("p", "3"));
    site.tick(DEDUP_WINDOW_MS);
    assert_eq!(site.state.answers_len(), 3);
    site.tick(1);
    assert_eq!(site.state.answers_len(), 0);
    for (unix_ms, tail) in [(now, 1), (now + 1, 1), (now, 99), (0, 0)] {
        let answer = site.propose(uuid_v7(unix_ms, tail), None, set("p", "1")).answer.unwrap();
        assert_eq!(rejection(&answer), Some(RejectCode::RequestExpired), "{unix_ms} {tail}");
    }
    assert_eq!(site.state.answers_len(), 0);
    // Newer ones, and ids that are no UUIDv7, are new.
    assert_eq!(
        rejection(&site.propose(uuid_v7(now + 1, 2), None, set("p", "4")).answer.unwrap()),
        None
    );
    assert_eq!(rejection(&site.propose(id("text"), None, set("p", "5")).answer.unwrap()), None);
    let mut copy = Site { state: restored(&snapshot_of(&site.state)), ..Site::default() };
    let answer = copy.propose(uuid_v7(now, 7), None, set("p", "1")).answer.unwrap();
    assert_eq!(rejection(&answer), Some(RejectCode::RequestExpired));
}

#[test]
fn the_horizon_is_the_newest_and_not_the_last_forgotten() {
    let mut site = Site::default();
    let now = site.wall_time_ms;
    site.propose(uuid_v7(now, 5), None, set("p", "1"));
    site.propose(uuid_v7(now, 3), None, set("p", "2"));
    site.tick(DEDUP_WINDOW_MS + 1);
    let answer = site.propose(uuid_v7(now, 4), None, set("p", "3")).answer.unwrap();
    assert_eq!(rejection(&answer), Some(RejectCode::RequestExpired));
    let answer = site.propose(uuid_v7(now, 6), None, set("p", "3")).answer.unwrap();
    assert_eq!(rejection(&answer), None);
}

#[test]
fn a_client_from_the_future_does_not_shut_out_the_others() {
    let mut site = Site::default();
    let now = site.wall_time_ms;
    site.propose(uuid_v7(now + 86_400_000, 1), None, set("p", "1"));
    site.tick(DEDUP_WINDOW_MS + 1);
    let answer = site.propose(uuid_v7(site.wall_time_ms, 1), None, set("p", "2")).answer.unwrap();
    assert_eq!(rejection(&answer), None);
}

#[test]
fn a_clock_that_was_put_back_does_not_forget_what_right_clients_did() {
    let mut site = Site::default();
    let now = site.wall_time_ms;
    let first = site.propose(uuid_v7(now, 1), None, set("p", "1")).answer.unwrap();
    site.propose(id("text"), None, set("p", "2"));
    // The next leader's clock is a day behind, and the site's log time has gone on.
    site.wall_time_ms = now - 86_400_000;
    site.tick(DEDUP_WINDOW_MS * 2);
    assert_eq!(site.propose(uuid_v7(now, 1), None, set("p", "1")).answer.unwrap(), first);
    // Those behind it age as ever, and it ages when the clock has come past it.
    assert_eq!(site.state.answers_len(), 1);
    site.wall_time_ms = now;
    site.tick(1);
    assert_eq!(site.state.answers_len(), 1);
    site.tick(DEDUP_WINDOW_MS);
    assert_eq!(site.state.answers_len(), 0);
    let late = site.propose(uuid_v7(now, 1), None, set("p", "1")).answer.unwrap();
    assert_eq!(rejection(&late), Some(RejectCode::RequestExpired));
}

#[test]
fn a_client_with_a_fast_clock_does_not_lift_the_horizon_into_the_present() {
    for ahead_ms in [30_000, DEDUP_WINDOW_MS - 1, DEDUP_WINDOW_MS + 30_000] {
        let mut site = Site::default();
        let fast = uuid_v7(site.wall_time_ms + ahead_ms, 1);
        let first = site.propose(fast.clone(), None, set("p", "1")).answer.unwrap();
        for _ in 0..4 {
            site.tick(DEDUP_WINDOW_MS / 2);
            // The others may be behind by nearly the window.
            let honest = uuid_v7(site.wall_time_ms + 1 - DEDUP_WINDOW_MS, 2);
            let answer = site.propose(honest, None, set("p", "2")).answer.unwrap();
            assert_ne!(rejection(&answer), Some(RejectCode::RequestExpired), "{ahead_ms}");
            // And the fast one is never carried out again.
            let again = site.propose(fast.clone(), None, set("p", "1")).answer.unwrap();
            let expired = rejection(&again) == Some(RejectCode::RequestExpired);
            assert!(again == first || expired, "{ahead_ms}: {again:?}");
        }
    }
}

/// Applies `number` commands, one a millisecond, with right stamps.
fn crowd(site: &mut Site, number: u64) {
    for _ in 0..number {
        site.wall_time_ms += 1;
        let id = uuid_v7(site.wall_time_ms, 7);
        let proposal = fleet_state::Proposal {
            request_id: id,
            if_revision: None,
            actor: None,
            command: delete_link("none"),
        };
        let entry = fleet_state::Entry {
            log_time_ms: site.log_time_ms,
            wall_time_ms: site.wall_time_ms,
            body: fleet_state::Body::Proposal(proposal),
        };
        let revision = site.next_revision();
        let answer = site.state.apply(revision, &entry).answer.unwrap();
        assert_eq!(rejection(&answer), Some(RejectCode::NotFound));
    }
}

#[test]
fn stamps_that_are_ahead_are_held_while_others_make_room() {
    let mut site = Site::default();
    // Fifty seconds ahead is near enough to move the horizon, and the crowd fills the memory sooner than that.
    let fast = uuid_v7(site.wall_time_ms + 50_000, 1);
    let first = site.propose(fast.clone(), None, set("p", "1")).answer.unwrap();
    let text = site.propose(id("text"), None, set("p", "2")).answer.unwrap();
    let far = uuid_v7(site.wall_time_ms + 86_400_000, 1);
    site.propose(far.clone(), None, set("p", "3"));
    crowd(&mut site, DEDUP_RECORDS_MAX as u64 - 3);
    assert_eq!(site.propose(id("text"), None, set("p", "2")).answer.unwrap(), text);
    // The first to go are those that leave no horizon, then come the stamps in their order.
    crowd(&mut site, 2);
    assert_eq!(site.state.answer_for(&id("text")), None);
    assert_eq!(site.state.answer_for(&far), None);
    let slow = uuid_v7(1_700_000_000_000, 9);
    assert_eq!(
        rejection(&site.propose(slow, None, delete_link("none")).answer.unwrap()),
        Some(RejectCode::NotFound)
    );
    let copy = restored(&snapshot_of(&site.state));
    let mut copy =
        Site { state: copy, wall_time_ms: site.wall_time_ms, log_time_ms: site.log_time_ms };
    for site in [&mut site, &mut copy] {
        crowd(site, 100);
        assert_eq!(site.propose(fast.clone(), None, set("p", "1")).answer.unwrap(), first);
        assert_eq!(site.state.answers_len(), DEDUP_RECORDS_MAX);
    }
    assert_eq!(copy.state.digests(), site.state.digests());
    // When the others have come up to it, it goes, and is not carried out again.
    crowd(&mut site, 50_000);
    let answer = site.propose(fast, None, set("p", "1")).answer.unwrap();
    assert_eq!(rejection(&answer), Some(RejectCode::RequestExpired));
}

#[test]
fn a_quiet_night_is_forgotten_in_steps() {
    let mut site = Site::default();
    for number in 0..100 {
        site.propose(id(&format!("r-{number}")), None, set("p", &number.to_string()));
    }
    site.tick(DEDUP_WINDOW_MS * 100);
    assert_eq!(site.state.answers_len(), 84);
    for _ in 0..6 {
        site.tick(0);
    }
    assert_eq!(site.state.answers_len(), 0);
}

#[test]
fn the_memory_is_bounded_and_drops_the_oldest() {
    let mut site = Site::default();
    let now = site.wall_time_ms;
    let mut propose = |number: u64| {
        let proposal = fleet_state::Proposal {
            request_id: uuid_v7(now + number, number),
            if_revision: None,
            actor: None,
            command: set("p", &number.to_string()),
        };
        let body = fleet_state::Body::Proposal(proposal);
        let entry = fleet_state::Entry { log_time_ms: 0, wall_time_ms: now + number, body };
        let revision = site.next_revision();
        site.state.apply(revision, &entry).answer.unwrap()
    };
    for number in 0..DEDUP_RECORDS_MAX as u64 + 10 {
        propose(number);
    }
    assert_eq!(rejection(&propose(9)), Some(RejectCode::RequestExpired));
    assert_eq!(propose(10).revision.get(), 12);
    assert_eq!(site.state.answers_len(), DEDUP_RECORDS_MAX);
    let copy = restored(&snapshot_of(&site.state));
    assert_eq!(copy.digests(), site.state.digests());
}

#[test]
fn an_entry_is_applied_once() {
    let mut site = Site::default();
    site.accept(set("p", "1"));
    let digests = site.state.digests();
    let entry =
        fleet_state::Entry { log_time_ms: 9, wall_time_ms: 9, body: fleet_state::Body::TimeTick };
    let last = site.state.last_applied();
    assert_eq!(site.state.apply(last, &entry), fleet_state::Applied::default());
    assert_eq!(site.state.digests(), digests);
    site.state.skip(fleet_state::Revision::new(last.get() + 5));
    assert_eq!(site.state.last_applied().get(), last.get() + 5);
}

#[test]
fn messages_are_bounded() {
    let mut site = Site::default();
    let model = format!(r#"{{"required":["{}"]}}"#, "é".repeat(2_000));
    let spec = fleet_state::DeviceSpec {
        model: Some(fleet_state::Schema::from_value(crate::site::json(&model)).unwrap()),
        ..Default::default()
    };
    site.accept(Command::DeviceRegister { id: "d".parse().unwrap(), spec });
    let message = site.reject(update("d", "{}"), RejectCode::Schema);
    assert!(message.len() <= 240 && message.ends_with('…'), "{message}");
}
