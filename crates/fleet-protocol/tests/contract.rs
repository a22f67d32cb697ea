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
        PAGE_ITEMS_DEFAULT, PAGE_ITEMS_MAX, TIMEOUT_MS_DEFAULT, TIMEOUT_MS_MAX, TIMEOUT_MS_MIN,
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

#[test]
fn limits() {
    let pages = rows("Limits")
        .into_iter()
        .find(|row| row[0] == "items on a page")
        .expect("a row for pages");
    assert_eq!(pages[1], PAGE_ITEMS_MAX.to_string());
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
