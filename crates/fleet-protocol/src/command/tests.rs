use super::*;

fn target(text: &str) -> CommandTarget {
    let subjects = crate::Subjects::new(&"home".parse().unwrap());
    let subject = format!("flotilla.home.control.commands.{text}");
    match subjects.parse(&subject) {
        Ok(crate::Inbound::Command(target)) => target,
        other => panic!("{other:?}"),
    }
}

fn read(subject: &str, payload: &str) -> Result<Command, Failure> {
    parse(&target(subject), payload.as_bytes(), None)
}

fn refusal(subject: &str, payload: &str) -> Failure {
    read(subject, payload).expect_err(payload)
}

#[test]
fn the_payload_is_the_value() {
    let Ok(Command::ParamSet { key, value }) = read("param.set.hall2.setpoint", "21.5") else {
        panic!()
    };
    assert_eq!(
        (key.to_string(), value.to_json()),
        ("hall2.setpoint".to_owned(), "21.5".to_owned())
    );
    let Ok(Command::DeviceUpdate { patch, .. }) = read("device.update.a", " {\"on\":null}\n")
    else {
        panic!()
    };
    assert_eq!(patch.to_json(), "{\"on\":null}");
    assert!(matches!(
        read("param.set.a", "null"),
        Ok(Command::ParamSet { value: Value::Null, .. })
    ));
    assert!(matches!(read("param.delete.a", ""), Ok(Command::ParamDelete { .. })));
}

#[test]
fn registrations() {
    let body = r#"{"link":"plc-1","address":"DB1.0","name":"Pumpe ä","labels":{"floor":"2"},"model":{"type":"object"}}"#;
    let Ok(Command::DeviceRegister { spec, .. }) = read("device.register.pump", body) else {
        panic!()
    };
    assert_eq!(spec.link, Some("plc-1".parse().unwrap()));
    assert_eq!(spec.labels.get("floor").map(AsRef::as_ref), Some("2"));
    assert!(spec.model.is_some());
    assert!(
        matches!(read("device.register.pump", "{}"), Ok(Command::DeviceRegister { spec, .. }) if spec == DeviceSpec::default())
    );

    let placements = [
        ("", "any"),
        (",\"placement\":\"any\"", "any"),
        (",\"placement\":{\"any\":{\"zone\":\"b\"}}", "any"),
        (",\"placement\":{\"on\":\"gw-1\"}", "on"),
    ];
    for (placement, kind) in placements {
        let body = format!("{{\"connector\":\"mqtt\",\"address\":\"mqtt://x\"{placement}}}");
        let Ok(Command::LinkRegister { spec, .. }) = read("link.register.plc-1", &body) else {
            panic!("{body}")
        };
        let found = if matches!(spec.placement, Placement::On(_)) { "on" } else { "any" };
        assert_eq!(found, kind);
    }
}

#[test]
fn refused_bodies_say_the_field_and_what_to_do() {
    let cases = [
        ("param.set.a", "", "the payload is empty"),
        ("param.set.a", "{", "line 1, column 2"),
        ("param.set.a", "nope", "line 1"),
        ("param.set.a", "NaN", "line 1"),
        ("param.set.a", "18446744073709551616", "line 1"),
        ("param.set.a", "1e309", "line 1"),
        ("param.set.a", "{\"a\":1,\"a\":2}", "twice"),
        ("param.set.a", "1 2", "line 1, column 3"),
        ("param.delete.a", "{}", "takes no payload"),
        ("device.update.a", "true", "must be a JSON object"),
        ("device.replace.a", "[1]", "must be a JSON object"),
        ("device.register.a", "[]", "the device must be a JSON object"),
        ("device.register.a", "{\"lnk\":\"x\"}", "unknown field \"lnk\"; did you mean \"link\"?"),
        ("device.register.a", "{\"link\":\"A\"}", "field \"link\""),
        ("device.register.a", "{\"name\":5}", "field \"name\" of the device: must be a text"),
        ("device.register.a", "{\"labels\":{\"a\":1}}", "the value of \"a\" must be a text"),
        ("device.register.a", "{\"model\":{\"typ\":\"object\"}}", "model"),
        ("link.register.a", "{}", "no field \"connector\""),
        ("link.register.a", "{\"connector\":\"m\",\"placement\":{}}", "the placement must be"),
        (
            "link.register.a",
            "{\"connector\":\"m\",\"placement\":{\"on\":\"g\",\"any\":{}}}",
            "the placement must be",
        ),
        ("batch", "{}", "a batch must be a JSON list"),
        ("batch", "[]", "the batch is empty"),
        ("batch", "[1]", "item 1 must be a JSON object"),
        (
            "batch",
            "[{\"op\":\"param.set\",\"id\":\"a\",\"body\":1},{\"op\":\"batch\",\"id\":\"\"}]",
            "a batch cannot be part of a batch",
        ),
        ("batch", "[{\"op\":\"param.sett\",\"id\":\"a\"}]", "did you mean \"param.set\"?"),
        ("batch", "[{\"op\":\"token.create\",\"id\":\"a\"}]", "cannot be part of a batch"),
        ("batch", "[{\"op\":\"param.set\",\"id\":\"A\",\"body\":1}]", "field \"id\" of item 1"),
        ("batch", "[{\"op\":\"param.set\",\"id\":\"a\"}]", "no field \"body\""),
        ("batch", "[{\"op\":\"param.delete\",\"id\":\"a\",\"body\":null}]", "takes none"),
        (
            "batch",
            "[{\"op\":\"param.set\",\"id\":\"a\",\"body\":1,\"if_revison\":1}]",
            "did you mean \"if_revision\"?",
        ),
        (
            "batch",
            "[{\"op\":\"param.set\",\"id\":\"a\",\"body\":1,\"if_revision\":-1}]",
            "must be between 0 and",
        ),
        (
            "batch",
            "[{\"op\":\"param.set\",\"id\":\"a\",\"body\":1,\"if_revision\":1.0}]",
            "must be a whole number",
        ),
        (
            "batch",
            "[{\"op\":\"device.update\",\"id\":\"a\",\"body\":1}]",
            "item 1: a desired state must be",
        ),
    ];
    for (subject, payload, expected) in cases {
        let failure = refusal(subject, payload);
        assert_eq!(failure.code, ErrorCode::Malformed, "{payload}");
        assert!(failure.message.contains(expected), "{subject} {payload}: {failure}");
    }
}

#[test]
fn sizes_are_bounded() {
    let long = format!("\"{}\"", "x".repeat(fleet_state::limits::VALUE_BYTES_MAX));
    assert_eq!(refusal("param.set.a", &long).code, ErrorCode::TooLarge);
    let deep = format!("{}{}", "[".repeat(33), "]".repeat(33));
    assert_eq!(refusal("param.set.a", &deep).code, ErrorCode::TooLarge);
    let fits = format!("{}{}", "[".repeat(32), "]".repeat(32));
    assert!(read("param.set.a", &fits).is_ok());
    let many = vec!["{\"op\":\"param.delete\",\"id\":\"a\"}"; BATCH_ITEMS_MAX + 1].join(",");
    assert_eq!(refusal("batch", &format!("[{many}]")).code, ErrorCode::TooLarge);
    let name = format!("{{\"name\":\"{}\"}}", "x".repeat(NAME_BYTES_MAX + 1));
    assert_eq!(refusal("device.register.a", &name).code, ErrorCode::TooLarge);
}

#[test]
fn a_batch_may_hold_values_of_full_depth() {
    let deep = format!("{}{}", "[".repeat(32), "]".repeat(32));
    let body = format!(
        "[{{\"op\":\"param.set\",\"id\":\"a\",\"body\":{deep}}},{{\"op\":\"device.delete\",\"id\":\"b\",\"if_revision\":9}}]"
    );
    let Ok(Command::Batch(items)) = read("batch", &body) else { panic!() };
    assert_eq!(items.len(), 2);
    assert_eq!(items[1].if_revision, Some(Revision::new(9)));
    // One level more fits the batch's own limit, and is refused as a value.
    let deeper = body.replace(&deep, &format!("[{deep}]"));
    let command = read("batch", &deeper).unwrap();
    let proposal =
        Proposal { request_id: "a".parse().unwrap(), if_revision: None, actor: None, command };
    assert_eq!(check(&proposal).unwrap_err().code, ErrorCode::TooLarge);
}

#[test]
fn what_is_done_with_devices_and_links() {
    assert!(matches!(
        read("device.mode.a", "\"auto\""),
        Ok(Command::DeviceMode { mode: Mode::Auto, .. })
    ));
    let wrong = refusal("device.mode.a", "\"atuo\"").message;
    assert!(wrong.contains("\"observe\", \"manual\", \"auto\"; did you mean"), "{wrong}");
    refusal("device.mode.a", "");
    let Ok(Command::DeviceHold { reason, .. }) = read("device.hold.a", r#"{"reason":"cleaning"}"#)
    else {
        panic!()
    };
    assert_eq!(&*reason, "cleaning");
    assert!(matches!(read("device.hold.a", ""), Ok(Command::DeviceHold { .. })));
    assert!(matches!(read("device.release.a", ""), Ok(Command::DeviceRelease { .. })));
    assert!(matches!(read("link.pause.a", ""), Ok(Command::LinkPause { paused: true, .. })));
    assert!(matches!(read("link.resume.a", ""), Ok(Command::LinkPause { paused: false, .. })));
    assert!(matches!(read("link.move.a", ""), Ok(Command::LinkMove { to: None, .. })));
    let to = read("link.move.a", r#"{"to":"gw-2"}"#);
    assert!(matches!(to, Ok(Command::LinkMove { to: Some(_), .. })));
    let cancel = read("command.cancel.0197-a.b:c", "");
    assert!(
        matches!(cancel, Ok(Command::CommandCancel { request }) if request.to_string() == "0197-a.b:c")
    );
    for subject in ["device.release.a", "link.pause.a", "link.resume.a", "command.cancel.a"] {
        let failure = refusal(subject, "{}");
        assert!(failure.message.ends_with("takes no payload"), "{}", failure.message);
    }
}

#[test]
fn an_invocation_is_limited_when_nobody_limits_it() {
    let body = r#"{"action":"open","args":{"to":3}}"#;
    let Ok(Command::DeviceInvoke { action, args, ttl_ms, .. }) = read("device.invoke.a", body)
    else {
        panic!()
    };
    assert_eq!((&*action, args.to_json()), ("open", "{\"to\":3}".to_owned()));
    assert_eq!(ttl_ms, Some(INVOKE_TTL_MS_DEFAULT));
    let given = parse(&target("device.invoke.a"), body.as_bytes(), Some(500));
    assert!(matches!(given, Ok(Command::DeviceInvoke { ttl_ms: Some(500), .. })));
    for body in [
        "",
        "{}",
        r#"{"action":""}"#,
        r#"{"action":"open","arg":{}}"#,
        r#"{"action":"open","args":[]}"#,
    ] {
        assert_eq!(refusal("device.invoke.a", body).code, ErrorCode::Malformed, "{body}");
    }
}

#[test]
fn policies() {
    let body =
        |policy: &str| format!(r#"{{"link":"l","settings":{{"unit":1}},"policy":{policy}}}"#);
    let policy = r#"{"on_drift":"adopt","settle":"2s","properties":{"level":{"on_drift":"enforce","tolerance":1}},
        "on_return":{"apply":"90s"},"on_control_loss":{"level":0},"stop_action":"stop","idempotent_actions":["open"]}"#;
    let Ok(Command::DeviceRegister { spec, .. }) = read("device.register.a", &body(policy)) else {
        panic!()
    };
    assert_eq!(spec.settings.to_json(), "{\"unit\":1}");
    // What a property's rule does not say is as for all of them.
    let level = spec.policy.of("level");
    assert_eq!((level.on_drift.as_str(), level.settle_ms), ("enforce", 2_000));
    assert_eq!(level.tolerance.map(|number| number.get()), Some(1.0));
    assert_eq!(spec.policy.of("on").on_drift.as_str(), "adopt");
    assert_eq!(spec.policy.on_return, fleet_state::OnReturn::Apply { age_ms_max: 90_000 });
    assert_eq!(spec.policy.stop_action.as_deref(), Some("stop"));
    // As it is shown, so it can be given.
    let shown = serde_json::to_string(&crate::record::PolicyBody::from(&*spec.policy)).unwrap();
    let Ok(Command::DeviceRegister { spec: again, .. }) = read("device.register.a", &body(&shown))
    else {
        panic!("{shown}")
    };
    assert_eq!(again.policy, spec.policy);
    let wrong = [
        (r#"{"on_drift":"reprot"}"#, "did you mean \"report\"?"),
        (r#"{"settle":5}"#, "must be a text"),
        (r#"{"tolerance":-1}"#, "not negative"),
        (r#"{"on_return":"apply"}"#, "{\"apply\":\"<time>\"}"),
        (r#"{"on_control_loss":7}"#, "\"keep\" or an object"),
        (r#"{"properties":{"a":{"settel":"1s"}}}"#, "unknown field \"settel\""),
        (r#"{"idempotent_actions":"open"}"#, "a list of texts"),
        (r#"{"poll":1}"#, "unknown field"),
    ];
    for (policy, why) in wrong {
        let failure = refusal("device.register.a", &body(policy));
        assert!(failure.message.contains(why), "{policy}: {}", failure.message);
    }
}

#[test]
fn what_happens_once_is_in_no_batch() {
    for op in ["device.invoke", "command.cancel", "batch"] {
        let body = format!(r#"[{{"op":"{op}","id":"a","body":{{"action":"open"}}}}]"#);
        let failure = refusal("batch", &body);
        assert!(failure.message.contains("cannot be part of a batch"), "{}", failure.message);
    }
    let items = r#"[{"op":"device.mode","id":"a","body":"manual"},{"op":"device.hold","id":"a"},
        {"op":"link.pause","id":"l"},{"op":"link.move","id":"l","body":{"to":"gw-1"}}]"#;
    let Ok(Command::Batch(items)) = read("batch", items) else { panic!() };
    assert_eq!(items.len(), 4);
}

/// Whatever agents say to each other: no subject of users leads to it.
#[test]
fn nobody_can_ask_for_what_agents_propose_themselves() {
    let own = fleet_state::CommandKind::ALL.iter().filter(|kind| kind.is_agents_own());
    for kind in own {
        assert!(CommandOp::from_name(kind.as_str()).is_none(), "{kind:?}");
        assert!(crate::AdminOp::from_name(kind.as_str()).is_none(), "{kind:?}");
    }
}
