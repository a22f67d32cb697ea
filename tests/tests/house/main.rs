//! The rules of the house that a compiler does not keep.
//!
//! Each test walks the repository and lists every place that breaks one rule, so
//! that a failure can be repaired from its message alone. What is allowed stands in
//! the tables at the top; a new crate has to be entered there, with what it may use.
//!
//! The tests read sources as text. They skip comment lines, and where a rule speaks
//! of the product only, everything from a file's `#[cfg(test)] mod` on and every
//! `tests` folder.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

mod gossip;
mod manifests;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Every crate of the workspace, its folder, and which of our crates it may use.
const CRATES: &[(&str, &str, &[&str])] = &[
    ("fleet-state", "crates/fleet-state", &[]),
    ("fleet-log", "crates/fleet-log", &[]),
    ("fleet-consensus", "crates/fleet-consensus", &["fleet-log", "fleet-state"]),
    ("fleet-protocol", "crates/fleet-protocol", &["fleet-state"]),
    ("fleet-device", "crates/fleet-device", &["fleet-consensus", "fleet-state"]),
    // Judges what clients heard, of simulated sites and of real ones alike.
    ("fleet-judge", "crates/fleet-judge", &[]),
    (
        "fleet-sim",
        "crates/fleet-sim",
        &["fleet-consensus", "fleet-device", "fleet-judge", "fleet-log", "fleet-state"],
    ),
    (
        "fleet-fuzz",
        "crates/fleet-fuzz",
        &["fleet-consensus", "fleet-log", "fleet-protocol", "fleet-state"],
    ),
    ("fleet-client", "crates/fleet-client", &["fleet-protocol", "fleet-state"]),
    (
        "flotilla-agent",
        "agent",
        &["fleet-consensus", "fleet-device", "fleet-log", "fleet-protocol", "fleet-state"],
    ),
    ("flotilla", "control-cli", &["fleet-client", "fleet-protocol", "fleet-state"]),
    // The judge knows no encoding of ours, so that no mistake can hide in what is shared.
    ("flotilla-tests", "tests", &["fleet-judge"]),
];

/// Crates without a clock, a task, a file, a socket or a random source.
const PURE: &[&str] = &[
    "fleet-state",
    "fleet-log",
    "fleet-consensus",
    "fleet-device",
    "fleet-judge",
    "fleet-protocol",
];

/// What a pure crate may not name.
const IMPURE: &[&str] = &[
    "tokio::",
    "SystemTime",
    "Instant::now",
    "Utc::now",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::env",
    "getrandom",
    "rand::",
    "OsRng",
    "HashMap",
    "HashSet",
];

/// What a pure crate may not depend on, in whatever version.
const IMPURE_DEPENDENCIES: &[&str] = &[
    "tokio",
    "async-nats",
    "libp2p",
    "rand",
    "getrandom",
    "chrono",
    "rustix",
    "tracing-subscriber",
];

/// Third-party crates that only some of ours may depend on.
const CONFINED_DEPENDENCIES: &[(&str, &[&str])] = &[
    ("raft", &["fleet-consensus"]),
    ("async-nats", &["flotilla-agent", "fleet-client", "flotilla-tests"]),
    ("libp2p", &["flotilla-agent"]),
    ("anyhow", &["flotilla-agent", "flotilla", "flotilla-tests"]),
];

/// Words that only files below some folders may use.
const CONFINED_WORDS: &[(&str, &[&str])] = &[
    (
        "async_nats",
        &[
            "agent/src/transport",
            "agent/src/control",
            "agent/src/nats",
            // A gateway asks to be let in before it has a control plane of its own.
            "agent/src/site",
            "agent/src/device/connectors/nats",
            "crates/fleet-client/src",
            "tests/",
        ],
    ),
    ("libp2p", &["agent/src/mesh"]),
    (
        "anyhow",
        // What a program says before it ends; no module of the agent returns it.
        &[
            "agent/src/main.rs",
            "agent/src/agent.rs",
            "agent/src/agent/",
            "agent/src/commands.rs",
            // `init`, `join` and `restore`: they run once, from main.
            "agent/src/site",
            "control-cli/src",
            "tests/",
        ],
    ),
];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &[
    "common", "util", "utils", "helper", "helpers", "types", "handler", "handlers", "manager",
    "misc",
];

/// The one file that spells subjects.
const SUBJECTS_FILES: &str = "crates/fleet-protocol/src/subjects";
const FUZZER: &str = "crates/fleet-fuzz/";

const LINES_MAX: usize = 600;
const LINES_WANTED_MAX: usize = 400;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// One Rust source file of ours.
struct Source {
    /// Path from the root of the repository, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || self.path.ends_with("/tests.rs")
            || self.path.contains("/benches/")
            || self.path.contains("/examples/")
    }

    /// The lines of the product: up to the first `#[cfg(test)]` that opens a module,
    /// numbered from 1, comment lines left out. None of it if the file is a test.
    fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let count = if self.is_test() { 0 } else { self.lines_without_tests() };
        numbered_code(&self.text).take_while(move |(number, _)| *number <= count)
    }

    fn lines_without_tests(&self) -> usize {
        let lines: Vec<&str> = self.text.lines().collect();
        lines
            .iter()
            .enumerate()
            .find(|(at, line)| {
                line.trim() == "#[cfg(test)]"
                    && lines[at + 1..]
                        .iter()
                        .find(|next| !next.trim().starts_with("#["))
                        .is_some_and(|next| {
                            next.trim().starts_with("mod ") && next.trim().ends_with('{')
                        })
            })
            .map_or(lines.len(), |(at, _)| at)
    }
}

fn numbered_code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn sources() -> Vec<Source> {
    let root = root();
    let mut found = Vec::new();
    for (_, folder, _) in CRATES {
        walk(&root.join(folder), &mut |path| {
            if path.extension().is_some_and(|extension| extension == "rs") {
                let relative =
                    path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
                found.push(Source { path: relative, text: fs::read_to_string(path).unwrap() });
            }
        });
    }
    assert!(found.len() >= CRATES.len(), "the walk found only {} sources", found.len());
    found
}

fn walk(folder: &Path, visit: &mut dyn FnMut(&Path)) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_string_lossy();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                walk(&path, visit);
            }
        } else {
            visit(&path);
        }
    }
}

fn manifest(folder: &str) -> toml::Table {
    let path = root().join(folder).join("Cargo.toml");
    fs::read_to_string(&path).unwrap().parse().unwrap()
}

/// Names of the dependencies in one section, in every target's variant of it too.
fn dependencies(manifest: &toml::Table, section: &str) -> Vec<String> {
    let mut tables = vec![manifest.get(section)];
    if let Some(targets) = manifest.get("target").and_then(toml::Value::as_table) {
        tables.extend(targets.values().map(|target| target.get(section)));
    }
    let tables = tables.into_iter().flatten().filter_map(toml::Value::as_table);
    tables.flat_map(|table| table.keys().cloned()).collect()
}

fn assert_none(broken: &[String], rule: &str) {
    assert!(broken.is_empty(), "{rule}\n  {}", broken.join("\n  "));
}

#[test]
fn third_party_crates_stay_where_they_belong() {
    let mut broken = Vec::new();
    for (name, folder, _) in CRATES {
        let manifest = manifest(folder);
        let direct = dependencies(&manifest, "dependencies");
        for (confined, allowed) in CONFINED_DEPENDENCIES {
            if direct.iter().any(|dependency| dependency == confined) && !allowed.contains(name) {
                broken.push(format!("{name} may not depend on {confined}; only {allowed:?} may"));
            }
        }
        if PURE.contains(name) {
            for dependency in direct.iter().filter(|it| IMPURE_DEPENDENCIES.contains(&it.as_str()))
            {
                broken.push(format!("{name} is pure and may not depend on {dependency}"));
            }
        }
    }
    for source in sources() {
        for (word, folders) in CONFINED_WORDS {
            if folders.iter().any(|folder| source.path.starts_with(folder)) {
                continue;
            }
            for (number, _) in source.product_lines().filter(|(_, line)| has_word(line, word)) {
                broken.push(format!("{}:{number} names {word}; only {folders:?} may", source.path));
            }
        }
    }
    assert_none(&broken, "a library has left its place:");
}

#[test]
fn pure_crates_touch_nothing_outside() {
    let folders: Vec<String> = CRATES
        .iter()
        .filter(|(name, _, _)| PURE.contains(name))
        .map(|(_, folder, _)| format!("{folder}/src/"))
        .collect();
    let mut broken = Vec::new();
    for source in sources() {
        if !folders.iter().any(|folder| source.path.starts_with(folder)) {
            continue;
        }
        for (number, line) in source.product_lines() {
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                broken.push(format!("{}:{number} names {word}", source.path));
            }
        }
    }
    assert_none(
        &broken,
        "a pure crate takes time, randomness and bytes as arguments, and iterates in a fixed order:",
    );
}

#[test]
fn subjects_are_spelled_in_one_file() {
    let mut broken = Vec::new();
    for source in sources() {
        // What feeds hostile text to the parsers spells subjects as an attacker would.
        if source.path.starts_with(SUBJECTS_FILES) || source.path.starts_with(FUZZER) {
            continue;
        }
        for (number, line) in source.product_lines() {
            let spelled = line.match_indices("\"flotilla.").any(|(at, found)| {
                !["toml\"", "service\""]
                    .iter()
                    .any(|file| line[at + found.len()..].starts_with(file))
            });
            if spelled {
                broken.push(format!("{}:{number} {}", source.path, line.trim()));
            }
        }
    }
    assert_none(&broken, &format!("subjects are built by {SUBJECTS_FILES}.rs, nowhere else:"));
}

#[test]
fn every_channel_has_a_bound() {
    let forbidden =
        ["unbounded_channel", "UnboundedSender", "UnboundedReceiver", "channel::unbounded"];
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.path != "tests/tests/house/main.rs") {
        for (number, line) in numbered_code(&source.text) {
            if forbidden.iter().any(|word| line.contains(word)) {
                broken.push(format!("{}:{number} {}", source.path, line.trim()));
            }
        }
    }
    assert_none(&broken, "a queue without a bound is a slow crash:");
}

#[test]
fn tests_wait_for_a_condition_and_never_sleep() {
    let allowed = ["tests/src/wait.rs", "tests/tests/house/main.rs"];
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.is_test()) {
        if allowed.contains(&source.path.as_str()) {
            continue;
        }
        for (number, line) in numbered_code(&source.text) {
            if line.contains("sleep(") || line.contains("sleep_until(") {
                broken.push(format!("{}:{number} {}", source.path, line.trim()));
            }
        }
    }
    assert_none(&broken, "use flotilla_tests::wait, which has a deadline:");
}

#[test]
fn names_say_what_is_inside() {
    let mut broken = Vec::new();
    for (name, _, _) in CRATES {
        if name.split('-').any(|part| EMPTY_NAMES.contains(&part)) {
            broken.push(format!("crate {name}"));
        }
    }
    for source in sources() {
        let path = Path::new(&source.path);
        for part in path.with_extension("").components() {
            let part = part.as_os_str().to_string_lossy().into_owned();
            let empty = part.split('_').any(|word| EMPTY_NAMES.contains(&word));
            if empty {
                broken.push(source.path.clone());
            }
        }
    }
    assert_none(&broken, "a file named for nothing collects everything:");
}

#[test]
fn files_stay_small() {
    let mut broken = Vec::new();
    for source in sources() {
        let lines = source.lines_without_tests();
        if lines > LINES_MAX {
            broken.push(format!("{} has {lines} lines without its tests", source.path));
        } else if lines > LINES_WANTED_MAX && !source.is_test() {
            eprintln!("note: {} has {lines} lines; {LINES_WANTED_MAX} are wanted", source.path);
        }
    }
    assert_none(&broken, &format!("more than {LINES_MAX} lines; split by responsibility:"));
}

/// Whether `line` holds `word` not as a part of a longer name.
fn has_word(line: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(part_of_name) && !line[at + word.len()..].starts_with(part_of_name)
    })
}

/// Crates that make mistakes on purpose when they are asked to, for the judge of the simulator.
const SEEDED: &[&str] =
    &["fleet-consensus", "fleet-device", "fleet-log", "fleet-sim", "fleet-state"];

/// The programs of a site, each with the line that keeps mistakes out of it.
const PROGRAMS: &[(&str, &str)] = &[
    ("agent/src/lib.rs", "const _: () = assert!(!fleet_consensus::seeded::COMPILED"),
    ("control-cli/src/main.rs", "const _: () = assert!(!fleet_state::seeded::COMPILED"),
];

#[test]
fn mistakes_made_on_purpose_stay_out_of_the_programs() {
    let mut broken = Vec::new();
    for (name, folder, _) in CRATES {
        let manifest = manifest(folder);
        let features = manifest.get("features").and_then(toml::Value::as_table);
        let default = features.and_then(|features| features.get("default"));
        if default.is_some_and(|default| default.to_string().contains("seeded-bugs")) {
            broken.push(format!("{name} makes mistakes by default"));
        }
        let has = features.is_some_and(|features| features.contains_key("seeded-bugs"));
        if has != SEEDED.contains(name) {
            broken.push(format!("{name}: the feature seeded-bugs is for {SEEDED:?}"));
        }
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let uses = manifest.get(section).map(ToString::to_string).unwrap_or_default();
            if uses.contains("seeded-bugs") {
                broken.push(format!("{name} enables seeded-bugs in its {section}"));
            }
        }
    }
    for (path, line) in PROGRAMS {
        let text = fs::read_to_string(root().join(path)).unwrap();
        if !text.contains(line) {
            broken.push(format!("{path} lacks {line:?}"));
        }
    }
    assert_none(&broken, "what makes mistakes on purpose must never run a site:");
}
