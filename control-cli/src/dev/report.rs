//! What `flotilla dev` says, as text. Pure: it takes facts and gives lines.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use super::manifest::{FILE_NAME, Manifest};

/// Longest line for one event; the rest is cut, a device may be large.
const EVENT_CHARS_MAX: usize = 160;

/// A site that is whole, and how to talk to it.
pub(crate) fn ready(manifest: &Manifest, leader: &str, root: &Path, detached: bool) -> String {
    let Manifest { site, nats_url, .. } = manifest;
    let (reach, server) = match nats_url {
        Some(url) => (format!("NATS at {url}"), url.clone()),
        None => {
            let door = manifest.agents.first().map(|agent| agent.socket.display().to_string());
            ("without NATS".to_owned(), format!("unix:{}", door.unwrap_or_default()))
        }
    };
    let mut text = format!("site {site} runs: {reach}, leader {leader}\n");
    for agent in &manifest.agents {
        let _ = writeln!(
            text,
            "  {}  node {}  pid {}  {}",
            agent.name,
            agent.node_id,
            agent.pid,
            agent.data_dir.display()
        );
    }
    let _ = write!(
        text,
        "talk to it:\n  export FLOTILLA_SERVER={server} FLOTILLA_SITE={site}\n  \
         flotilla status\n  flotilla device register hall1.lamp-1\n  \
         flotilla device set hall1.lamp-1 on=true\n\
         logs are in {}, for scripts there is {}\n",
        root.join("logs").display(),
        root.join(FILE_NAME).display()
    );
    if detached {
        let _ = writeln!(text, "it runs until: flotilla dev stop --data {}", root.display());
    } else {
        let _ = writeln!(text, "what happens follows; Ctrl-C stops everything");
    }
    text
}

/// One change as a line: revision, noun, id, and what it is now.
pub(crate) fn change(noun: &str, id: &str, revision: u64, record: Option<&Value>) -> String {
    let what = match record {
        None => "deleted".to_owned(),
        Some(record) => interesting(noun, record),
    };
    cut(&format!("{revision:>6}  {noun} {id}  {what}"))
}

/// The part of a record that people look for first.
fn interesting(noun: &str, record: &Value) -> String {
    let field = match noun {
        "device" => "desired",
        "param" => "value",
        "member" => "role",
        _ => return String::new(),
    };
    let value = record.get(field).map_or_else(String::new, Value::to_string);
    match record.get("name").and_then(Value::as_str) {
        Some(name) if noun == "member" => format!("{name} {value}"),
        _ => value,
    }
}

fn cut(line: &str) -> String {
    if line.chars().count() <= EVENT_CHARS_MAX {
        return line.to_owned();
    }
    line.chars().take(EVENT_CHARS_MAX - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::json;

    use super::super::manifest::AgentEntry;
    use super::*;

    #[test]
    fn a_ready_site_says_how_to_talk_to_it() {
        let manifest = Manifest {
            site: "home".to_owned(),
            nats_url: Some("nats://127.0.0.1:4222".to_owned()),
            nats_pid: Some(9),
            agents: vec![AgentEntry {
                name: "n1".to_owned(),
                node_id: 1,
                pid: 8,
                data_dir: PathBuf::from("/x/n1"),
                socket: PathBuf::from("/x/n1/door.sock"),
            }],
        };
        let text = ready(&manifest, "n1", Path::new("/x"), true);
        for word in ["FLOTILLA_SERVER=nats://127.0.0.1:4222", "/x/dev.json", "dev stop --data /x"] {
            assert!(text.contains(word), "{word} in {text}");
        }
        assert!(ready(&manifest, "n1", Path::new("/x"), false).contains("Ctrl-C"));
    }

    #[test]
    fn a_change_is_one_short_line() {
        let record = json!({"desired": {"on": true}});
        assert_eq!(change("device", "a.b", 7, Some(&record)), "     7  device a.b  {\"on\":true}");
        assert_eq!(change("device", "a.b", 8, None), "     8  device a.b  deleted");
        let member = json!({"name": "n2", "role": "voter"});
        assert_eq!(change("member", "2", 9, Some(&member)), "     9  member 2  n2 \"voter\"");
        let long = json!({"value": "x".repeat(1_000)});
        assert_eq!(change("param", "a", 9, Some(&long)).chars().count(), EVENT_CHARS_MAX);
    }
}
