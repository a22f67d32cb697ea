//! Draws faults from a seed, makes them, proves that each has fired, and mends them.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::chaos::clocks::{self, Clock};
use crate::chaos::disks::SyncError;
use crate::chaos::fault::{Family, Fault};
use crate::chaos::proofs::{is_gone, lost_by_agent, mend_disk, mend_sync, said_full};
use crate::chaos::random::Random;
use crate::chaos::report::{Became, Drawn};
use crate::chaos::starving::Starved;
use crate::disk::{Filler, SmallDisk};
use crate::hall::{Hall, NATS};
use crate::lan::cuts::Cut;
use crate::wait;

/// Until a fault has shown that it fired.
pub(super) const PROOF_LIMIT: Duration = Duration::from_secs(30);
/// The same for what the switch throws away, each way between all that are cut: a NATS server pings
/// every two minutes, two followers say little to each other, and of that chance takes a fiftieth.
const CUT_LIMIT: Duration = Duration::from_secs(300);
/// Until a member that was removed has joined anew.
const JOIN_LIMIT: Duration = Duration::from_secs(60);
/// How long a fault is left as it is, in milliseconds.
const HOLD_MS: (usize, usize) = (500, 4_000);
/// How often a second fault comes while there is one, out of a hundred.
const TOGETHER_PERCENT: usize = 35;
/// The agents whose clocks can jump.
const WITH_CLOCKS: [usize; 2] = [1, 3];
/// The agent whose disk can run full.
pub const WITH_SMALL_DISK: usize = 4;

/// Somebody who means harm.
#[derive(Debug)]
pub struct Nemesis {
    random: Random,
    begun: Instant,
    /// What is still to be made of the present round: each fault comes once in a round.
    round: Vec<Fault>,
    disk: Option<SmallDisk>,
    clocks: Vec<(usize, Clock)>,
    /// What it has done.
    pub drawn: Vec<Drawn>,
}

/// A fault that was made and is not mended yet.
#[derive(Debug)]
enum Struck {
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
        _tracer: SyncError,
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
                hall.agents[index].kill();
                hall.agents[index].start();
                hall.await_status(index).await;
                clocks.push((index, clock));
            }
        }
        hall.await_leader().await;
        let (begun, drawn) = (Instant::now(), Vec::new());
        Self { random, begun, round: Vec::new(), disk, clocks, drawn }
    }

    /// Makes one fault or two at once, leaves them for a while, and mends them.
    ///
    /// # Panics
    /// If one can't be shown to have fired, or an agent ended that nobody killed.
    pub async fn strike(&mut self, hall: &mut Hall) {
        let first = self.draw(|_| true);
        let mut faults = vec![first];
        if first.is_sociable() && self.random.percent(TOGETHER_PERCENT) {
            // Who is dead or stands still can't say that its disk is full.
            let speechless = [Family::Process, Family::Disk];
            let other = |it: Fault| {
                let both = [first.family(), it.family()];
                it.is_sociable()
                    && both[0] != both[1]
                    && !both.iter().all(|family| speechless.contains(family))
            };
            faults.push(self.draw(other));
        }
        let mut struck = Vec::new();
        for fault in faults {
            eprintln!("{:>7.1} s {}", self.begun.elapsed().as_secs_f64(), fault.name());
            match self.make(hall, fault).await {
                Ok(made) => struck.push((fault, made)),
                Err(why) => self.note(fault, Became::NotHere(why)),
            }
        }
        let (low, high) = HOLD_MS;
        let hold = Duration::from_millis(self.random.between(low, high) as u64);
        wait::stays_true("time passes", hold, || async { true }).await;
        // Who is dead or stands still has no part in any proof, so that is mended first; and whoever
        // is to lose packets by chance must send some, so that is mended last.
        struck.sort_by_key(|(fault, _)| match fault.family() {
            Family::Process => 2,
            _ => u8::from(*fault != Fault::Loss),
        });
        while let Some((fault, made)) = struck.pop() {
            let proof = self.mend(hall, made).await;
            self.note(fault, Became::Fired(proof));
        }
        Self::check_alive(hall);
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

    fn anybody(&mut self, hall: &Hall) -> usize {
        self.random.below(hall.agents.len())
    }

    fn any_running(&mut self, hall: &Hall) -> usize {
        let started = hall.started();
        started[self.random.below(started.len())]
    }

    /// Whoever leads, or somebody if nobody does.
    async fn leader(&mut self, hall: &Hall) -> usize {
        for index in hall.started() {
            if hall.status(index).await.is_some_and(|status| status.role() == "leader") {
                return index;
            }
        }
        self.anybody(hall)
    }

    async fn make(&mut self, hall: &mut Hall, fault: Fault) -> Result<Struck, String> {
        match fault.family() {
            Family::Process => Ok(self.strike_process(hall, fault).await),
            Family::Network => Ok(self.strike_network(hall, fault).await),
            Family::Server if fault == Fault::ServerKill => {
                // After a cut the agents take their time to come back, and during one they don't.
                let connected = wait::until_true("somebody is connected", CUT_LIMIT, || async {
                    hall.sum("flotilla_nats_connected") > 0.0
                });
                let in_time = tokio::time::timeout(PROOF_LIMIT, connected).await;
                in_time.map_err(|_| "nobody is connected with the server")?;
                let lost_before = lost_by_agent(hall);
                hall.nats().kill();
                Ok(Struck::ServerKilled { lost_before })
            }
            Family::Server => {
                hall.nats().pause();
                Ok(Struck::ServerPaused)
            }
            Family::Disk if fault == Fault::DiskFull => {
                let disk = self.disk.as_ref().ok_or("no disk could be mounted")?;
                let said_before = said_full(hall);
                Ok(Struck::Full { filler: disk.fill(), said_before })
            }
            Family::Disk => {
                let index = self.any_running(hall);
                let process = hall.agents[index].process().id();
                let tracer = SyncError::begin(process, hall.workplace().path())?;
                Ok(Struck::SyncFails { index, _tracer: tracer })
            }
            Family::Processor => {
                let index = self.any_running(hall);
                Starved::begin(hall.agents[index].process().id()).map(Struck::Starved)
            }
            Family::Clock => self.strike_clock(hall).await,
            Family::Members => self.strike_members(hall, fault).await.map(Struck::Over),
        }
    }

    async fn strike_process(&mut self, hall: &mut Hall, fault: Fault) -> Struck {
        if matches!(fault, Fault::Pause | Fault::PauseLeader) {
            let index = match fault {
                Fault::PauseLeader => self.leader(hall).await,
                _ => self.anybody(hall),
            };
            hall.agents[index].pause();
            return Struck::Paused(index);
        }
        let mut all: Vec<usize> = (0..hall.agents.len()).collect();
        self.random.shuffle(&mut all);
        let count = match fault {
            Fault::KillAll => all.len(),
            Fault::KillMajority => all.len() / 2 + 1,
            _ => 1,
        };
        all.truncate(count);
        if fault == Fault::KillLeader {
            all = vec![self.leader(hall).await];
        }
        all.iter().for_each(|index| hall.agents[*index].kill());
        Struck::Killed(all)
    }

    async fn strike_network(&mut self, hall: &Hall, fault: Fault) -> Struck {
        let leader = self.leader(hall).await;
        let mut names = hall.names();
        self.random.shuffle(&mut names);
        let nats = NATS.to_owned();
        let (few, many) = names.split_at(names.len() / 2);
        let with_server = |these: &[String]| [these, std::slice::from_ref(&nats)].concat();
        let cuts = match fault {
            Fault::Unplug => {
                let name = names[0].clone();
                let before = hall.lan.plugged(&name);
                hall.lan.plug(&name, false);
                return Struck::Unplugged { name, before };
            }
            // The server is on either side.
            Fault::Split if self.random.percent(50) => Cut::between(&with_server(few), many),
            Fault::Split => Cut::between(few, &with_server(many)),
            Fault::IsolateLeader => {
                let all: Vec<String> = hall.names_of(&hall.others(leader));
                Cut::between(&hall.names_of(&[leader]), &with_server(&all))
            }
            Fault::OneWay if self.random.percent(50) => {
                vec![Cut::one_way(&names[..1], &with_server(&names[1..]))]
            }
            Fault::OneWay => vec![Cut::one_way(&with_server(&names[1..]), &names[..1])],
            Fault::ServerForSome => Cut::between(few, &[nats]),
            Fault::Loss => {
                let permille = [20, 50, 150, 300][self.random.below(4)];
                let all = Cut::all_but(&with_server(&names), &[]);
                all.into_iter().map(|cut| cut.some(permille)).collect()
            }
            // The server would join all of them again.
            Fault::Ring => [Cut::ring(&names), Cut::between(&names, &[nats])].concat(),
            Fault::TwoLeaves => [Cut::two_leaves(&names), Cut::between(&names, &[nats])].concat(),
            _ => [Cut::bridge(&names), Cut::between(&names, &[nats])].concat(),
        };
        hall.lan.cut(&cuts);
        Struck::Cut
    }

    async fn strike_clock(&mut self, hall: &Hall) -> Result<Struck, String> {
        let drawn = self.random.below(self.clocks.len());
        let jump = clocks::JUMPS[self.random.below(clocks::JUMPS.len())];
        let (index, clock) = self.clocks.get(drawn).ok_or("there is no libfaketime")?;
        let day_before = clocks::day_of(&hall.agents[*index]).ok_or("its log tells no time")?;
        clock.set(jump);
        Ok(Struck::Clock { at: drawn, day_before })
    }

    async fn strike_members(&mut self, hall: &mut Hall, fault: Fault) -> Result<String, String> {
        let leader = hall.await_leader().await;
        if fault == Fault::Transfer {
            let to = hall.others(leader)[self.random.below(hall.agents.len() - 1)];
            let body = json!({"node": hall.await_status(to).await.node_id()}).to_string();
            let answer = hall.door(leader).request("control.admin.leader.transfer", body).await;
            return Ok(format!("{} was told to lead: {}", hall.agents[to].name, answer.is_ok()));
        }
        // Not the one with the disk: what is mounted there can't be wiped.
        let gone = self.random.below(WITH_SMALL_DISK);
        let node = hall.await_status(gone).await.node_id();
        let door = hall.door(hall.others(gone)[0]);
        let body = json!({ "node": node }).to_string();
        wait::until_true("a member is removed", JOIN_LIMIT, || async {
            let answer = door.request("control.admin.member.remove", body.clone()).await;
            answer.is_ok() || is_gone(&door, node).await
        })
        .await;
        hall.agents[gone].kill();
        hall.agents[gone].wipe();
        hall.rejoin(gone).await;
        let again = hall.await_status(gone).await.node_id();
        hall.await_voters_at(hall.others(gone)[0], hall.agents.len()).await;
        Ok(format!("{} was node {node}, is node {again}", hall.agents[gone].name))
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
        agent.kill();
        agent.start();
        let now = wait::until_blocking("an agent's clock has jumped", PROOF_LIMIT, || {
            clocks::day_of(agent).filter(|now| now != day_before)
        });
        clock.set("+0");
        format!("{day_before} became {now} for {}", hall.agents[*index].name)
    }

    /// Whoever was started and not killed must be running.
    fn check_alive(hall: &mut Hall) {
        for agent in &mut hall.agents {
            let ended = agent.process().ended();
            assert!(ended.is_none(), "{} has ended by itself: {ended:?}", agent.name);
        }
    }
}
