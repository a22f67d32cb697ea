//! Random histories of calls, faults, kills and power cuts, against a vector.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

mod support;

use fleet_log::{DiskFault, HardState, Log, LogConfig, LogError, MemoryDisk, Position};
use proptest::prelude::*;
use support::model::{Call, Model};
use support::{Contents, IDENTITY, contents};

#[derive(Clone, Debug)]
enum Step {
    Call(Call),
    /// The process ends without a word; the next one has another configuration.
    Kill {
        config: LogConfig,
    },
    PowerCut {
        seed: u64,
    },
    /// A fault in one of the next calls to the disk, then a kill or a power cut.
    Fault {
        ahead: u64,
        fault: DiskFault,
        power_cut: Option<u64>,
    },
}

fn config() -> impl Strategy<Value = LogConfig> {
    (1024..4096_u64, 0..2048_usize)
        .prop_map(|(segment_bytes, cache_bytes)| LogConfig { segment_bytes, cache_bytes })
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        6 => (0..4_u64, 0..8_u64, any::<bool>())
            .prop_map(|(back, count, newer_term)| Call::Append { back, count, newer_term }),
        3 => (0..2_u64, 0..4_u64, 0..6_u64)
            .prop_map(|(terms, vote, commits)| Call::HardState { terms, vote, commits }),
        6 => Just(Call::Sync),
        1 => Just(Call::Mark),
        1 => (0..12_u64).prop_map(|ahead| Call::Compact { ahead }),
        1 => (0..12_u64).prop_map(|ahead| Call::Reset { ahead }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let fault = prop_oneof![
        Just(DiskFault::Io),
        Just(DiskFault::NoSpace),
        Just(DiskFault::ShortWrite),
        Just(DiskFault::Stop),
    ];
    prop_oneof![
        20 => call().prop_map(Step::Call),
        1 => config().prop_map(|config| Step::Kill { config }),
        1 => any::<u64>().prop_map(|seed| Step::PowerCut { seed }),
        1 => (0..6_u64, fault, any::<Option<u64>>())
            .prop_map(|(ahead, fault, power_cut)| Step::Fault { ahead, fault, power_cut }),
    ]
}

struct Run {
    disk: MemoryDisk,
    config: LogConfig,
    /// What becomes of the machine when the planned fault happens.
    planned: Option<Option<u64>>,
    log: Log<MemoryDisk>,
    model: Model,
}

impl Run {
    fn new(config: LogConfig) -> Self {
        let disk = MemoryDisk::new();
        let start = Position::default();
        let hard_state = HardState::default();
        let log = Log::create(disk.clone(), IDENTITY, config, start, hard_state).unwrap();
        let model = Model::new(contents(&log));
        Self { disk, config, planned: None, log, model }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Call(call) => match self.model.call(&mut self.log, call) {
                Ok(()) => self.compare(),
                Err(LogError::Storage { .. }) => {
                    let power_cut = self.planned.take().unwrap();
                    self.reopen(power_cut, true);
                }
                Err(error) => panic!("{call:?}: {error}"),
            },
            Step::Kill { config } => {
                self.config = *config;
                self.reopen(None, false);
            }
            Step::PowerCut { seed } => self.reopen(Some(*seed), false),
            Step::Fault { ahead, fault, power_cut } if self.planned.is_none() => {
                self.disk.plan_fault(self.disk.calls() + ahead, *fault);
                self.planned = Some(*power_cut);
            }
            Step::Fault { .. } => {}
        }
    }

    fn compare(&self) {
        assert_eq!(contents(&self.log), self.model.now);
        assert_eq!(self.log.last(), self.model.last());
        for entry in &self.model.now.entries {
            assert_eq!(self.log.term(entry.index), Some(entry.term));
        }
    }

    fn reopen(&mut self, power_cut: Option<u64>, in_flight: bool) {
        // A fork has no planned faults, and a stopped machine goes on in it.
        self.disk = self.disk.fork();
        self.planned = None;
        if let Some(seed) = power_cut {
            self.disk.power_cut(seed);
        }
        let (log, recovery) = Log::open(self.disk.clone(), IDENTITY, self.config).unwrap();
        if !in_flight {
            assert_eq!(recovery.cut, None, "everything written had been synced");
        }
        self.log = log;
        let found: Contents = contents(&self.log);
        self.model.settle(found, in_flight);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_holds_what_its_history_says(
        config in config(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut run = Run::new(config);
        for step in &steps {
            run.step(step);
        }
        run.reopen(Some(1), false);
    }
}
