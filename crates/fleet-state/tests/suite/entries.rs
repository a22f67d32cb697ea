//! Entries: versions, kinds, sizes.

use fleet_state::limits::{BATCH_ITEMS_MAX, ENTRY_BYTES_MAX};
use fleet_state::{BatchItem, Body, Command, DecodeError, Entry, Proposal, RejectCode, Value};

use crate::site::{set, update};

fn proposal(command: Command) -> Proposal {
    Proposal { request_id: "r".parse().unwrap(), if_revision: None, actor: None, command }
}

#[test]
fn unknown_versions_and_kinds_are_errors() {
    let tick = Entry { log_time_ms: 5, wall_time_ms: 6, body: Body::TimeTick };
    let bytes = tick.encode();
    assert_eq!(bytes, [1, 2, 5, 6]);
    assert_eq!(Entry::decode(&bytes), Ok(tick));
    assert_eq!(
        Entry::decode(&[2, 2, 5, 6]),
        Err(DecodeError::UnknownVersion { what: "an entry", found: 2 })
    );
    assert_eq!(
        Entry::decode(&[1, 9, 5, 6]),
        Err(DecodeError::UnknownKind { what: "an entry", found: 9 })
    );
    assert_eq!(Entry::decode(&[1, 2, 5, 6, 0]), Err(DecodeError::TrailingBytes { count: 1 }));
    assert_eq!(Entry::decode(&[]), Err(DecodeError::Truncated));
    let huge = vec![1; ENTRY_BYTES_MAX + 1];
    assert!(matches!(Entry::decode(&huge), Err(DecodeError::TooLong { .. })));
}

#[test]
fn a_proposal_is_put_into_an_entry_without_encoding_it_again() {
    let proposal = proposal(set("a.b", "1"));
    let entry =
        Entry { log_time_ms: 300, wall_time_ms: 400, body: Body::Proposal(proposal.clone()) };
    assert_eq!(Entry::encode_with(300, 400, &proposal.encode()), entry.encode());
    assert_eq!(Proposal::decode(&proposal.encode()), Ok(proposal));
}

#[test]
fn what_validates_fits_into_an_entry() {
    let text = "x".repeat(32 * 1024 - 2);
    let largest = proposal(set("a", &format!("{:?}", text)));
    largest.validate().unwrap();
    let entry = Entry::encode_with(u64::MAX, u64::MAX, &largest.encode());
    assert!(Entry::decode(&entry).is_ok());

    let item =
        || BatchItem { command: set("a", &format!("{:?}", "x".repeat(30_000))), if_revision: None };
    let batch = |count| proposal(Command::Batch((0..count).map(|_| item()).collect()));
    batch(8).validate().unwrap();
    assert_eq!(batch(9).validate().unwrap_err().code, RejectCode::TooLarge);
    let many = |count: usize| {
        let item = BatchItem { command: update("d", "{}"), if_revision: None };
        proposal(Command::Batch(vec![item; count]))
    };
    many(BATCH_ITEMS_MAX).validate().unwrap();
    assert_eq!(many(BATCH_ITEMS_MAX + 1).validate().unwrap_err().code, RejectCode::TooLarge);
}

#[test]
fn a_value_is_measured_as_json_and_by_depth() {
    let check =
        |value: Value| proposal(Command::ParamSet { key: "k".parse().unwrap(), value }).validate();
    check(Value::from("x".repeat(32 * 1024 - 2))).unwrap();
    let error = check(Value::from("x".repeat(32 * 1024 - 1))).unwrap_err();
    assert_eq!(error.code, RejectCode::TooLarge);
    assert!(
        error.message.contains("32769") && error.message.contains("32768"),
        "{}",
        error.message
    );
    let nested = |depth: usize| (0..depth).fold(Value::Null, |inner, _| Value::List(vec![inner]));
    check(nested(32)).unwrap();
    assert_eq!(check(nested(33)).unwrap_err().code, RejectCode::TooLarge);
    assert_eq!(check(nested(2_000)).unwrap_err().code, RejectCode::TooLarge);
}
