//! Compares the tables of `docs/protocol.md` with the code.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;

use fleet_protocol::{
    AdminOp, CommandOp, ErrorCode, HeaderName, NodeVerb, Noun, Subjects,
    door::{DOOR_ROOT, DOOR_SOCKET, DoorMethods, EVENT_STREAM},
    duration::format_ms,
    limits::{
        FILTER_LABELS_MAX, HEADER_VALUE_BYTES_MAX, HEADERS_MAX, PAGE_ITEMS_DEFAULT, PAGE_ITEMS_MAX,
        REPLY_SUBJECT_BYTES_MAX, REQUEST_BYTES_MAX, SUBJECT_BYTES_MAX, TIMEOUT_MS_DEFAULT,
        TIMEOUT_MS_MAX, TIMEOUT_MS_MIN,
    },
    look::LookVerb,
};

const CONTRACT: &str = include_str!("../../../docs/protocol.md");

/// The rows of a section's first table, without its head.
fn rows(section: &str) -> Vec<Vec<String>> {
    let start = CONTRACT.find(&format!("## {section}\n")).expect(section);
    let mut lines = CONTRACT[start..].lines().skip_while(|line| !line.starts_with('|'));
    lines.by_ref().nth(1);
    lines
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()
        })
        .collect()
}

fn first_cells(section: &str) -> BTreeSet<String> {
    rows(section).into_iter().map(|row| row[0].trim_matches('`').to_owned()).collect()
}

#[test]
fn errors() {
    let written: Vec<String> = rows("Errors").iter().map(|row| row.join(" | ")).collect();
    let coded: Vec<String> = ErrorCode::ALL
        .iter()
        .map(|code| {
            let facts = code.facts();
            let retry = if facts.retryable { "yes" } else { "no" };
            let (number, exit) = (facts.service_code, facts.exit_code);
            format!("`{code}` | {number} | {retry} | {exit} | {}", facts.meaning)
        })
        .collect();
    assert_eq!(written, coded, "\n| {} |", coded.join(" |\n| "));
}

#[test]
fn headers() {
    let coded: BTreeSet<String> = HeaderName::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(first_cells("Headers"), coded);
    let row = rows("Headers")
        .into_iter()
        .find(|row| row[0].contains("Timeout"))
        .expect("a row for the timeout");
    assert!(
        row[1].contains(&format_ms(TIMEOUT_MS_MIN)) && row[1].contains(&format_ms(TIMEOUT_MS_MAX)),
        "{row:?}"
    );
    assert!(row[2].contains(&format_ms(TIMEOUT_MS_DEFAULT)), "{row:?}");
}

#[test]
fn subjects() {
    let mut coded = BTreeSet::new();
    for op in CommandOp::ALL {
        coded.insert(match op {
            CommandOp::Batch => format!("control.commands.{op}"),
            CommandOp::ParamSet | CommandOp::ParamDelete => format!("control.commands.{op}.<key>"),
            CommandOp::CommandCancel => format!("control.commands.{op}.<request id>"),
            _ => format!("control.commands.{op}.<id>"),
        });
    }
    for noun in Noun::ALL {
        let id = match noun {
            Noun::Site => {
                coded.insert(format!("control.query.{noun}.get"));
                continue;
            }
            Noun::Link | Noun::Device => "id",
            Noun::Param => "key",
            // Told with the device they are of.
            Noun::Watermarks | Noun::Invocation => continue,
            Noun::Member => "node",
            Noun::Token => "token",
            Noun::Command => "request id",
        };
        coded.insert(format!("control.query.{noun}.get.<{id}>"));
        coded.insert(format!("control.query.{noun}.list"));
        if matches!(noun, Noun::Link | Noun::Device | Noun::Param | Noun::Command) {
            coded.insert(format!("control.query.{noun}.list.<area>"));
        }
    }
    for verb in LookVerb::ALL {
        coded.insert(format!("control.query.link.{verb}.<id>"));
    }
    for rest in ["", ".<noun>", ".<noun>.<area>"] {
        coded.insert(format!("control.changes.since.<revision>{rest}"));
    }
    for op in AdminOp::ALL {
        coded.insert(format!("control.admin.{op}"));
    }
    for verb in NodeVerb::ALL {
        coded.insert(format!("control.node.<name>.{verb}"));
        coded.insert(format!("control.all.{verb}"));
    }
    for rest in [
        "control.leader.commands.<noun>.<verb>.<id>",
        "control.events.<noun>.<id>",
        "control.events.outcome.<command>",
        "control.events.tick",
        "control.events.way.<node>",
        "control.events.local.<device>",
        "control.events.foreign_write.<device>",
        "raft.<node>",
        "mesh",
    ] {
        coded.insert(rest.to_owned());
    }
    assert_eq!(first_cells("Subjects"), coded);
}

/// A subject of the contract's tables with ids in place of what stands for them.
fn filled(subject: &str) -> String {
    let ids = [
        ("<noun>.<verb>", "device.update"),
        ("<noun>", "device"),
        ("<verb>", "status"),
        ("<revision>", "42"),
        ("<area>", "hall2.east"),
        ("<node>", "3"),
        ("<token>", "0123456789abcdef"),
        ("<name>", "gw-1"),
        ("<id>", "hall2.lamp-1"),
        ("<key>", "hall2.east.setpoint.night"),
        ("<request id>", "Order:7.b-1"),
    ];
    ids.iter().fold(subject.to_owned(), |text, (held, id)| text.replace(held, id))
}

#[test]
fn every_subject_that_is_asked_has_one_path_at_the_door() {
    let subjects = Subjects::new(&"home".parse().unwrap());
    let asked = first_cells("Subjects");
    let asked = asked.iter().filter(|subject| {
        let elsewhere = ["control.events", "control.leader"];
        subject.starts_with("control.") && !elsewhere.iter().any(|at| subject.starts_with(at))
    });
    let mut count = 0;
    for subject in asked {
        let subject = format!("flotilla.home.{}", filled(subject));
        let path = subjects.path(&subject).expect(&subject);
        assert_eq!(subjects.subject_of_path(&path).as_ref(), Ok(&subject));
        assert!(subjects.parse(&subject).is_ok(), "{subject}");
        count += 1;
    }
    assert!(count > 30, "{count} subjects");
    let to_leader = filled("flotilla.home.control.leader.commands.<noun>.<verb>.<id>");
    let to_any = filled("flotilla.home.control.commands.<noun>.<verb>.<id>");
    assert_eq!(subjects.parse(&to_leader), subjects.parse(&to_any));
    assert!(subjects.parse(&to_leader).is_ok());
    assert_eq!(subjects.path(&to_leader), None, "a door is one agent's");
    assert!(subjects.subject_of_path("/v1/leader/commands/batch").is_err());
}

#[test]
fn both_ways_stand_side_by_side() {
    let subjects = Subjects::new(&"home".parse().unwrap());
    let rows = rows("The local door");
    assert!(rows.len() >= 10);
    for row in rows {
        let subject = filled(row[0].trim_matches('`'));
        let (method, path) = row[1].trim_matches('`').split_once(' ').expect("a method");
        let subject = format!("flotilla.home.{subject}");
        let path = filled(&path.replace("<noun>/<verb>", "device/update"));
        assert_eq!(subjects.path(&subject), Some(path));
        let takes_get = subjects.methods(&subject) == DoorMethods::GetOrPost;
        assert_eq!(method == "GET", takes_get, "{subject}");
    }
    for word in [DOOR_SOCKET, EVENT_STREAM, DOOR_ROOT] {
        assert!(CONTRACT.contains(word), "{word}");
    }
}

/// Bytes as the contract writes them.
fn bytes(count: impl TryInto<u64>) -> String {
    let count = count.try_into().ok().expect("a limit is not that large");
    match count {
        whole if whole % (1 << 20) == 0 => format!("{} MiB", whole >> 20),
        whole if whole % (1 << 10) == 0 => format!("{} KiB", whole >> 10),
        few => format!("{few} bytes"),
    }
}

/// A number as the contract writes it.
fn number(count: usize) -> String {
    match (count / 1_000, count % 1_000) {
        (thousands, rest) if thousands > 1 => format!("{thousands},{rest:03}"),
        _ => count.to_string(),
    }
}

/// The one text that all of these limits have.
fn same<const N: usize>(limits: [String; N]) -> String {
    assert!(limits.iter().all(|limit| *limit == limits[0]), "one row, several limits: {limits:?}");
    limits[0].clone()
}

#[test]
fn limits() {
    use fleet_state::limits as held;
    let value = format!("{}, {} levels", bytes(held::VALUE_BYTES_MAX), held::VALUE_DEPTH_MAX);
    let texts = [held::NAME_BYTES_MAX, held::LABEL_VALUE_BYTES_MAX, held::NOTE_BYTES_MAX];
    let coded = [
        ("one value, a device's desired state, a model", value),
        ("one request, and one batch", bytes(REQUEST_BYTES_MAX)),
        ("items of a batch", number(held::BATCH_ITEMS_MAX)),
        ("links of a site", number(held::LINKS_MAX)),
        ("devices of a site, and parameters of a site", {
            same([held::DEVICES_MAX, held::PARAMS_MAX].map(number))
        }),
        ("all links, devices and parameters of a site", bytes(held::SITE_BYTES_MAX)),
        ("members of a site", number(held::MEMBERS_MAX)),
        ("join tokens of a site", number(held::TOKENS_MAX)),
        ("a `name`, a label's value, a token's `note`", same(texts.map(bytes))),
        ("a label's key", bytes(held::LABEL_KEY_BYTES_MAX)),
        ("labels of one thing, or of one filter", {
            same([held::LABELS_MAX, FILTER_LABELS_MAX].map(number))
        }),
        ("an `address`", bytes(held::ADDRESS_BYTES_MAX)),
        ("`settings` of a link or a device", bytes(held::SETTINGS_BYTES_MAX)),
        ("properties that are desired of one device, and those with a policy", {
            same([held::WISHES_MAX, held::POLICY_PROPERTIES_MAX].map(number))
        }),
        ("a property's name", bytes(held::PROPERTY_BYTES_MAX)),
        ("an action's name", bytes(held::ACTION_BYTES_MAX)),
        ("`args` of an invocation", bytes(held::ARGS_BYTES_MAX)),
        ("invocations of one device that have not ended", number(held::INVOCATIONS_OPEN_MAX)),
        ("a `reason`", bytes(held::REASON_BYTES_MAX)),
        ("headers of one message", number(HEADERS_MAX)),
        ("the value of one of our headers", bytes(HEADER_VALUE_BYTES_MAX)),
        ("a subject", bytes(SUBJECT_BYTES_MAX)),
        ("a reply subject", bytes(REPLY_SUBJECT_BYTES_MAX)),
        ("items on a page", number(PAGE_ITEMS_MAX as usize)),
    ];
    let coded: Vec<String> =
        coded.iter().map(|(what, limit)| format!("{what} | {limit}")).collect();
    let written: Vec<String> = rows("Limits").iter().map(|row| row.join(" | ")).collect();
    assert_eq!(written, coded, "\n| {} |", coded.join(" |\n| "));
    let queries = format!("(1 to {PAGE_ITEMS_MAX}, {PAGE_ITEMS_DEFAULT} when absent)");
    assert!(CONTRACT.contains(&queries), "{queries}");
}

#[test]
fn headers_of_messages_to_devices_stand_in_the_contract() {
    use fleet_protocol::subjects::device_headers as headers;
    let section = CONTRACT.split_once("## Devices that speak NATS").expect("the section").1;
    let section = section.split("\n## ").next().expect("its end");
    for header in [
        headers::EPOCH,
        headers::SEQUENCE,
        headers::REVISION,
        headers::EXPIRES_IN_MS,
        headers::EXPIRES_AT_MS,
        headers::REQUEST_ID,
    ] {
        assert!(section.contains(&format!("`{header}`")), "{header}");
    }
}
