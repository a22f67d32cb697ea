//! Tables: what is heard, and when that changes the way.

use fleet_consensus::frame::Class;

use super::*;

const CONFIG: ChoiceConfig = ChoiceConfig { mode: WayMode::Auto, silent_ms: 100, back_ms: 1_000 };
const BOTH: Open = Open { nats: NatsState::Up, mesh: true };
const NATS_ONLY: Open = Open { nats: NatsState::Up, mesh: false };

/// What goes by every way.
fn urgent(path: Path) -> Arrival {
    Arrival { path, class: Class::Urgent, unheard: None }
}

fn node() -> NodeId {
    NodeId::new(2).unwrap()
}

/// A node that sends on the given ways every 50 ms, and what was chosen after each.
struct Clock {
    choices: Choices,
    now_ms: u64,
    switches: Vec<(u64, Switch)>,
}

impl Clock {
    fn new() -> Self {
        Self { choices: Choices::new(CONFIG), now_ms: 1_000, switches: Vec::new() }
    }

    fn run(&mut self, for_ms: u64, ways: &[Path], open: Open) -> Option<Path> {
        let mut way = None;
        for _ in 0..for_ms / 50 {
            self.now_ms += 50;
            for path in ways {
                self.choices.heard(node(), urgent(*path), self.now_ms);
                self.now_ms += 1;
                let (chosen, switch) = self.choices.choose(node(), open, self.now_ms);
                self.switches.extend(switch.map(|switch| (self.now_ms, switch)));
                way = chosen;
            }
            if ways.is_empty() {
                let (chosen, switch) = self.choices.choose(node(), open, self.now_ms);
                self.switches.extend(switch.map(|switch| (self.now_ms, switch)));
                way = chosen;
            }
        }
        way
    }

    fn reasons(&self) -> Vec<Why> {
        self.switches.iter().map(|(_, switch)| switch.why).collect()
    }
}

#[test]
fn nats_is_taken_while_it_works() {
    let mut clock = Clock::new();
    assert_eq!(clock.run(10_000, &[Path::Mesh, Path::Nats], BOTH), Some(Path::Nats));
    assert_eq!(clock.run(10_000, &[Path::Nats, Path::Mesh], BOTH), Some(Path::Nats));
    assert_eq!(clock.run(10_000, &[Path::Nats], NATS_ONLY), Some(Path::Nats));
    assert!(clock.switches.is_empty(), "{:?}", clock.switches);
}

#[test]
fn the_mesh_takes_over_and_gives_back() {
    for (open, ways, why) in [
        (Open { nats: NatsState::Down, mesh: true }, vec![Path::Mesh], Why::NatsDown),
        (
            Open { nats: NatsState::Leaving, mesh: true },
            vec![Path::Nats, Path::Mesh],
            Why::NatsLeaving,
        ),
        (BOTH, vec![Path::Mesh], Why::NatsSilent),
    ] {
        let mut clock = Clock::new();
        clock.run(2_000, &[Path::Nats, Path::Mesh], BOTH);
        let fault_ms = clock.now_ms;
        assert_eq!(clock.run(5_000, &ways, open), Some(Path::Mesh), "{why:?}");
        let (at_ms, _) = clock.switches[0];
        assert!(at_ms <= fault_ms + 250, "{why:?}: after {} ms", at_ms - fault_ms);
        let back_ms = clock.now_ms;
        let way = clock.run(5_000, &[Path::Nats, Path::Mesh], BOTH);
        assert_eq!(way, Some(Path::Nats), "{why:?}");
        assert_eq!(clock.reasons(), [why, Why::NatsProven], "{why:?}");
        let (at_ms, _) = clock.switches[1];
        assert!((1_000..1_200).contains(&(at_ms - back_ms)) || why == Why::NatsLeaving);
    }
}

#[test]
fn a_node_that_is_down_changes_nothing() {
    let mut clock = Clock::new();
    clock.run(2_000, &[Path::Nats, Path::Mesh], BOTH);
    assert_eq!(clock.run(20_000, &[], BOTH), Some(Path::Nats));
    // Back after a while, first on the mesh: both were silent, so neither is to blame.
    assert_eq!(clock.run(5_000, &[Path::Mesh, Path::Nats], BOTH), Some(Path::Nats));
    assert!(clock.switches.is_empty(), "{:?}", clock.switches);
}

#[test]
fn a_flapping_server_does_not_make_the_frames_flap() {
    let mut clock = Clock::new();
    clock.run(2_000, &[Path::Nats, Path::Mesh], BOTH);
    for _ in 0..20 {
        clock.run(600, &[Path::Mesh], BOTH);
        clock.run(600, &[Path::Nats, Path::Mesh], BOTH);
    }
    assert_eq!(clock.reasons(), [Why::NatsSilent]);
}

#[test]
fn a_mesh_that_breaks_gives_way_at_once() {
    for (open, ways, why) in
        [(NATS_ONLY, vec![Path::Nats], Why::MeshDown), (BOTH, vec![Path::Nats], Why::MeshSilent)]
    {
        let mut clock = Clock::new();
        clock.run(2_000, &[Path::Mesh], Open { nats: NatsState::Down, mesh: true });
        let fault_ms = clock.now_ms;
        assert_eq!(clock.run(500, &ways, open), Some(Path::Nats), "{why:?}");
        let (at_ms, _) = *clock.switches.last().unwrap();
        assert!(at_ms <= fault_ms + 250, "{why:?}: after {} ms", at_ms - fault_ms);
        assert_eq!(clock.reasons(), [Why::NatsDown, why]);
    }
}

#[test]
fn without_an_open_way_there_is_none() {
    let closed = Open { nats: NatsState::Down, mesh: false };
    for mode in [WayMode::Auto, WayMode::Nats, WayMode::Mesh] {
        let mut choices = Choices::new(ChoiceConfig { mode, ..CONFIG });
        assert_eq!(choices.choose(node(), closed, 1), (None, None), "{mode:?}");
    }
}

#[test]
fn a_fixed_way_is_kept() {
    for (mode, want) in [(WayMode::Nats, Path::Nats), (WayMode::Mesh, Path::Mesh)] {
        let mut choices = Choices::new(ChoiceConfig { mode, ..CONFIG });
        for now_ms in (0..10_000).step_by(50) {
            choices.heard(node(), urgent(want.other()), now_ms);
            assert_eq!(choices.choose(node(), BOTH, now_ms), (Some(want), None));
        }
    }
}

#[test]
fn nodes_are_bounded() {
    let mut choices = Choices::new(CONFIG);
    for id in 1..3_000 {
        choices.heard(NodeId::new(id).unwrap(), urgent(Path::Mesh), id);
    }
    assert_eq!(choices.lanes.len(), NODES_MAX);
    let newest = choices.lanes.keys().next_back();
    assert_eq!(newest, NodeId::new(2_999).as_ref(), "those that are gone make room");
}

/// What is heard at which moments, looked at after each; gives the reasons for changes.
struct Story {
    heard: Vec<(u64, Arrival)>,
}

impl Story {
    /// Beats every 50 ms for `for_ms`, which come by each way so late.
    fn beats(for_ms: u64, late_ms: impl Fn(Path, u64) -> Option<u64>) -> Self {
        let mut heard = Vec::new();
        for beat_ms in (0..for_ms).step_by(50) {
            // The mesh first: that is the order in which it hurts.
            for path in [Path::Mesh, Path::Nats] {
                let late = late_ms(path, beat_ms);
                heard.extend(late.map(|late| (beat_ms + late, urgent(path))));
            }
        }
        heard.sort_by_key(|(at_ms, _)| *at_ms);
        Self { heard }
    }

    fn tell(&self, choices: &mut Choices) -> Vec<Why> {
        let mut reasons = Vec::new();
        for (at_ms, arrival) in &self.heard {
            let now_ms = 1_000 + at_ms;
            choices.heard(node(), *arrival, now_ms);
            let (_, switch) = choices.choose(node(), BOTH, now_ms);
            reasons.extend(switch.map(|switch| switch.why));
        }
        reasons
    }

    fn reasons(&self) -> Vec<Why> {
        self.tell(&mut Choices::new(CONFIG))
    }
}

#[test]
fn pauses_of_both_sides_and_of_any_length_change_nothing() {
    for pause_ms in (60..200).chain([250, 400, 900]) {
        for late_nats_ms in [0, 1, 2, 9, 20] {
            // The whole process stands still once a second, at every place between two beats.
            let story = Story::beats(20_000, |path, beat_ms| {
                let late_ms = if path == Path::Nats { late_nats_ms } else { 0 };
                let at_ms = beat_ms + late_ms;
                let (second, into_ms) = (at_ms / 1_000, at_ms % 1_000);
                let from_ms = second * 7 % 50;
                let held = (from_ms..from_ms + pause_ms).contains(&into_ms);
                Some(if held { late_ms + from_ms + pause_ms - into_ms } else { late_ms })
            });
            let reasons = story.reasons();
            assert!(reasons.is_empty(), "{pause_ms} ms, NATS {late_nats_ms} ms late: {reasons:?}");
        }
    }
}

#[test]
fn gaps_and_delays_of_one_way_that_are_no_failure_change_nothing() {
    type Late = fn(u64) -> Option<u64>;
    let table: [(&str, Late); 5] = [
        ("always 80 ms late", |_| Some(80)),
        ("always 140 ms late", |_| Some(140)),
        ("one beat in ten is lost", |beat_ms| (beat_ms % 500 != 0).then_some(1)),
        ("two beats in ten are lost", |beat_ms| (beat_ms % 500 > 50).then_some(1)),
        ("a gap of 150 ms every second", |beat_ms| Some(150_u64.saturating_sub(beat_ms % 1_000))),
    ];
    for (what, late) in table {
        for slow in [Path::Nats, Path::Mesh] {
            let story = Story::beats(
                20_000,
                |path, beat_ms| {
                    if path == slow { late(beat_ms) } else { Some(0) }
                },
            );
            let reasons = story.reasons();
            assert!(reasons.is_empty(), "{what}, {slow:?}: {reasons:?}");
        }
    }
}

#[test]
fn what_goes_by_one_way_says_nothing_of_the_other() {
    for class in [Class::Normal, Class::Bulk] {
        let alone = |at_ms| (at_ms, Arrival { class, ..urgent(Path::Mesh) });
        let story = Story { heard: (0..10_000).step_by(5).map(alone).collect() };
        assert!(story.reasons().is_empty(), "{class:?}");
    }
}

#[test]
fn a_server_that_stands_still_is_left_after_150_to_200_ms_also_under_load() {
    for load in [false, true] {
        let mut choices = Choices::new(CONFIG);
        assert!(Story::beats(1_000, |_, _| Some(0)).tell(&mut choices).is_empty());
        let mut left_ms = None;
        for at_ms in (0..1_000_u64).step_by(5).skip(10) {
            let class = if at_ms.is_multiple_of(50) { Class::Urgent } else { Class::Normal };
            if class == Class::Urgent || load {
                let now_ms = 1_950 + at_ms;
                choices.heard(node(), Arrival { class, ..urgent(Path::Mesh) }, now_ms);
                let (_, switch) = choices.choose(node(), BOTH, now_ms);
                left_ms = left_ms.or(switch.map(|_| at_ms));
            }
        }
        assert!(left_ms.is_some_and(|left| (150..=200).contains(&left)), "{left_ms:?}");
    }
}

#[test]
fn what_the_node_does_not_hear_goes_the_other_way() {
    for (deaf, why) in [(Path::Nats, Why::NatsUnheard), (Path::Mesh, Why::MeshUnheard)] {
        let mut choices = Choices::new(CONFIG);
        let before = if deaf == Path::Mesh {
            // By the mesh first, because NATS was gone.
            choices.heard(node(), urgent(Path::Mesh), 900);
            choices.choose(node(), Open { nats: NatsState::Down, mesh: true }, 900).1
        } else {
            None
        };
        assert_eq!(before.is_some(), deaf == Path::Mesh);
        let mut story = Story::beats(500, |_, _| Some(0));
        for (_, arrival) in &mut story.heard {
            arrival.unheard = Some(deaf);
        }
        assert_eq!(story.tell(&mut choices), [why]);
        assert_eq!(choices.for_bulk(node(), BOTH, 1_450).is_some(), deaf == Path::Nats);
        // It stays so as long as that is said, and for the usual time after.
        if deaf == Path::Nats {
            for (at_ms, _) in &mut story.heard {
                *at_ms += 500;
            }
            assert_eq!(story.tell(&mut choices), []);
            let mut good = Story::beats(2_000, |_, _| Some(0));
            for (at_ms, _) in &mut good.heard {
                *at_ms += 1_000;
            }
            assert_eq!(good.tell(&mut choices), [Why::NatsProven]);
        }
    }
}

#[test]
fn the_other_side_is_told_what_does_not_arrive() {
    let mut choices = Choices::new(CONFIG);
    assert_eq!(choices.unheard(node(), 1), None);
    for missing in [Path::Nats, Path::Mesh] {
        let story = Story::beats(1_000, |path, _| (path != missing).then_some(0));
        story.tell(&mut choices);
        assert_eq!(choices.unheard(node(), 1_960), Some(missing));
        // It has stopped on both.
        assert_eq!(choices.unheard(node(), 9_000), None);
        choices = Choices::new(CONFIG);
    }
}

#[test]
fn nats_that_does_not_last_has_to_prove_itself_for_longer() {
    let mut clock = Clock::new();
    clock.run(2_000, &[Path::Nats, Path::Mesh], BOTH);
    for _ in 0..200 {
        clock.run(500, &[Path::Mesh], BOTH);
        clock.run(1_500, &[Path::Nats, Path::Mesh], BOTH);
    }
    // Left, back, and then never for long enough.
    assert_eq!(clock.reasons(), [Why::NatsSilent, Why::NatsProven, Why::NatsSilent]);
    clock.run(3_000, &[Path::Nats, Path::Mesh], BOTH);
    assert_eq!(clock.reasons().last(), Some(&Why::NatsProven), "two seconds were enough");
    // A minute later all is forgotten.
    clock.run(62_000, &[Path::Nats, Path::Mesh], BOTH);
    clock.run(500, &[Path::Mesh], BOTH);
    clock.run(1_500, &[Path::Nats, Path::Mesh], BOTH);
    assert_eq!(clock.reasons().last(), Some(&Why::NatsProven));
    // A server that is restarted costs nothing.
    for _ in 0..10 {
        clock.run(500, &[Path::Mesh], Open { nats: NatsState::Down, mesh: true });
        clock.run(1_500, &[Path::Nats, Path::Mesh], BOTH);
        assert_eq!(clock.reasons().last(), Some(&Why::NatsProven));
    }
}

#[test]
fn two_that_say_nothing_to_each_other_go_back_to_nats_as_well() {
    let mut clock = Clock::new();
    clock.run(1_000, &[], BOTH);
    assert_eq!(clock.run(1_000, &[], Open { nats: NatsState::Down, mesh: true }), Some(Path::Mesh));
    assert_eq!(clock.run(3_000, &[], BOTH), Some(Path::Mesh));
    assert_eq!(clock.run(3_000, &[], BOTH), Some(Path::Nats));
    assert_eq!(clock.reasons(), [Why::NatsDown, Why::NothingSaid]);
}

#[test]
fn what_is_large_goes_by_the_mesh_where_there_is_a_choice() {
    for (mode, open, want) in [
        (WayMode::Auto, BOTH, Some(Path::Mesh)),
        (WayMode::Auto, NATS_ONLY, None),
        (WayMode::Nats, BOTH, None),
        (WayMode::Mesh, BOTH, None),
    ] {
        let choices = Choices::new(ChoiceConfig { mode, ..CONFIG });
        assert_eq!(choices.for_bulk(node(), open, 1), want, "{mode:?}");
    }
    let mut choices = Choices::new(CONFIG);
    Story::beats(1_000, |path, _| (path == Path::Nats).then_some(0)).tell(&mut choices);
    assert_eq!(choices.for_bulk(node(), BOTH, 1_960), None, "the mesh is silent");
}
