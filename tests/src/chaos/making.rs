//! How each fault is made.

use std::time::Duration;

use serde_json::json;

use crate::chaos::clocks;
use crate::chaos::disks::{SYNCS_AT_START, Tracer, fail_at_start};
use crate::chaos::fault::{Family, Fault};
use crate::chaos::nemesis::{CUT_LIMIT, Nemesis, PROOF_LIMIT, Struck, WITH_SMALL_DISK};
use crate::chaos::proofs::{is_gone, kill_running, lost_by_agent, said_full};
use crate::chaos::starving::Starved;
use crate::hall::{Hall, NATS};
use crate::lan::cuts::Cut;
use crate::wait;

/// Until the one that was told to lead does, if nothing is in its way.
const TRANSFER_LIMIT: Duration = Duration::from_secs(10);
/// Until a member that was removed has joined anew.
const JOIN_LIMIT: Duration = Duration::from_secs(60);

/// How late a sync begins; the longest is that of a card that sorts itself.
const DELAYS_MS: [u64; 4] = [20, 100, 300, 700];

/// Why a fault was not made.
#[derive(Debug)]
pub(super) enum NotMade {
    /// This machine can't do it.
    Here(String),
    /// It makes no sense at this moment.
    Now(String),
}

impl From<String> for NotMade {
    fn from(why: String) -> Self {
        Self::Here(why)
    }
}

impl From<&str> for NotMade {
    fn from(why: &str) -> Self {
        Self::Here(why.to_owned())
    }
}

impl Nemesis {
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

    pub(super) async fn make(&mut self, hall: &mut Hall, fault: Fault) -> Result<Struck, NotMade> {
        match fault.family() {
            Family::Process => Ok(self.strike_process(hall, fault).await),
            Family::Network => Ok(self.strike_network(hall, fault).await),
            Family::Server if fault == Fault::ServerKill => {
                // After a cut the agents take their time to come back, and during one they don't.
                let connected = wait::until_true("somebody is connected", CUT_LIMIT, || async {
                    hall.sum("flotilla_nats_connected") > 0.0
                });
                let in_time = tokio::time::timeout(PROOF_LIMIT, connected).await;
                let nobody = |_| NotMade::Now("nobody is connected with the server".to_owned());
                in_time.map_err(nobody)?;
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
            Family::Disk => self.strike_syncs(hall, fault),
            Family::Processor => {
                let index = self.any_running(hall);
                Ok(Struck::Starved(Starved::begin(hall.agents[index].process().id())?))
            }
            Family::Clock => self.strike_clock(hall).await,
            Family::Members => self.strike_members(hall, fault).await.map(Struck::Over),
        }
    }

    fn strike_syncs(&mut self, hall: &mut Hall, fault: Fault) -> Result<Struck, NotMade> {
        let index = self.any_running(hall);
        let workplace = hall.workplace().path().to_owned();
        let agent = &mut hall.agents[index];
        let process = agent.process().id();
        match fault {
            Fault::SlowSync => {
                let by = Duration::from_millis(DELAYS_MS[self.random.below(DELAYS_MS.len())]);
                let tracer = Tracer::slowing(process, &workplace, by)?;
                Ok(Struck::SyncsSlow { index, tracer, by })
            }
            Fault::SyncErrorAtStart => {
                let number = self.random.between(1, SYNCS_AT_START);
                fail_at_start(agent, number, &workplace)?;
                Ok(Struck::SyncFails { index, _tracer: None })
            }
            _ => {
                let tracer = Tracer::failing(process, &workplace)?;
                Ok(Struck::SyncFails { index, _tracer: Some(tracer) })
            }
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
        all.iter().for_each(|index| kill_running(&mut hall.agents[*index]));
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

    async fn strike_clock(&mut self, hall: &Hall) -> Result<Struck, NotMade> {
        let drawn = self.random.below(self.clocks.len());
        let jump = clocks::JUMPS[self.random.below(clocks::JUMPS.len())];
        let (index, clock) = self.clocks.get(drawn).ok_or("there is no libfaketime")?;
        let day_before = clocks::day_of(&hall.agents[*index]).ok_or("its log tells no time")?;
        clock.set(jump);
        Ok(Struck::Clock { at: drawn, day_before })
    }

    async fn strike_members(&mut self, hall: &mut Hall, fault: Fault) -> Result<String, NotMade> {
        let leader = hall.await_leader().await;
        if fault == Fault::Transfer {
            let to = hall.others(leader)[self.random.below(hall.agents.len() - 1)];
            let body = json!({"node": hall.await_status(to).await.node_id()}).to_string();
            let answer = hall.door(leader).request("control.admin.leader.transfer", body).await;
            let name = hall.agents[to].name.clone();
            let leads = wait::until_true("it leads", PROOF_LIMIT, || async {
                hall.status(to).await.is_some_and(|status| status.role() == "leader")
            });
            let in_time = tokio::time::timeout(TRANSFER_LIMIT, leads).await;
            in_time
                .map_err(|_| NotMade::Now(format!("{name} did not come to lead: {answer:?}")))?;
            return Ok(format!("{name} leads in place of {}", hall.agents[leader].name));
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
        kill_running(&mut hall.agents[gone]);
        hall.agents[gone].wipe();
        hall.rejoin(gone).await;
        let again = hall.await_status(gone).await.node_id();
        hall.await_voters_at(hall.others(gone)[0], hall.agents.len()).await;
        Ok(format!("{} was node {node}, is node {again}", hall.agents[gone].name))
    }
}
