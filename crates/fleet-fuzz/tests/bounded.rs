//! Every target for a moment, and every input that ever found something.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

use std::time::Duration;

use fleet_fuzz::{TARGETS, fuzz};

/// For each target.
const TIME: Duration = Duration::from_millis(1_500);
const INPUTS_MAX: u64 = 60_000;
/// Fewer different answers mean that the target is not reached.
const WORDS_MIN: usize = 3;

fn run(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    match fuzz(target, 1, TIME, INPUTS_MAX) {
        Ok(report) => {
            println!("{name}: {report:?}");
            assert!(report.words >= WORDS_MIN, "{name} heard too little: {report:?}");
        }
        Err(finding) => panic!("{name}: {}\ninput {:?}", finding.what, finding.input),
    }
}

macro_rules! bounded {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })*

        #[test]
        fn every_target_is_run() {
            let names = [$(stringify!($name)),*];
            assert_eq!(names.to_vec(), TARGETS.iter().map(|t| t.name).collect::<Vec<_>>());
        }
    };
}

bounded! { frame payload entry proposal snapshot log request value ids token reply_subject duration }
