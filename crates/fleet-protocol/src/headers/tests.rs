use super::*;

fn parse(headers: &[(&str, &str)]) -> Result<Options, Failure> {
    Options::parse(headers.iter().copied())
}

#[test]
fn every_header_in_any_case() {
    let options = parse(&[
        ("FLOTILLA-request-ID", "order-7"),
        ("flotilla-if-revision", "0"),
        ("Flotilla-Timeout", " 500ms "),
        ("Flotilla-Wait", "Verified"),
        ("flotilla-consistency", "STALE"),
        ("Flotilla-Actor", "Ada Müller"),
        ("TraceParent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("X-Other", "anything"),
        ("Nats-Expected-Stream", "x"),
    ])
    .unwrap();
    assert_eq!(options.request_id, Some("order-7".parse().unwrap()));
    assert_eq!(options.if_revision, Some(Revision::new(0)));
    assert_eq!(options.timeout_ms(), 500);
    assert_eq!(options.wait(), WaitFor::Verified);
    assert_eq!(options.consistency(), Consistency::Stale);
    assert_eq!(options.actor.as_deref(), Some("Ada Müller"));
    assert!(options.traceparent.is_some());
}

#[test]
fn defaults() {
    let options = parse(&[]).unwrap();
    assert_eq!(options, Options::NONE);
    assert_eq!(options.timeout_ms(), TIMEOUT_MS_DEFAULT);
    assert_eq!(options.wait(), WaitFor::Committed);
    assert_eq!(options.consistency(), Consistency::Linearizable);
}

#[test]
fn written_headers_are_read_back() {
    let options = Options {
        request_id: Some("a-1".parse().unwrap()),
        if_revision: Some(Revision::new(42)),
        ttl_ms: Some(5_000),
        timeout_ms: Some(1_500),
        wait: Some(WaitFor::Sent),
        consistency: Some(Consistency::Stale),
        actor: Some("me".to_owned()),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
    };
    let headers = options.to_headers();
    let read = Options::parse(headers.iter().map(|(name, value)| (*name, value.as_str())));
    assert_eq!(read, Ok(options));
}

#[test]
fn the_alias_may_agree_but_not_contradict() {
    let same = parse(&[("Nats-Msg-Id", "a"), ("Flotilla-Request-Id", "a")]).unwrap();
    assert_eq!(same.request_id, Some("a".parse().unwrap()));
    let error = parse(&[("Nats-Msg-Id", "a"), ("Flotilla-Request-Id", "b")]).unwrap_err();
    assert!(error.message.contains("different request ids"), "{error}");
}

#[test]
fn refused_headers_name_themselves() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("Flotilla-If-Revison", "3")], "did you mean \"Flotilla-If-Revision\"?"),
        (&[("Flotilla-", "3")], "\"Flotilla-\" is not known"),
        (&[("flotilla-\u{1b}[31m", "3")], "\\u{1b}"),
        (&[("Flotilla-If-Revision", "1"), ("flotilla-if-revision", "1")], "given twice"),
        (&[("Flotilla-If-Revision", "-1")], "\"-1\" is not a revision"),
        (&[("Flotilla-If-Revision", "+1")], "\"+1\" is not a revision"),
        (&[("Flotilla-If-Revision", "18446744073709551616")], "is not a revision"),
        (&[("Flotilla-If-Revision", "")], "is not a revision"),
        (&[("Flotilla-Timeout", "4")], "write a whole number and a unit"),
        (&[("Flotilla-Timeout", "0ms")], "allowed is 1ms to 1m"),
        (&[("Flotilla-Timeout", "61s")], "allowed is 1ms to 1m"),
        (&[("Flotilla-Timeout", "-4s")], "write a whole number and a unit"),
        (&[("Flotilla-Ttl", "4")], "not a length of time"),
        (&[("Flotilla-Ttl", "8d")], "allowed is 50ms to 7d"),
        (&[("Flotilla-Wait", "done")], "is not one of committed, sent, acknowledged, verified"),
        (&[("Flotilla-Consistency", "eventual")], "is not one of linearizable, stale"),
        (&[("Flotilla-Request-Id", "")], "Flotilla-Request-Id"),
        (&[("Flotilla-Request-Id", "a b")], "Flotilla-Request-Id"),
        (&[("Nats-Msg-Id", "é")], "Nats-Msg-Id"),
        (&[("Flotilla-Actor", "")], "Flotilla-Actor"),
        (&[("Flotilla-Actor", "a\u{7}")], "Flotilla-Actor"),
    ];
    for (headers, expected) in cases {
        let error = parse(headers).unwrap_err();
        assert_eq!(error.code, crate::ErrorCode::Malformed);
        assert!(error.message.contains(expected), "{headers:?}: {error}");
    }
    let long = "x".repeat(HEADER_VALUE_BYTES_MAX + 1);
    assert!(parse(&[("Flotilla-Actor", &long)]).unwrap_err().message.contains("longer than"));
}

#[test]
fn a_bomb_of_headers_is_refused() {
    let many = vec![("x", "y"); HEADERS_MAX + 1];
    assert!(parse(&many).unwrap_err().message.contains("more than"));
}

#[test]
fn a_broken_trace_context_is_dropped() {
    for broken in ["", "00-xyz", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", "ü"] {
        assert_eq!(parse(&[("traceparent", broken)]).unwrap().traceparent, None, "{broken}");
    }
}

#[test]
fn a_stage_means_something_to_who_waits() {
    use fleet_state::Stage;
    for wait in WaitFor::ALL {
        assert_eq!(wait.met_by(Stage::Verified), Some(true));
        let end = if *wait == WaitFor::Committed { Some(true) } else { Some(false) };
        for stage in
            [Stage::Failed, Stage::Expired, Stage::Cancelled, Stage::Superseded, Stage::Unknown]
        {
            assert_eq!(wait.met_by(stage), end, "{wait} {stage:?}");
        }
    }
    assert_eq!(WaitFor::Acknowledged.met_by(Stage::Sent), None);
    assert_eq!(WaitFor::Sent.met_by(Stage::Acknowledged), Some(true));
    assert_eq!(WaitFor::Sent.met_by(Stage::Dispatching), None);
    assert_eq!(WaitFor::Committed.met_by(Stage::Committed), Some(true));
}
