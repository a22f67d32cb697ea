use proptest::prelude::*;

use super::*;

fn subjects() -> Subjects {
    Subjects::new(&"home".parse().unwrap())
}

#[test]
fn commands_have_their_place() {
    let cases = [
        ("flotilla.home.control.commands.device.update.hall2.lamp-1", "device.update.hall2.lamp-1"),
        ("flotilla.home.control.commands.param.set.a.b.c.d.e.f.g.h", "param.set.a.b.c.d.e.f.g.h"),
        ("flotilla.home.control.commands.link.delete.plc", "link.delete.plc"),
        ("flotilla.home.control.commands.batch", "batch"),
        ("flotilla.home.control.commands.device.invoke.hall2.door", "device.invoke.hall2.door"),
        ("flotilla.home.control.commands.link.move.plc", "link.move.plc"),
        ("flotilla.home.control.commands.command.cancel.a.b:C", "command.cancel.a.b:C"),
    ];
    for (subject, shown) in cases {
        let Ok(Inbound::Command(target)) = subjects().parse(subject) else { panic!("{subject}") };
        assert_eq!(target.to_string(), shown);
        assert_eq!(subjects().command(&target), subject);
    }
}

#[test]
fn everything_built_is_read_back() {
    let subjects = subjects();
    let device = Entity::Device("hall2.lamp-1".parse().unwrap());
    let queries = [
        QueryTarget::Site,
        QueryTarget::Get(device.clone()),
        QueryTarget::Get(Entity::Member(NodeId::FOUNDER)),
        QueryTarget::Get(Entity::Token(fleet_state::TokenId::from_bytes([0xfe; 8]))),
        QueryTarget::Command("a.b:C".parse().unwrap()),
        QueryTarget::List { noun: Noun::Command, area: None },
        QueryTarget::List { noun: Noun::Param, area: None },
        QueryTarget::List { noun: Noun::Device, area: Some("hall2".parse().unwrap()) },
    ];
    for query in queries {
        assert_eq!(subjects.parse(&subjects.query(&query)), Ok(Inbound::Query(query)));
    }
    let link: LinkId = "hall2.bus".parse().unwrap();
    for verb in LookVerb::ALL {
        let read = subjects.parse(&subjects.look(&link, *verb));
        assert_eq!(read, Ok(Inbound::Look(link.clone(), *verb)));
    }
    assert!(subjects.parse("flotilla.home.control.query.link.scan").is_err());
    assert!(subjects.parse("flotilla.home.control.query.device.scan.lamp").is_err());
    let changes = [
        (None, None),
        (Some(Noun::Link), None),
        (Some(Noun::Device), Some("a.b".parse().unwrap())),
    ];
    for (noun, area) in changes {
        let target = ChangesTarget { since: Revision::new(7), noun, area };
        assert_eq!(subjects.parse(&subjects.changes(&target)), Ok(Inbound::Changes(target)));
    }
    for op in AdminOp::ALL {
        assert_eq!(subjects.parse(&subjects.admin(*op)), Ok(Inbound::Admin(*op)));
    }
    let node: NodeName = "gw-1".parse().unwrap();
    for verb in NodeVerb::ALL {
        assert_eq!(
            subjects.parse(&subjects.node(&node, *verb)),
            Ok(Inbound::Node(node.clone(), *verb))
        );
        assert_eq!(subjects.parse(&subjects.all(*verb)), Ok(Inbound::All(*verb)));
    }
    assert_eq!(subjects.parse(&subjects.raft(NodeId::FOUNDER)), Ok(Inbound::Raft(NodeId::FOUNDER)));
    assert_eq!(subjects.event(&device), "flotilla.home.control.events.device.hall2.lamp-1");
    // A request id need not be a subject.
    let (device, id) = ("hall2.lamp-1".parse().unwrap(), "..".parse().unwrap());
    let event = subjects.event(&Entity::Invocation { device, id });
    assert_eq!(event, "flotilla.home.control.events.invocation.hall2.lamp-1");
    assert_eq!(subjects.tick(), "flotilla.home.control.events.tick");
    assert_eq!(Subjects::site_of_service(&subjects.service_name()), Some("home".parse().unwrap()));
    assert_eq!(Subjects::site_of_service("flotilla-A B"), None);
    assert_eq!(Subjects::site_of_service("other"), None);
}

/// What an agent subscribes to holds what the builders make.
#[test]
fn subscriptions_cover_the_builders() {
    let subjects = subjects();
    let node: NodeName = "gw".parse().unwrap();
    let target = CommandTarget::ParamSet("a.b".parse().unwrap());
    let since = ChangesTarget { since: Revision::new(1), noun: None, area: None };
    let pairs = [
        (subjects.commands_all(), subjects.command(&target)),
        (subjects.leader_commands_all(), subjects.leader_command(&target)),
        (subjects.queries_all(), subjects.query(&QueryTarget::Site)),
        (subjects.changes_all(), subjects.changes(&since)),
        (subjects.admin_all(), subjects.admin(AdminOp::MemberJoin)),
        (subjects.node_all(&node), subjects.node(&node, NodeVerb::Status)),
        (subjects.all_all(), subjects.all(NodeVerb::Status)),
        (subjects.events_all(None), subjects.tick()),
        (subjects.events_all(Some(EventKind::Outcome)), subjects.outcome_event(&target)),
        (
            subjects.events_all(Some(EventKind::Member)),
            subjects.event(&Entity::Member(NodeId::FOUNDER)),
        ),
    ];
    for (wildcard, subject) in pairs {
        let start = wildcard.strip_suffix('>').expect("every subscription ends in >");
        assert!(subject.starts_with(start) && subject.len() > start.len(), "{wildcard} {subject}");
    }
}

#[test]
fn hostile_subjects_are_refused() {
    let subjects = subjects();
    let foreign = [
        "",
        ".",
        ">",
        "*",
        "flotilla",
        "flotilla.home",
        "flotilla.office.control.commands.batch",
        "Flotilla.home.control.commands.batch",
    ];
    for subject in foreign {
        assert_eq!(subjects.parse(subject), Err(SubjectError::Foreign), "{subject}");
    }
    let bad = [
        "",
        "control",
        "control.",
        "control.commands",
        "control.commands.",
        "control.commands.device",
        "control.commands.device.update",
        "control.commands.device.update.",
        "control.commands.device.update.a.b.c.d.e",
        "control.commands.device.update.A",
        "control.commands.device.update.a..b",
        "control.commands.device.update.*",
        "control.commands.device.update.a.>",
        "control.commands.device.update.a b",
        "control.commands.device.update.a\0",
        "control.commands.device.update.😀",
        "control.commands.device.invoke",
        "control.commands.command.cancel",
        "control.commands.command.cancel.a/b",
        "control.commands.link.assign.a",
        "control.commands.claim.a",
        "control.query.watermarks.list",
        "control.query.invocation.get.a",
        "control.query.command.get",
        "control.changes.since.1.command",
        "control.commands.batch.a",
        "control.commands.token.create",
        "control.query.device.get",
        "control.query.device.get.",
        "control.query.device.list.",
        "control.query.device.list.*",
        "control.query.site.get.a",
        "control.query.member.list.a",
        "control.query.token.list.a",
        "control.query.site.list",
        "control.query.member.get.0",
        "control.query.member.get.01",
        "control.query.member.get.+1",
        "control.query.token.get.xyz",
        "control.changes",
        "control.changes.since",
        "control.changes.since.",
        "control.changes.since.-1",
        "control.changes.since.01",
        "control.changes.since.18446744073709551616",
        "control.changes.since.1.site",
        "control.changes.since.1.device.",
        "control.admin",
        "control.admin.member",
        "control.admin.member.join.x",
        "control.node",
        "control.node.gw",
        "control.node..status",
        "control.node.gw.status.x",
        "control.all.",
        "control.all.stop",
        "raft.",
        "raft.0",
        "raft.1.2",
        "raft.x",
        "raft.99999999999999999999",
    ];
    for rest in bad {
        let subject = format!("flotilla.home.{rest}");
        assert!(subjects.parse(&subject).is_err(), "{subject}");
    }
    let long = format!("flotilla.home.control.commands.param.set.{}", "a".repeat(10_000));
    assert_eq!(subjects.parse(&long), Err(SubjectError::TooLong));
}

#[test]
fn a_misspelling_is_answered_with_the_right_word() {
    let error = subjects().parse("flotilla.home.control.commands.device.updat.a").unwrap_err();
    assert!(error.to_string().contains("did you mean \"device.update\"?"), "{error}");
    let error = subjects().parse("flotilla.home.control.commands.device.\u{1b}[2J.a").unwrap_err();
    assert!(!error.to_string().contains('\u{1b}'), "{error}");
}

proptest! {
    #[test]
    fn valid_ids_round_trip(id in "[a-z0-9_-]{1,32}(\\.[a-z0-9_-]{1,32}){0,3}") {
        let target = CommandTarget::new(CommandOp::DeviceReplace, &id).unwrap();
        let subject = subjects().command(&target);
        prop_assert_eq!(subjects().parse(&subject), Ok(Inbound::Command(target)));
    }

    #[test]
    fn anything_at_all_is_read_without_harm(rest in "\\PC{0,80}", tail in "[a-z.*> \\x00]{0,60}") {
        let _ = subjects().parse(&rest);
        let subject = format!("flotilla.home.control.{tail}");
        if let Ok(Inbound::Command(target)) = subjects().parse(&subject) {
            prop_assert_eq!(subjects().command(&target), subject);
        }
    }
}
