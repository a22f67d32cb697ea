//! A leader whose vote is taken away by an entry that it inherited.

use super::hall::{Hall, Settings, id};
use crate::frame::ConfChange;

#[test]
fn a_leader_that_commits_the_end_of_its_own_vote_leads_no_more() {
    let mut hall = Hall::new(&[], Settings::default());
    let leader = hall.until_led();
    hall.write(5, "before");
    // As if the leader before it had put this into the log.
    let demoted = ConfChange::AddLearner(id(leader));
    hall.replica(leader).propose_change(demoted).expect("proposed");
    let mut stepped_down = false;
    hall.until("another one leads", |hall| {
        let replica = hall.replica(leader);
        assert!(!replica.is_leader() || replica.has_vote(), "it leads and has no vote");
        stepped_down |= !replica.is_leader() && !replica.has_vote();
        hall.leader().is_some_and(|now| now != leader)
    });
    assert!(stepped_down, "its vote was never taken away");
    hall.write(5, "after");
    hall.until("all agree", Hall::agrees);
    assert!(hall.faults.is_empty(), "{:?}", hall.faults);
}
