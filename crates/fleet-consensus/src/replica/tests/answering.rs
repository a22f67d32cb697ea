//! Who answers is active at every moment, and who does not is not, soon.

use super::hall::{Hall, Settings, id};

fn active(hall: &mut Hall, leader: u64) -> Vec<u64> {
    let standing = hall.replica(leader).standing();
    let active = standing.progress.iter().filter(|member| member.active);
    active.map(|member| member.node.get()).collect()
}

#[test]
fn nobody_who_answers_ever_seems_to_be_gone() {
    let mut hall = Hall::new(&[], Settings::default());
    let leader = hall.until_led();
    hall.until("all are active", |hall| active(hall, leader).len() == 3);
    for _ in 0..200 {
        hall.tick();
        assert_eq!(active(&mut hall, leader), [1, 2, 3]);
        let facts = hall.replica(leader).member_facts();
        assert!(facts.iter().all(|member| member.active), "{facts:?}");
    }
    let gone = (1..=3).find(|node| *node != leader).expect("others");
    hall.cut.insert(gone);
    for _ in 0..12 {
        hall.tick();
    }
    assert!(!active(&mut hall, leader).contains(&gone), "it has not answered for twelve ticks");
    assert!(hall.replica(leader).is_active(id(leader)));
    hall.cut.remove(&gone);
    hall.until("it is active again", |hall| active(hall, leader).len() == 3);
}
