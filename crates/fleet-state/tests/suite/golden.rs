//! Bytes that later releases must still read, and that this one must write.
//!
//! To add files for a new format version: raise the version, run with `FLOTILLA_WRITE_GOLDEN=1`, and keep the old
//! files with a test of their reading.

use std::path::{Path, PathBuf};

use fleet_state::{
    AgentCommand, Body, Command, DeviceSpec, DriftPolicy, Entry, Mode, OnControlLoss, OnDrift,
    OnReturn, Policy, RequestId, Revision, Stage, StageFailure, StageItem,
};

use crate::site::{restored, snapshot_of};
use crate::snapshot::small_site;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn check(name: &str, bytes: &[u8]) -> Vec<u8> {
    if std::env::var_os("FLOTILLA_WRITE_GOLDEN").is_some() {
        std::fs::write(path(name), bytes).unwrap();
    }
    let golden = std::fs::read(path(name)).unwrap();
    assert_eq!(golden, bytes, "{name} is written in other bytes than before");
    golden
}

#[test]
fn snapshot_version_1() {
    let site = small_site();
    let golden = check("snapshot-v1.flotsnap", &snapshot_of(&site.state));
    assert_eq!(restored(&golden).digests(), site.state.digests());
    check("digests-v1.txt", site.state.digests().to_string().replace(' ', "\n").as_bytes());
}

#[test]
fn entries_version_1() {
    use crate::site::*;
    let commands = vec![
        register_link("hall.bus"),
        delete_link("hall.bus"),
        fleet_state::Command::DeviceRegister {
            id: "hall.lamp".parse().unwrap(),
            spec: fleet_state::DeviceSpec {
                model: Some(fleet_state::Schema::from_value(json(r#"{"type":"object"}"#)).unwrap()),
                labels: [("area".into(), "hall".into())].into(),
                ..device_on("hall.bus")
            },
        },
        update("hall.lamp", r#"{"a":[true,false,null,-1,0.25,"x",{}]}"#),
        replace("hall.lamp", "{}"),
        delete_device("hall.lamp"),
        set("k", "18446744073709551615"),
        unset("k"),
        fleet_state::Command::Batch(vec![fleet_state::BatchItem {
            command: set("k", "1"),
            if_revision: Some(fleet_state::Revision::NONE),
        }]),
        create_token(1, 60_000, 1),
        fleet_state::Command::TokenRevoke { id: token_id(1) },
        join(1, "gw-2", 2),
        fleet_state::Command::Certify { node: fleet_state::NodeId::FOUNDER, credential: [3; 64] },
        fleet_state::Command::MemberRemove { node: fleet_state::NodeId::FOUNDER },
        fleet_state::Command::MemberPromote { node: fleet_state::NodeId::FOUNDER },
        fleet_state::Command::SetVoters { voters: 3 },
    ];
    let commands = commands.into_iter().chain(of_devices());
    let mut bodies = vec![
        Body::TimeTick,
        Body::TimeLost,
        Body::MemberLevel { node: fleet_state::NodeId::FOUNDER, level: 1 },
    ];
    for (number, command) in commands.enumerate() {
        let text: RequestId = format!("request-{number}").parse().unwrap();
        let request_id =
            if number % 2 == 0 { uuid_v7(1_700_000_000_000, number as u64) } else { text };
        bodies.push(Body::Proposal(fleet_state::Proposal {
            request_id,
            if_revision: (number % 3 == 0).then_some(fleet_state::Revision::new(300)),
            actor: (number % 3 == 1).then(|| "ana".into()),
            command,
        }));
    }
    let mut lines = String::new();
    for body in bodies {
        let entry = Entry { log_time_ms: 1_000, wall_time_ms: 1_700_000_000_000, body };
        let bytes = entry.encode();
        assert_eq!(Entry::decode(&bytes), Ok(entry));
        lines.extend(bytes.iter().map(|byte| format!("{byte:02x}")));
        lines.push('\n');
    }
    check("entries-v1.hex", lines.as_bytes());
}

/// Everything that concerns devices beyond their desired state.
fn of_devices() -> Vec<Command> {
    use crate::hall::*;
    use crate::site::{json, object};
    let failure = StageFailure {
        revision: Revision::new(300),
        stage: Stage::Failed,
        code: "exception_4".into(),
        message: "no".into(),
    };
    let drift = DriftPolicy {
        on_drift: OnDrift::Enforce,
        settle_ms: 2_000,
        tolerance: fleet_state::Finite::new(0.5),
    };
    let policy = Policy {
        drift: DriftPolicy { on_drift: OnDrift::Adopt, ..DriftPolicy::default() },
        properties: [("level".into(), drift)].into(),
        on_return: OnReturn::Hold,
        on_control_loss: OnControlLoss::Values(object(r#"{"level":0}"#)),
        stop_action: Some("stop".into()),
        idempotent_actions: ["open".into(), "shut".into()].into(),
    };
    let spec = DeviceSpec {
        policy: policy.into(),
        settings: object(r#"{"unit":3}"#),
        ..crate::site::device_on(LINK)
    };
    let id = || LAMP.parse().unwrap();
    let link = || LINK.parse().unwrap();
    vec![
        Command::DeviceRegister { id: id(), spec },
        set_for(r#"{"a":1}"#, 5_000),
        Command::DeviceReplace { id: id(), desired: object("{}"), ttl_ms: Some(5_000) },
        Command::DeviceMode { id: id(), mode: Mode::Manual },
        Command::DeviceHold { id: id(), reason: "cleaning".into() },
        Command::DeviceRelease { id: id() },
        invoke("open", Some(5_000)),
        Command::CommandCancel { request: "request-1".parse().unwrap() },
        Command::LinkMove { id: link(), to: Some("gw-2".parse().unwrap()) },
        Command::LinkPause { id: link(), paused: true },
        Command::NodeDrain { node: node(2), drain: true },
        assign(300, Some(2)),
        release(301),
        told(
            300,
            StageItem {
                failures: vec![failure],
                overcome: vec![Revision::new(299)],
                ..marked(3, 2, 1)
            },
        ),
        claim(300, vec![wish(300), shot("request-1")]),
        end(300, "request-1", Stage::Verified),
        Command::Agents(AgentCommand::Adopt {
            link: link(),
            epoch: 300,
            device: id(),
            property: "on".into(),
            value: json("true"),
            seen_revision: Revision::new(299),
        }),
        Command::MemberLabel {
            node: node(2),
            labels: [("hall".into(), Some("2".into())), ("old".into(), None)].into(),
        },
    ]
}

#[test]
fn every_kind_of_command_is_among_the_entries() {
    let golden = std::fs::read_to_string(path("entries-v1.hex")).unwrap();
    let bytes = |line: &str| -> Vec<u8> {
        let digits = |at: usize| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
        (0..line.len()).step_by(2).map(digits).collect()
    };
    let entries = golden.lines().map(|line| Entry::decode(&bytes(line)).unwrap());
    let kinds: std::collections::BTreeSet<_> = entries
        .filter_map(|entry| match entry.body {
            Body::Proposal(proposal) => Some(proposal.command.kind()),
            _ => None,
        })
        .collect();
    assert_eq!(kinds, fleet_state::CommandKind::ALL.iter().copied().collect());
}
