//! Join tokens: creating, using up, expiring, revoking.

use fleet_state::limits::{TOKEN_KEPT_MS, TOKEN_TTL_MS_MAX, TOKEN_USES_MAX, TOKENS_MAX};
use fleet_state::{Command, FleetState, FoundingParams, FoundingToken, Outcome, RejectCode};

use crate::site::{
    Site, create_token, founding, join, join_request, restored, snapshot_of, token_id, token_key,
};

#[test]
fn created_once_within_limits() {
    let mut site = Site::default();
    site.accept(create_token(1, 60_000, 1));
    site.reject(create_token(1, 60_000, 1), RejectCode::AlreadyExists);
    for (ttl_ms, uses) in
        [(0, 1), (999, 1), (31 * 24 * 3_600_000, 1), (u64::MAX, 1), (1_000, 0), (1_000, 65)]
    {
        site.reject(create_token(2, ttl_ms, uses), RejectCode::Malformed);
    }
    let revoke = Command::TokenRevoke { id: token_id(1) };
    let revision = site.state.token(&token_id(1)).unwrap().revision.get();
    site.reject_if(Some(0), create_token(1, 60_000, 1), RejectCode::RevisionMismatch);
    site.reject_if(Some(revision + 1), revoke.clone(), RejectCode::RevisionMismatch);
    site.accept(revoke.clone());
    site.reject(revoke, RejectCode::NotFound);
    site.reject(join(1, "gw-2", 2), RejectCode::TokenUnknown);
}

#[test]
fn a_single_use_token_is_used_once() {
    let mut site = Site::default();
    site.accept(create_token(1, 60_000, 1));
    let applied = site.run(join(1, "gw-2", 2));
    assert_eq!(applied.changes.len(), 2);
    let token = site.state.token(&token_id(1)).unwrap();
    assert_eq!((token.uses_left, token.used_by.len()), (0, 1));
    site.reject(join(1, "gw-3", 3), RejectCode::TokenUsed);
}

#[test]
fn a_founding_token_beyond_the_limits_is_brought_within_them() {
    let token = FoundingToken {
        id: token_id(1),
        key: token_key(1),
        ttl_ms: u64::MAX,
        uses: 1_000,
        note: "x".repeat(129).into(),
    };
    let params = FoundingParams { token: Some(token), ..founding("home", 1) };
    let mut site = Site { state: FleetState::found(params), ..Site::default() };
    let token = site.state.token(&token_id(1)).unwrap();
    assert_eq!((token.uses_left, token.expires_log_ms), (TOKEN_USES_MAX, TOKEN_TTL_MS_MAX));
    // Used to its end it can still be read; its members make room for each other.
    for number in 2..=65 {
        let node = site.state.next_node();
        site.accept(join(1, &format!("gw-{number}"), number));
        site.accept(Command::MemberRemove { node });
    }
    site.reject(join(1, "gw-99", 99), RejectCode::TokenUsed);
    assert_eq!(restored(&snapshot_of(&site.state)).digests(), site.state.digests());
}

#[test]
fn time_is_log_time() {
    let mut site = Site::default();
    site.tick(1_000);
    site.accept(create_token(1, 60_000, 2));
    assert_eq!(site.state.token(&token_id(1)).unwrap().expires_log_ms, 61_000);
    assert_eq!(site.state.next_deadline_log_ms(), Some(61_000));
    site.tick(59_999);
    site.accept(join(1, "gw-2", 2));
    site.tick(1);
    site.reject(join(1, "gw-3", 3), RejectCode::TokenExpired);
    // Wall time going backwards means nothing, nor does log time.
    site.wall_time_ms = 0;
    site.log_time_ms = 5;
    site.reject(join(1, "gw-3", 3), RejectCode::TokenExpired);
    assert_eq!(site.state.log_time_ms(), 61_000);
    assert_eq!(site.state.next_deadline_log_ms(), Some(61_000 + TOKEN_KEPT_MS));
    site.log_time_ms = 61_000 + TOKEN_KEPT_MS;
    let applied = site.tick(0);
    assert!(applied.answer.is_none() && applied.request_id.is_none());
    assert_eq!(applied.changes.len(), 1);
    assert!(applied.changes[0].record.is_none());
    assert_eq!(site.state.next_deadline_log_ms(), None);
    site.reject(join(1, "gw-3", 3), RejectCode::TokenUnknown);
}

#[test]
fn a_forged_request_learns_nothing_and_uses_nothing() {
    let mut site = Site::default();
    site.accept(create_token(1, 60_000, 1));
    let right = join_request(1, "gw-2", 2);
    let mut proof = right.proof;
    proof[31] ^= 1;
    site.reject(
        Command::Join(fleet_state::JoinRequest { proof, ..right.clone() }),
        RejectCode::ProofInvalid,
    );
    let renamed = fleet_state::JoinRequest { name: "gw-3".parse().unwrap(), ..right.clone() };
    site.reject(Command::Join(renamed), RejectCode::ProofInvalid);
    let mut keys = right.keys;
    keys.exchange[0] ^= 1;
    site.reject(
        Command::Join(fleet_state::JoinRequest { keys, ..right.clone() }),
        RejectCode::ProofInvalid,
    );
    site.accept(Command::Join(right));
}

/// Whoever asks to join need not belong to anything, so a refusal must not need the log.
#[test]
fn what_the_log_would_refuse_is_refused_without_it() {
    let mut site = Site::default();
    site.accept(create_token(1, 60_000, 1));
    let id: fleet_state::RequestId = "join-1".parse().unwrap();
    let right = join_request(1, "gw-2", 2);
    let refusal = |site: &Site, request: &fleet_state::JoinRequest| {
        site.state.join_refusal(&id, request).map(|rejection| rejection.code)
    };
    let mut proof = right.proof;
    proof[31] ^= 1;
    let forged = fleet_state::JoinRequest { proof, ..right.clone() };
    assert_eq!(refusal(&site, &forged), Some(RejectCode::ProofInvalid));
    assert_eq!(refusal(&site, &join_request(2, "gw-2", 2)), Some(RejectCode::TokenUnknown));
    assert_eq!(refusal(&site, &right), None);
    site.accept(Command::Join(right.clone()));
    // Who lost the answer asks again, and is let through; who comes after it is not.
    assert_eq!(refusal(&site, &right), None);
    assert_eq!(refusal(&site, &join_request(1, "gw-3", 3)), Some(RejectCode::TokenUsed));
    let taken = fleet_state::JoinRequest { name: "gw-3".parse().unwrap(), ..right };
    assert_eq!(refusal(&site, &taken), Some(RejectCode::AlreadyExists));
}

#[test]
fn spent_tokens_make_room() {
    let mut site = Site::default();
    let create = |number: usize, ttl_ms| {
        let bytes = (number as u64).to_be_bytes();
        let id = fleet_state::TokenId::from_bytes(bytes);
        Command::TokenCreate { id, key: [1; 32], ttl_ms, uses: 1, note: "".into() }
    };
    for number in 0..TOKENS_MAX {
        site.accept(create(number, 10_000 + number as u64));
    }
    let message = site.reject(create(1_000, 10_000), RejectCode::LimitReached);
    assert!(message.contains("256 join tokens"), "{message}");
    site.tick(10_001);
    let applied = site.run(create(1_000, 10_000));
    assert!(matches!(applied.answer.unwrap().outcome, Outcome::Accepted(_)));
    assert_eq!(applied.changes.len(), 2);
    assert_eq!(site.state.tokens_len(), TOKENS_MAX);
    assert!(site.state.token(&fleet_state::TokenId::from_bytes([0; 8])).is_none());
}
