//! Proofs that faults have fired.

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
    let ended = agent.process().ended();
    if ended.is_some() {
        agent.kill();
        agent.start();
    }
    let how = if ended.is_some() { "ended with the reason" } else { "went on without writing" };
    format!("{} said so and {how}", agent.name)
}

pub(super) async fn mend_sync(hall: &mut Hall, index: usize) -> String {
    let agent = &mut hall.agents[index];
    let status = agent.process().wait(PROOF_LIMIT).await;
    let log = agent.log();
    let last = log.lines().last().unwrap_or_default();
    assert_eq!(status.code(), Some(1), "after a failed sync: {status}, {last}");
    assert!(last.starts_with("flotilla-agent: "), "it gives no reason: {last}");
    agent.kill();
    agent.start();
    format!("{} ended: {last}", agent.name)
}

/// How many connections with the server each running agent has lost.
pub(super) fn lost_by_agent(hall: &Hall) -> Vec<(usize, f64)> {
    let lost =
        |index: usize| (index, hall.agents[index].counter("flotilla_nats_disconnects_total"));
    hall.started().into_iter().map(lost).collect()
}
