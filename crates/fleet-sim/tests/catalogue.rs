//! The catalogue of mistakes and the switches in the crates name the same things.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use fleet_sim::Fault;
use fleet_sim::judge::BUGS;

/// How many mistakes there are at least.
const BUGS_MIN: usize = 30;

fn switches(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            switches(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let uses = text.split("seeded::on(\"").skip(1);
            found.extend(uses.map(|rest| rest.split('"').next().unwrap().to_owned()));
        }
    }
}

/// The words that a table of the document tells in its first column: what its rows begin with.
fn told(document: &str) -> BTreeSet<String> {
    let rows = document.lines().filter_map(|line| line.strip_prefix("| "));
    rows.map(|row| row.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn the_document_tells_of_every_mistake_and_every_fault() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let document = fs::read_to_string(root.join("docs/reliability.md")).unwrap();
    let rows = told(&document);
    let untold: Vec<&str> =
        BUGS.iter().map(|bug| bug.name).filter(|n| !rows.contains(*n)).collect();
    assert!(untold.is_empty(), "no row tells after how many seeds these are found: {untold:?}");
    let named = |fault: &Fault| document.contains(&format!("`{}`", fault.as_str()));
    let unnamed: Vec<&Fault> = Fault::ALL.iter().filter(|fault| !named(fault)).collect();
    assert!(unnamed.is_empty(), "not told of: {unnamed:?}");
}

#[test]
fn every_mistake_has_its_switch_and_every_switch_its_entry() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = BTreeSet::new();
    for name in ["fleet-consensus", "fleet-device", "fleet-log", "fleet-state"] {
        switches(&crates.join(name).join("src"), &mut found);
    }
    let listed: BTreeSet<String> = BUGS.iter().map(|bug| bug.name.to_owned()).collect();
    assert_eq!(found, listed);
    assert_eq!(listed.len(), BUGS.len(), "a name stands twice");
    assert!(listed.len() >= BUGS_MIN);
}
