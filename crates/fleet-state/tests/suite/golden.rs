//! Bytes that later releases must still read, and that this one must write.
//!
//! To add files for a new format version: raise the version, run with `FLOTILLA_WRITE_GOLDEN=1`, and keep the old
//! files with a test of their reading.

use std::path::{Path, PathBuf};

use fleet_state::{Body, Entry, RequestId};

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
    let mut bodies = vec![Body::TimeTick, Body::RaiseFeatureLevel(1)];
    for (number, command) in commands.into_iter().enumerate() {
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
