//! What was done and what held, for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use crate::chaos::fault::Fault;
use crate::chaos::recorder::Verdict;

/// What became of a fault that was drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Became {
    /// It has fired, and this proves it.
    Fired(String),
    /// This machine can't make it.
    NotHere(String),
    /// It could not be made at that moment, and comes again.
    NotNow(String),
}

/// One fault that was drawn.
#[derive(Debug, Clone)]
pub struct Drawn {
    /// Which.
    pub fault: Fault,
    /// When, from the beginning on.
    pub at: Duration,
    /// What became of it.
    pub became: Became,
}

/// Those that neither fired nor were beyond this machine.
pub fn missing(drawn: &[Drawn]) -> Vec<Fault> {
    let ended = drawn.iter().filter(|drawn| !matches!(drawn.became, Became::NotNow(_)));
    let ended: BTreeSet<Fault> = ended.map(|drawn| drawn.fault).collect();
    Fault::ALL.iter().copied().filter(|fault| !ended.contains(fault)).collect()
}

/// A whole run.
#[derive(Debug)]
pub struct Report {
    /// What decided.
    pub seed: u64,
    /// How long clients and faults were at it.
    pub took: Duration,
    /// The faults in their order.
    pub drawn: Vec<Drawn>,
    /// What the judges say.
    pub verdict: Verdict,
    /// Terms that had a leader, and how many of them had two.
    pub terms: usize,
    /// Whether all agents held the same in the end.
    pub digests: String,
}

impl Report {
    /// How often each fault fired.
    pub fn fired(&self) -> BTreeMap<Fault, usize> {
        let mut counts = BTreeMap::new();
        for drawn in self.drawn.iter().filter(|it| matches!(it.became, Became::Fired(_))) {
            *counts.entry(drawn.fault).or_default() += 1;
        }
        counts
    }

    /// The report.
    pub fn text(&self) -> String {
        let (counts, seconds) = (&self.verdict.counts, self.took.as_secs_f64());
        let mut text = format!("chaos, seed {}, {seconds:.0} s\n\n", self.seed);
        let mut line = |what: &str, value: String| {
            let _ = writeln!(text, "  {what:<44} {value}");
        };
        line("operations begun", counts.begun.to_string());
        line("writes done", counts.done.to_string());
        line("writes decided against", counts.declined.to_string());
        line("reads answered", counts.read.to_string());
        line("attempts without an answer, made again", counts.repeated.to_string());
        line("ended unknown", counts.unknown.to_string());
        line("longest time in which nothing ended", format!("{:?}", counts.longest_gap));
        line("ends that have an explanation", self.verdict.explained.to_string());
        line("terms with a leader, all with one", self.terms.to_string());
        line("state of all agents in the end", self.digests.clone());
        text.push_str("\nfaults that fired\n");
        for (fault, count) in self.fired() {
            let _ = writeln!(text, "  {:<20} {count}", fault.name());
        }
        text.push_str("\nin their order\n");
        for drawn in &self.drawn {
            let became = match &drawn.became {
                Became::Fired(proof) => proof.clone(),
                Became::NotHere(why) => format!("NOT RUN: {why}"),
                Became::NotNow(why) => format!("not now: {why}"),
            };
            let at = drawn.at.as_secs_f64();
            let _ = writeln!(text, "  {at:>7.1} s  {:<18} {became}", drawn.fault.name());
        }
        text.push_str("\nverdict\n");
        if self.verdict.violations.is_empty() {
            text.push_str(
                "  every answer has an explanation, and nothing was read from the past\n",
            );
        }
        for violation in &self.verdict.violations {
            let _ = writeln!(text, "  VIOLATED {violation}");
        }
        text
    }
}
