//! Programs of different ages: what a newer one brings waits for the oldest.

use fleet_state::limits::FEATURE_LEVEL;

use super::super::*;
use super::hall::*;
use crate::{Fault, StartError};

const NEWER: u16 = FEATURE_LEVEL + 1;

/// Asks a node for what came with the newer level. Gives back whether it was taken in.
fn is_taken(hall: &mut Hall, node: u64, token: u64) -> bool {
    let command = Command::ParamDelete { key: "p0".parse().expect("a key") };
    let proposal = proposal(&format!("newer.{token}"), command);
    let deadline_ms = hall.now_ms + 60_000;
    hall.replica(node).handle_submit(&proposal, deadline_ms, token);
    hall.until("an end", |hall| hall.decided.contains(&token));
    !hall.busy.contains(&token)
}

fn level(hall: &mut Hall, node: u64) -> u16 {
    hall.replica(node).state().feature_level()
}

/// A node gets another program.
fn restart(hall: &mut Hall, node: u64, reads: u16) -> Result<Vec<String>, StartError> {
    hall.place(node).replica = None;
    let at = usize::try_from(node - 1).expect("few");
    *hall.settings.reads.get_mut(at).expect("one of three") = reads;
    hall.start(node)
}

#[test]
fn what_came_with_a_level_is_taken_once_all_members_read_it() {
    let mut hall = Hall::new(&[], Settings::default());
    hall.write(1, "x");
    for (token, node) in (1_000..).zip([3, 2, 1]) {
        assert!(!is_taken(&mut hall, node, token), "node {node} was the first of its age");
        restart(&mut hall, node, NEWER).expect("opened");
        hall.write(30, "y");
        let known = |hall: &mut Hall| {
            let leader = hall.until_led();
            let member = hall.replica(leader).state().member(&id(node)).cloned();
            member.is_some_and(|member| member.feature_level == NEWER)
        };
        hall.until("the log knows what the program reads", known);
    }
    let raised = |hall: &mut Hall| (1..=3).all(|node| level(hall, node) == NEWER);
    hall.until("all have the newer level", raised);
    for node in 1..=3 {
        assert!(is_taken(&mut hall, node, 2_000 + node));
    }
    hall.until("all agree", Hall::agrees);
    assert!(hall.faults.is_empty(), "{:?}", hall.faults);
}

#[test]
fn a_program_that_reads_less_than_the_site_has_stops_and_says_so() {
    let settings = Settings { reads: [NEWER; 3], ..Settings::default() };
    let mut hall = Hall::new(&[], settings);
    hall.until_led();
    hall.until("the newer level", |hall| (1..=3).all(|node| level(hall, node) == NEWER));
    assert!(is_taken(&mut hall, 2, 1_000));
    let error = restart(&mut hall, 3, FEATURE_LEVEL).expect_err("it does not start");
    let text = error.to_string();
    assert!(
        matches!(error, StartError::Fault(Fault::TooOld { site: NEWER, reads: FEATURE_LEVEL })),
        "{text}"
    );
    assert!(text.contains("Install the version that the other nodes run"), "{text}");
    restart(&mut hall, 3, NEWER).expect("opened");
    hall.until("all agree", Hall::agrees);
}
