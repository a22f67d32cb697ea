//! The mistakes, by name, with what each of them breaks.

/// A mistake that can be switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bug {
    /// The name of its switch.
    pub name: &'static str,
    /// What goes wrong.
    pub breaks: &'static str,
    /// What runs choose otherwise than their seeds, where it shows too seldom without.
    pub with: &'static [(&'static str, &'static str)],
}

const fn bug(name: &'static str, breaks: &'static str) -> Bug {
    Bug { name, breaks, with: &[] }
}

impl Bug {
    const fn with(self, with: &'static [(&'static str, &'static str)]) -> Self {
        Self { with, ..self }
    }
}

/// Leaders that last for milliseconds, entries that travel one by one, and not in order: one may be
/// on a majority while the next one, of the leader's own term, is not.
const SHORT_REIGNS: &[(&str, &str)] = &[
    ("faults", "short_reigns"),
    ("fault_gap_ms_max", "400"),
    ("append_bytes_max", "1"),
    ("nodes", "5"),
    ("voters", "5"),
    ("network.in_order", "false"),
    ("network.loss", "100"),
];

/// All of them.
pub const BUGS: &[Bug] = &[
    // Votes, terms and quorums.
    bug("vote-forgotten-at-restart", "who was voted for is not read back: two votes in a term"),
    bug("vote-not-written", "term and vote alone are not written: forgotten at a restart"),
    bug("two-votes-in-a-term", "a vote is given to every candidate that asks"),
    bug("refusal-counts-as-vote", "a candidate counts refusals as votes"),
    bug("vote-for-a-shorter-log", "a vote is given without a look at the candidate's log"),
    bug("quorum-of-half", "what half of the voters have counts as committed"),
    bug("earlier-term-committed-by-count", "entries of earlier terms are committed by counting")
        .with(SHORT_REIGNS),
    bug("answers-of-old-terms-counted", "acknowledgements of an earlier term count in this one"),
    bug(
        "leaders-of-old-terms-obeyed",
        "appends of a former leader are taken for the present one's",
    ),
    bug("guard-off", "what the guard refuses is stepped nevertheless"),
    bug("late-reject-accepted", "a late rejection sets back what is known to be equal"),
    // Durability.
    bug("answer-before-persist", "votes and acknowledgements leave before the sync"),
    bug("sync-forgotten", "the log is written and never synced"),
    bug("sync-error-ignored", "a failed sync of the log is taken for done"),
    bug("hard-state-before-entries", "a commit index is durable before its entries"),
    bug("segment-not-synced", "a new segment gets its name before its bytes are durable"),
    bug("segment-name-not-synced", "the name of a new segment is not durable"),
    bug("snapshot-not-synced", "a snapshot gets its name before its bytes are durable"),
    bug("snapshot-name-not-synced", "the name of a snapshot is not durable"),
    bug("configuration-not-durable", "a configuration in force can be forgotten by all"),
    // The log on disk.
    bug("truncate-keeps-tail", "dropping a conflicting tail is not written"),
    bug("stale-chain-after-truncate", "the chain of checksums is wrong after a truncation"),
    bug("segments-not-chained", "a new segment does not continue the chain of checksums"),
    bug("checksum-not-checked", "records with a wrong checksum are believed"),
    bug("log-never-compacted", "the log grows for ever, snapshots or not"),
    bug("needed-segment-removed", "compaction removes a segment too many"),
    bug("log-cut-beyond-snapshot", "the log is cut behind what any snapshot holds"),
    bug("log-not-reset-at-install", "the old log stays when a snapshot is installed"),
    bug("restart-applied-above-snapshot", "a restart skips entries behind the snapshot"),
    // Programs of different ages.
    bug("level-not-asked", "a command is proposed that an older program can't read"),
    bug("level-by-the-newest", "the site has the level that its newest program reads"),
    // Membership.
    bug("snapshot-without-learners", "a snapshot forgets who learns"),
    bug("snapshot-for-a-stranger", "a snapshot is offered to a node that it does not know"),
    bug("removed-leader-goes-on", "a leader that was removed goes on leading"),
    bug("node-id-reused", "a joiner gets the id of a removed node"),
    // State and time.
    bug("wall-clock-in-apply", "a node's own clock gets into the state"),
    bug("empty-entry-not-applied", "a new leader's empty entry leaves no trace in the state"),
    bug("log-time-goes-back", "log time follows the stamps back"),
    bug("log-time-by-wall-clock", "a leader stamps by its wall clock"),
    bug("log-time-as-heard", "an old entry that arrives late makes it early again"),
    bug("precondition-ignored", "a write that expects another revision is done"),
    bug("batch-done-in-part", "a refused batch leaves its first writes behind"),
    // Answers.
    bug("answered-when-appended", "an answer is given before the command is committed"),
    bug("timeout-called-refusal", "a deadline that passes is told as a refusal"),
    bug("refusal-after-unknown-is-final", "a second attempt's refusal hides the first's success"),
    bug("answers-not-in-snapshot", "a snapshot forgets the answers"),
    bug("answers-forgotten-early", "answers are forgotten at once and without a trace"),
    bug("forgotten-without-horizon", "what was forgotten leaves no trace"),
    bug("repeat-carried-out-again", "a retry is carried out a second time"),
    bug("repeat-answered-anew", "a retry is told another revision than the first time"),
    // Links and devices.
    bug("lease-from-the-answer", "a lease is counted from the answer instead of the question"),
    bug("taken-without-waiting", "a link is taken from its owner before its lease is over"),
    bug("links-never-taken-over", "a link stays with an owner that is gone for good"),
    bug("claim-skipped", "a one-shot is handed over without asking the log"),
    bug("expiry-ignored", "a one-shot that was granted in time is handed over after it"),
    bug("epoch-not-checked", "what a former owner says counts"),
    bug("end-of-another-wish-counts", "the end of a write counts for a newer wish too"),
    // Reads.
    bug("read-answered-before-apply", "a read does not wait until its index is applied"),
    bug("read-before-own-commit", "a new leader answers reads before it knows what is committed"),
    bug("read-without-majority", "a leader answers reads without asking whether it still leads"),
    bug("reads-by-lease", "a leader answers reads by its own clock"),
];
