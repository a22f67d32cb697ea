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
