use super::*;
use crate::{ErrorCode, Noun, QueryTarget};

const PREFIX: &str = "flotilla.home.";

fn ask(subject: &str, headers: &[(&str, &str)], payload: &[u8]) -> Result<Request, Refused> {
    let subjects = Subjects::new(&"home".parse().unwrap());
    let subject = format!("{PREFIX}{subject}");
    let incoming = Incoming { subject: &subject, payload };
    parse(
        &subjects,
        &"gw-1".parse().unwrap(),
        incoming,
        headers.iter().copied(),
        "made-here".parse().unwrap(),
    )
}

#[test]
fn a_command_carries_its_options() {
    let headers = [
        ("Flotilla-Request-Id", "r-1"),
        ("Flotilla-If-Revision", "3"),
        ("Flotilla-Timeout", "2s"),
        ("Flotilla-Actor", "ada"),
    ];
    let request = ask("control.commands.param.set.a", &headers, b"1").unwrap();
    assert_eq!(request.request_id, "r-1".parse().unwrap());
    assert_eq!(request.timeout_ms, 2_000);
    let Action::Command(command) = request.action else { panic!() };
    assert_eq!(command.proposal.request_id, "r-1".parse().unwrap());
    assert_eq!(command.proposal.if_revision.map(|revision| revision.get()), Some(3));
    assert_eq!(command.proposal.actor.as_deref(), Some("ada"));
    assert_eq!(command.wait, WaitFor::Committed);
    assert!(command.target.is_some());
}

#[test]
fn a_request_without_an_id_gets_one() {
    let request = ask("control.commands.param.set.a", &[], b"1").unwrap();
    assert_eq!(request.request_id, "made-here".parse().unwrap());
    let refused = ask("control.commands.param.set.a", &[], b"").unwrap_err();
    assert_eq!(refused.request_id, None);
    let refused = ask("control.commands.param.set.a", &[("Nats-Msg-Id", "r-2")], b"").unwrap_err();
    assert_eq!(refused.request_id, Some("r-2".parse().unwrap()));
}

#[test]
fn each_family_is_told_apart() {
    assert!(matches!(
        ask("control.admin.voters.set", &[], b"{\"voters\":3}").unwrap().action,
        Action::Command(_)
    ));
    assert!(matches!(
        ask("control.admin.snapshot.take", &[], b"").unwrap().action,
        Action::Admin(_)
    ));
    assert!(
        matches!(ask("control.changes.since.9", &[], b"{\"stream\":true}").unwrap().action, Action::Changes(request) if request.stream)
    );
    assert!(matches!(
        ask("control.node.gw-1.status", &[], b"").unwrap().action,
        Action::Node(NodeRequest::Status)
    ));
    assert!(matches!(
        ask("control.all.status", &[], b"").unwrap().action,
        Action::Node(NodeRequest::Status)
    ));
    let Action::Query(query) = ask(
        "control.query.device.list.hall2",
        &[("flotilla-consistency", "stale")],
        b"{\"limit\":5,\"after\":\"hall2.a\",\"labels\":{\"x\":\"y\"}}",
    )
    .unwrap()
    .action
    else {
        panic!()
    };
    assert!(matches!(query.target, QueryTarget::List { noun: Noun::Device, area: Some(_) }));
    assert_eq!((query.page.limit, query.page.after.as_deref()), (5, Some("hall2.a")));
}

#[test]
fn options_that_would_not_be_looked_at_are_refused() {
    let cases = [
        ("control.query.device.list", "Flotilla-If-Revision", "1", ""),
        ("control.query.device.list", "Flotilla-Wait", "sent", ""),
        ("control.commands.param.set.a", "Flotilla-Consistency", "stale", "1"),
        (
            "control.commands.batch",
            "Flotilla-If-Revision",
            "1",
            "[{\"op\":\"param.delete\",\"id\":\"a\"}]",
        ),
        ("control.admin.voters.set", "Flotilla-If-Revision", "1", "{\"voters\":3}"),
        ("control.changes.since.1", "Flotilla-Consistency", "stale", ""),
    ];
    for (subject, header, value, payload) in cases {
        let refused = ask(subject, &[(header, value)], payload.as_bytes()).unwrap_err();
        assert!(
            refused.failure.message.contains("has no meaning"),
            "{subject}: {}",
            refused.failure
        );
        assert!(refused.failure.message.contains(header));
    }
}

#[test]
fn bad_questions() {
    let cases = [
        ("control.query.device.list", "{\"limit\":0}", "field \"limit\""),
        ("control.query.device.list", "{\"limit\":1001}", "field \"limit\""),
        ("control.query.device.list", "{\"limit\":-1}", "field \"limit\""),
        ("control.query.device.list", "{\"after\":\"A\"}", "field \"after\""),
        ("control.query.param.list", "{\"labels\":{}}", "unknown field \"labels\""),
        ("control.query.device.get.a", "{\"x\":1}", "unknown field \"x\""),
        ("control.changes.since.1", "{\"after\":\"hall2\"}", "field \"after\""),
        ("control.changes.since.1", "{\"stream\":1}", "must be true or false"),
        ("control.node.gw-2.status", "", "is for node gw-2"),
        ("control.node.gw-1.snapshot", "", "no field \"index\""),
        ("control.node.gw-1.snapshot", "{\"index\":1,\"length\":0}", "field \"length\""),
        ("control.node.gw-1.snapshot", "{\"index\":1,\"length\":999999999}", "field \"length\""),
        ("raft.1", "", "sealed frames"),
        ("control.query.devise.list", "", "did you mean \"device\"?"),
    ];
    for (subject, payload, expected) in cases {
        let refused = ask(subject, &[], payload.as_bytes()).unwrap_err();
        assert!(
            refused.failure.message.contains(expected),
            "{subject} {payload}: {}",
            refused.failure
        );
    }
}

#[test]
fn a_payload_beyond_its_bound_is_not_looked_at() {
    let large = vec![b'['; REQUEST_BYTES_MAX + 1];
    let refused = ask("control.commands.batch", &[], &large).unwrap_err();
    assert_eq!(refused.failure.code, ErrorCode::TooLarge);
}

/// Garbage, truncations and other requests' payloads: an answer always, a panic never.
#[test]
fn any_payload_on_any_subject() {
    let good =
        br#"[{"op":"device.register","id":"a","body":{"labels":{"a":"b"}},"if_revision":0}]"#;
    let mut payloads: Vec<Vec<u8>> = (0..good.len()).map(|end| good[..end].to_vec()).collect();
    payloads.extend([
        vec![0xff, 0xfe],
        vec![0; 100],
        b"\xef\xbb\xbf{}".to_vec(),
        vec![b'{'; 5_000],
        b"\"\\ud800\"".to_vec(),
    ]);
    let subjects = [
        "control.commands.batch",
        "control.commands.param.set.a",
        "control.commands.device.register.a",
        "control.commands.link.register.a",
        "control.admin.member.join",
        "control.admin.token.create",
        "control.query.device.list",
        "control.changes.since.0",
        "control.node.gw-1.snapshot",
    ];
    for subject in subjects {
        for payload in &payloads {
            let _ = ask(subject, &[], payload);
        }
    }
}
