use super::*;

fn read(op: AdminOp, payload: &str) -> Result<Parsed, Failure> {
    parse(op, payload.as_bytes())
}

#[test]
fn every_operation_in_its_good_form() {
    let key = "ab".repeat(32);
    let join = format!(
        "{{\"token\":\"0102030405060708\",\"name\":\"gw-2\",\"sign_key\":\"{key}\",\"exchange_key\":\"{key}\",\"proof\":\"{key}\"}}"
    );
    assert!(matches!(read(AdminOp::MemberJoin, &join), Ok(Parsed::Command(Command::Join(_)))));
    assert!(matches!(
        read(AdminOp::MemberRemove, "{\"node\":3}"),
        Ok(Parsed::Command(Command::MemberRemove { .. }))
    ));
    assert!(matches!(
        read(AdminOp::MemberPromote, "{\"node\":3}"),
        Ok(Parsed::Command(Command::MemberPromote { .. }))
    ));
    assert!(matches!(
        read(AdminOp::VotersSet, "{\"voters\":5}"),
        Ok(Parsed::Command(Command::SetVoters { voters: 5 }))
    ));
    let create = format!(
        "{{\"id\":\"0102030405060708\",\"key\":\"{key}\",\"ttl\":\"10m\",\"uses\":2,\"note\":\"hall 2\"}}"
    );
    let Ok(Parsed::Command(Command::TokenCreate { ttl_ms, uses, .. })) =
        read(AdminOp::TokenCreate, &create)
    else {
        panic!("{create}")
    };
    assert_eq!((ttl_ms, uses), (600_000, 2));
    let revoke = "{\"id\":\"0102030405060708\"}";
    assert!(matches!(
        read(AdminOp::TokenRevoke, revoke),
        Ok(Parsed::Command(Command::TokenRevoke { .. }))
    ));
    for empty in ["", "{}"] {
        assert_eq!(
            read(AdminOp::LeaderTransfer, empty),
            Ok(Parsed::Request(AdminRequest::LeaderTransfer { to: None }))
        );
        assert_eq!(
            read(AdminOp::SnapshotTake, empty),
            Ok(Parsed::Request(AdminRequest::SnapshotTake))
        );
        assert_eq!(
            read(AdminOp::SnapshotInfo, empty),
            Ok(Parsed::Request(AdminRequest::SnapshotInfo))
        );
    }
}

#[test]
fn refusals_name_the_field() {
    let key = "ab".repeat(32);
    let short = format!("{{\"id\":\"0102030405060708\",\"key\":\"{key}\"");
    let cases = [
        (AdminOp::MemberRemove, String::new(), "no field \"node\""),
        (AdminOp::MemberRemove, "{\"node\":0}".to_owned(), "a node id is 1 or more"),
        (AdminOp::MemberRemove, "{\"node\":-1}".to_owned(), "must be between"),
        (AdminOp::MemberRemove, "{\"name\":\"x\"}".to_owned(), "unknown field \"name\""),
        (AdminOp::VotersSet, "{\"voters\":4}".to_owned(), "not an odd number from 1 to 7"),
        (AdminOp::VotersSet, "{\"voters\":9}".to_owned(), "not an odd number from 1 to 7"),
        (AdminOp::VotersSet, "{\"voters\":257}".to_owned(), "not an odd number from 1 to 7"),
        (AdminOp::VotersSet, "{}".to_owned(), "no field \"voters\""),
        (AdminOp::TokenCreate, "{\"id\":\"01\"}".to_owned(), "field \"id\""),
        (AdminOp::TokenCreate, format!("{short},\"ttl\":\"0s\"}}"), "allowed is 1s to 30d"),
        (AdminOp::TokenCreate, format!("{short},\"ttl\":\"31d\"}}"), "allowed is 1s to 30d"),
        (AdminOp::TokenCreate, format!("{short},\"uses\":0}}"), "field \"uses\""),
        (AdminOp::TokenCreate, format!("{short},\"uses\":1000000}}"), "field \"uses\""),
        (
            AdminOp::TokenCreate,
            "{\"id\":\"0102030405060708\",\"key\":\"zz\"}".to_owned(),
            "64 lower-case hexadecimal",
        ),
        (AdminOp::LeaderTransfer, "{\"to\":1}".to_owned(), "unknown field \"to\""),
        (AdminOp::SnapshotTake, "{\"x\":1}".to_owned(), "unknown field \"x\""),
        (AdminOp::SnapshotTake, "[]".to_owned(), "must be a JSON object"),
    ];
    for (op, payload, expected) in cases {
        let failure = read(op, &payload).expect_err(&payload);
        assert!(failure.message.contains(expected), "{op} {payload}: {failure}");
    }
}
