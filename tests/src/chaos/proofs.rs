//! Proofs that faults have fired.

use std::process::ExitStatus;

use crate::agent::Agent;
use crate::bare::Answer;
use crate::chaos::nemesis::{PROOF_LIMIT, WITH_SMALL_DISK};
use crate::disk::Filler;
use crate::door::BareDoor;
use crate::hall::Hall;
use crate::wait;

pub(super) async fn is_gone(door: &BareDoor, node: u64) -> bool {
    let answer = door.request(&format!("control.query.member.get.{node}"), "").await;
    let Answer::Reply(reply) = answer else { return false };
    reply.code() == Some("not_found") || reply.at("/item/role") == "removed"
}

pub(super) fn said_full(hall: &Hall) -> usize {
    hall.agents[WITH_SMALL_DISK].log().matches("the disk is nearly full").count()
}

pub(super) async fn mend_disk(hall: &mut Hall, filler: Filler, said_before: usize) -> String {
    wait::until_true("it says that its disk is full", PROOF_LIMIT, || async {
        said_full(hall) > said_before
    })
    .await;
    filler.remove();
    let agent = &mut hall.agents[WITH_SMALL_DISK];
    // A log that can't grow ends its node, with the reason; that is foreseen.
    let how = match agent.process().ended() {
        None => "went on without writing".to_owned(),
        Some(status) => {
            let last = check_end(agent, status);
            start_again(agent);
            format!("ended: {last}")
        }
    };
    format!("{} said so and {how}", hall.agents[WITH_SMALL_DISK].name)
}

pub(super) async fn mend_sync(hall: &mut Hall, index: usize) -> String {
    let agent = &mut hall.agents[index];
    let status = agent.process().wait(PROOF_LIMIT).await;
    let last = check_end(agent, status);
    assert!(last.contains("Input/output error"), "{} gives another reason: {last}", agent.name);
    start_again(agent);
    format!("{} ended: {last}", agent.name)
}

/// An agent that can't go on says why in its last line, and ends with 1. Gives that line.
fn check_end(agent: &Agent, status: ExitStatus) -> String {
    let log = agent.log();
    let last = log.lines().last().unwrap_or_default();
    assert_eq!(status.code(), Some(1), "the end of {}: {status}, {last}", agent.name);
    assert!(last.starts_with("flotilla-agent: "), "{} gives no reason: {last}", agent.name);
    last.to_owned()
}

fn start_again(agent: &mut Agent) {
    // It has ended; this only forgets it.
    agent.kill();
    agent.start();
}

/// SIGKILL to an agent that runs: one that has ended before was not killed by anybody.
pub(super) fn kill_running(agent: &mut Agent) {
    check_running(agent);
    agent.kill();
}

/// Whoever was started and not killed must be running.
pub(super) fn check_running(agent: &mut Agent) {
    let ended = agent.process().ended();
    let log = agent.log();
    let last = log.lines().last().unwrap_or_default();
    assert!(ended.is_none(), "{} has ended by itself: {ended:?}, {last}", agent.name);
}

/// How many connections with the server each running agent has lost.
pub(super) fn lost_by_agent(hall: &Hall) -> Vec<(usize, f64)> {
    let lost =
        |index: usize| (index, hall.agents[index].counter("flotilla_nats_disconnects_total"));
    hall.started().into_iter().map(lost).collect()
}
