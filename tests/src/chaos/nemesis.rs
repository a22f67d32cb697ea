//! Draws faults from a seed, makes them, proves that each has fired, and mends them.

use std::time::{Duration, Instant};

use crate::chaos::clocks::{self, Clock};
use crate::chaos::disks::Tracer;
use crate::chaos::fault::{Family, Fault};
use crate::chaos::making::NotMade;
use crate::chaos::proofs::{check_running, kill_running, lost_by_agent, mend_disk, mend_sync};
use crate::chaos::random::Random;
use crate::chaos::report::{Became, Drawn};
use crate::chaos::starving::Starved;
use crate::disk::{Filler, SmallDisk};
use crate::hall::Hall;
use crate::not_run;
use crate::wait;

/// Until a fault has shown that it fired.
pub(super) const PROOF_LIMIT: Duration = Duration::from_secs(30);
/// The same for what the switch throws away, each way between all that are cut: a NATS server pings
/// every two minutes, two followers say little to each other, and of that chance takes a fiftieth.
pub(super) const CUT_LIMIT: Duration = Duration::from_secs(300);
/// How often a fault may come at a moment at which it can't be made.
const PUT_OFF_MAX: usize = 20;
/// How long a fault is left as it is, in milliseconds.
const HOLD_MS: (usize, usize) = (500, 4_000);
/// How often a second fault comes while there is one, out of a hundred.
const TOGETHER_PERCENT: usize = 35;
/// What an unoptimised agent may have in memory: five times the most that was seen.
const RESIDENT_MAX_BYTES: u64 = 256 << 20;
/// The agents whose clocks can jump.
const WITH_CLOCKS: [usize; 2] = [1, 3];
/// The agent whose disk can run full.
pub const WITH_SMALL_DISK: usize = 4;

/// Somebody who means harm.
#[derive(Debug)]
pub struct Nemesis {
    pub(super) random: Random,
    begun: Instant,
    /// What is still to be made of the present round: each fault comes once in a round.
    round: Vec<Fault>,
    pub(super) disk: Option<SmallDisk>,
    pub(super) clocks: Vec<(usize, Clock)>,
    /// What it has done.
    pub drawn: Vec<Drawn>,
    /// The most memory that an agent had after a strike, and whose it was.
    pub resident_most: (u64, String),
}

/// A fault that was made and is not mended yet.
#[derive(Debug)]
pub(super) enum Struck {
    Killed(Vec<usize>),
    Paused(usize),
    Cut,
    Unplugged {
        name: String,
        before: u64,
    },
    ServerKilled {
        lost_before: Vec<(usize, f64)>,
    },
    ServerPaused,
    Full {
        filler: Filler,
        said_before: usize,
    },
    SyncFails {
        index: usize,
        /// Of one that failed while it ran.
        _tracer: Option<Tracer>,
    },
    SyncsSlow {
        index: usize,
        tracer: Tracer,
        by: Duration,
    },
    Starved(Starved),
    Clock {
        at: usize,
        day_before: String,
    },
    /// Nothing is to be mended; this is the proof.
    Over(String),
}

impl Nemesis {
    /// Of this seed, for this hall. `disk` is that of [`WITH_SMALL_DISK`], if it could be mounted.
    pub async fn new(random: Random, hall: &mut Hall, disk: Option<SmallDisk>) -> Self {
        let mut clocks = Vec::new();
        for index in WITH_CLOCKS {
            let workplace = hall.workplace().path().to_owned();
            if let Ok(clock) = Clock::give(&mut hall.agents[index], &workplace) {
                kill_running(&mut hall.agents[index]);
                hall.agents[index].start();
                hall.await_status(index).await;
                clocks.push((index, clock));
            }
        }
        hall.await_leader().await;
        Self {
            random,
            begun: Instant::now(),
            round: Vec::new(),
            disk,
            clocks,
            drawn: Vec::new(),
            resident_most: (0, "nobody".to_owned()),
        }
    }

    /// Makes one fault or two at once, leaves them for a while, and mends them.
    ///
    /// # Panics
    /// If one can't be shown to have fired, or an agent ended that nobody killed.
    pub async fn strike(&mut self, hall: &mut Hall) {
        let first = self.draw(|_| true);
        let mut faults = vec![first];
        if first.is_sociable() && self.random.percent(TOGETHER_PERCENT) {
            faults.push(self.draw(|it| first.goes_with(it)));
        }
        // Who is to lead is asked for among all, and what was lost is counted by all: before one
        // of them is dead, stands still or is cut off.
        faults.sort_by_key(|fault| match fault.family() {
            Family::Members => 0,
            Family::Process => 2,
            _ => 1,
        });
        let mut struck = Vec::new();
        for fault in faults {
            eprintln!("{:>7.1} s {}", self.begun.elapsed().as_secs_f64(), fault.name());
            match self.make(hall, fault).await {
                Ok(made) => struck.push((fault, made)),
                Err(NotMade::Here(why)) => {
                    not_run::say(&format!("{}: {why}", fault.name()));
                    self.note(fault, Became::NotHere(why));
                }
                Err(NotMade::Now(why)) => {
                    let put_off =
                        |it: &&Drawn| it.fault == fault && matches!(it.became, Became::NotNow(_));
                    let times = self.drawn.iter().filter(put_off).count();
                    assert!(times < PUT_OFF_MAX, "{} is never made: {why}", fault.name());
                    self.round.push(fault);
                    self.note(fault, Became::NotNow(why));
                }
            }
        }
        let (low, high) = HOLD_MS;
        let hold = Duration::from_millis(self.random.between(low, high) as u64);
        wait::stays_true("time passes", hold, || async { true }).await;
        // Who is dead or stands still has no part in any proof, so that is mended first; who is to
        // sync slowly must hear of something to sync; and whoever is to lose packets by chance must
        // send some, so that is mended last.
        struck.sort_by_key(|(fault, _)| match fault {
            Fault::Loss => 0,
            Fault::SlowSync => 1,
            fault if fault.family() == Family::Process => 3,
            _ => 2,
        });
        while let Some((fault, made)) = struck.pop() {
            let proof = self.mend(hall, made).await;
            self.note(fault, Became::Fired(proof));
        }
        hall.agents.iter_mut().for_each(check_running);
        self.weigh(hall);
    }

    /// Looks at the memory of all agents, which run.
    fn weigh(&mut self, hall: &mut Hall) {
        for agent in &mut hall.agents {
            let resident = agent.process().resident_bytes();
            if resident > self.resident_most.0 {
                self.resident_most = (resident, agent.name.clone());
            }
            assert!(resident <= RESIDENT_MAX_BYTES, "{} has {resident} bytes", agent.name);
        }
    }

    fn note(&mut self, fault: Fault, became: Became) {
        self.drawn.push(Drawn { fault, at: self.begun.elapsed(), became });
    }

    /// The next fault of the round of which this is true; another round begins when there is none.
    fn draw(&mut self, is_wanted: impl Fn(Fault) -> bool) -> Fault {
        loop {
            if let Some(at) = self.round.iter().position(|fault| is_wanted(*fault)) {
                return self.round.remove(at);
            }
            let mut more = Fault::ALL.to_vec();
            self.random.shuffle(&mut more);
            self.round.extend(more);
        }
    }

    /// Mends a fault and gives the proof that it had fired.
    async fn mend(&mut self, hall: &mut Hall, made: Struck) -> String {
        match made {
            Struck::Killed(all) => {
                all.iter().for_each(|index| hall.agents[*index].start());
                format!("{} killed", hall.names_of(&all).join(", "))
            }
            Struck::Paused(index) => {
                hall.agents[index].resume();
                format!("{} stood still", hall.agents[index].name)
            }
            Struck::Cut => {
                let all = "every cut has thrown something away";
                wait::until_true(all, CUT_LIMIT, || async { hall.lan.fired().is_all() }).await;
                format!("{} packets thrown away", hall.lan.heal().total())
            }
            Struck::Unplugged { name, before } => {
                hall.lan.plug(&name, true);
                let times = hall.lan.plugged(&name) - before;
                assert_eq!(times, 2, "the cable of {name} was not pulled");
                format!("the cable of {name} was out")
            }
            Struck::ServerKilled { lost_before } => {
                let lost = wait::until("agents lose the server", PROOF_LIMIT, || async {
                    // One that was started again meanwhile counts from nothing.
                    let more = |(index, lost): &(usize, f64)| {
                        let before = lost_before.iter().find(|(known, _)| known == index);
                        before.map_or(0.0, |(_, before)| (lost - before).max(0.0))
                    };
                    let lost: f64 = lost_by_agent(hall).iter().map(more).sum();
                    (lost > 0.0).then_some(lost)
                })
                .await;
                hall.nats().restart();
                format!("{lost} connections lost")
            }
            Struck::ServerPaused => {
                hall.nats().resume();
                "it stood still".to_owned()
            }
            Struck::Full { filler, said_before } => mend_disk(hall, filler, said_before).await,
            Struck::SyncFails { index, _tracer } => mend_sync(hall, index).await,
            Struck::SyncsSlow { index, tracer, by } => {
                let times = wait::until("a sync begins late", PROOF_LIMIT, || async {
                    Some(tracer.delayed()).filter(|times| *times > 0)
                });
                let times = times.await;
                tracer.end().await;
                format!("{times} syncs of {} were late by {by:?}", hall.agents[index].name)
            }
            Struck::Starved(starved) => {
                let times = wait::until("it has to wait", PROOF_LIMIT, || async {
                    Some(starved.throttled()).filter(|times| *times > 0)
                });
                format!("it had to wait in {} periods", times.await)
            }
            Struck::Clock { at, day_before } => self.mend_clock(hall, at, &day_before).await,
            Struck::Over(proof) => proof,
        }
    }

    async fn mend_clock(&self, hall: &mut Hall, at: usize, day_before: &str) -> String {
        let (index, clock) = &self.clocks[at];
        let agent = &mut hall.agents[*index];
        // It may have had nothing to say since. A start at the wrong time is a fault as well.
        kill_running(agent);
        agent.start();
        let now = wait::until_blocking("an agent's clock has jumped", PROOF_LIMIT, || {
            clocks::day_of(agent).filter(|now| now != day_before)
        });
        clock.set("+0");
        format!("{day_before} became {now} for {}", hall.agents[*index].name)
    }
}
