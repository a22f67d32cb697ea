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

/// Of a hundred answers so many must have been judged at least.
const JUDGED_PERCENT_MIN: u64 = 95;
/// Fewer answers show nothing.
const JUDGED_MIN: u64 = 100;

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
    /// Terms that had a leader.
    pub terms: usize,
    /// The most memory that an agent had after a strike, and whose it was.
    pub resident_most: (u64, String),
    /// Parts of the run that have failed, and why.
    pub failed: Vec<String>,
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
        line("operations answered over NATS", counts.over_nats.to_string());
        line("answers judged", format!("{} of {}", self.verdict.judged, counts.answered()));
        line("terms with a leader", self.terms.to_string());
        let (bytes, name) = &self.resident_most;
        line("most memory after a strike", format!("{} MiB, of {name}", bytes >> 20));
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
            let _ = writeln!(text, "  {at:>7.1} s  {:<20} {became}", drawn.fault.name());
        }
        text.push_str("\nverdict\n");
        for wrong in self.wrong() {
            let _ = writeln!(text, "  {wrong}");
        }
        if self.verdict.is_whole() {
            text.push_str(
                "  every answer has an explanation, and nothing was read from the past\n",
            );
        } else if self.verdict.violations.is_empty() {
            let unjudged = counts.answered() - self.verdict.judged;
            let _ = writeln!(
                text,
                "  {unjudged} answers were not judged; the others have an explanation, and nothing was \
                 read from the past"
            );
        }
        if self.failed.is_empty() {
            text.push_str("  all agents hold the same, no term had two leaders, nobody panicked\n");
        }
        text
    }

    /// Everything for which this run has failed.
    pub fn wrong(&self) -> Vec<String> {
        let violations = self.verdict.violations.iter().map(|it| format!("VIOLATED {it}"));
        let failed = self.failed.iter().map(|it| format!("FAILED {it}"));
        let mut wrong: Vec<String> = violations.chain(failed).collect();
        let missing: Vec<String> = missing(&self.drawn).into_iter().map(Fault::name).collect();
        if !missing.is_empty() {
            wrong.push(format!("FAILED to make these: {}", missing.join(", ")));
        }
        let percent = self.verdict.judged_percent();
        if self.verdict.judged < JUDGED_MIN || percent < JUDGED_PERCENT_MIN {
            wrong.push(format!("FAILED to judge enough: {percent} % of all answers"));
        }
        if self.verdict.counts.over_nats < JUDGED_MIN {
            wrong.push("FAILED to ask enough over NATS".to_owned());
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::recorder::Counts;

    fn report(judged: u64) -> Report {
        let of = |fault: &Fault| Drawn {
            fault: *fault,
            at: Duration::ZERO,
            became: Became::Fired(String::new()),
        };
        let counts = Counts { done: 600, read: 400, over_nats: 500, ..Counts::default() };
        Report {
            seed: 1,
            took: Duration::from_secs(60),
            drawn: Fault::ALL.iter().map(of).collect(),
            verdict: Verdict { violations: Vec::new(), judged, counts },
            terms: 3,
            resident_most: (64 << 20, "n1".to_owned()),
            failed: Vec::new(),
        }
    }

    #[test]
    fn it_says_no_more_than_was_judged() {
        let everything = "every answer has an explanation";
        let whole = report(1_000);
        assert_eq!(whole.wrong(), Vec::<String>::new());
        assert!(whole.text().contains(everything), "{}", whole.text());
        let most = report(960);
        assert_eq!(most.wrong(), Vec::<String>::new());
        assert!(!most.text().contains(everything) && most.text().contains("40 answers were not"));
        assert_eq!(report(900).wrong().len(), 1);
    }

    #[test]
    fn what_has_failed_stands_in_it() {
        let failed = vec!["the strikes: waited in vain".to_owned()];
        let report = Report { failed, drawn: Vec::new(), ..report(1_000) };
        let text = report.text();
        assert!(text.contains("FAILED the strikes: waited in vain"), "{text}");
        assert!(text.contains("FAILED to make these: kill, kill_leader"), "{text}");
        assert!(!text.contains("nobody panicked"), "{text}");
    }
}
