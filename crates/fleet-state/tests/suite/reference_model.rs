//! The state machine against a model of it that is as simple as can be, and written from the rules rather than from
//! the code.

mod model;

use std::collections::BTreeMap;

use fleet_state::limits::FEATURE_LEVEL;
use fleet_state::{
    Body, Command, Entry, FleetState, FoundingParams, NodeId, Outcome, Proposal, Revision, Role,
};
use proptest::prelude::*;

use crate::generate;
use crate::site::{founding, restored, snapshot_of};
use model::{Model, ModelDevice, Verdict};

/// One step of a run.
#[derive(Clone, Debug)]
enum Step {
    Propose { request: u8, precondition: Precondition, command: Command, waited_ms: u64 },
    Retry { back: prop::sample::Index },
    Role { node: u64, role: Role },
    Level { node: u64, level: u16 },
}

#[derive(Clone, Copy, Debug)]
enum Precondition {
    None,
    Absent,
    Recent(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let recent = prop::option::of((0u64..40).prop_map(Revision::new));
    let command = prop_oneof![6 => generate::plain_command(), 1 => generate::batch(recent), 2 => generate::admin_command()];
    let precondition = prop_oneof![
        6 => Just(Precondition::None),
        1 => Just(Precondition::Absent),
        2 => (1u64..12).prop_map(Precondition::Recent),
    ];
    let role = prop_oneof![Just(Role::Learner), Just(Role::Voter), Just(Role::Removed)];
    prop_oneof![
        16 => (any::<u8>(), precondition, command, 0u64..400).prop_map(
            |(request, precondition, command, waited_ms)| Step::Propose { request, precondition, command, waited_ms }
        ),
        3 => any::<prop::sample::Index>().prop_map(|back| Step::Retry { back }),
        1 => (1u64..6, role).prop_map(|(node, role)| Step::Role { node, role }),
        1 => (1u64..4, 0u16..=FEATURE_LEVEL).prop_map(|(node, level)| Step::Level { node, level }),
    ]
}

fn verdict(outcome: &Outcome) -> Verdict {
    match outcome {
        Outcome::Accepted(accepted) => Ok((true, accepted.node.map(NodeId::get))),
        Outcome::Unchanged => Ok((false, None)),
        Outcome::Rejected(rejection) => Err(rejection.code),
    }
}

fn agree(state: &FleetState, model: &Model) {
    assert_eq!(state.last_applied().get(), model.last);
    assert_eq!(state.log_time_ms(), model.log_time);
    assert_eq!((state.voters_wanted(), state.next_node().get()), (model.voters, model.next_node));
    assert_eq!(state.feature_level(), model.level);
    let reads: Vec<u16> = state.members().map(|member| member.feature_level).collect();
    assert_eq!(reads, model.members.values().map(|member| member.reads).collect::<Vec<_>>());
    let links: BTreeMap<_, _> = state
        .links()
        .map(|link| (link.id.to_string(), (link.spec.clone(), link.revision.get())))
        .collect();
    assert_eq!(links, model.links);
    let device = |device: &fleet_state::Device| ModelDevice {
        spec: device.spec.clone(),
        desired: device.desired(),
        ever_desired: device.desired_revision != Revision::NONE,
        revision: device.revision.get(),
    };
    let devices: BTreeMap<_, _> =
        state.devices().map(|entry| (entry.id.to_string(), device(entry))).collect();
    assert_eq!(devices, model.devices);
    let params: BTreeMap<_, _> = state
        .params()
        .map(|param| (param.key.to_string(), (param.value.clone(), param.revision.get())))
        .collect();
    assert_eq!(params, model.params);
    let members: Vec<_> = state
        .members()
        .map(|m| {
            (
                m.id.get(),
                m.name.to_string(),
                m.role,
                m.credential,
                m.wanted_voter,
                m.leaving,
                m.revision.get(),
            )
        })
        .collect();
    let expected: Vec<_> = model
        .members
        .iter()
        .map(|(id, m)| (*id, m.name.clone(), m.role, m.certified, m.wanted, m.leaving, m.revision))
        .collect();
    assert_eq!(members, expected);
    let labels = |member: &fleet_state::Member| {
        let pairs = member.labels.iter();
        pairs.map(|(key, value)| (key.to_string(), value.to_string())).collect()
    };
    let labels: Vec<BTreeMap<String, String>> =
        state.members().map(|member| labels(member)).collect();
    assert_eq!(labels, model.members.values().map(|m| m.labels.clone()).collect::<Vec<_>>());
    let tokens: Vec<_> = state
        .tokens()
        .map(|token| {
            (token.id.to_string(), token.expires_log_ms, token.uses_left, token.revision.get())
        })
        .collect();
    let expected: Vec<_> = model
        .tokens
        .iter()
        .map(|(id, token)| (id.clone(), token.expires, token.uses_left, token.revision))
        .collect();
    assert_eq!(tokens, expected);
    let changes: Vec<_> = state.changes_since(Revision::NONE).unwrap().collect();
    assert!(changes.is_sorted_by_key(|(revision, _)| *revision));
    let deleted: BTreeMap<_, _> = changes
        .iter()
        .filter(|(_, change)| change.record.is_none())
        .map(|(revision, change)| (change.entity.clone(), revision.get()))
        .collect();
    // What came and went in one batch leaves a tombstone as well.
    assert_eq!(deleted, model.deleted);
    let living = changes.len() - deleted.len();
    assert_eq!(
        living,
        state.links_len()
            + state.devices_len()
            + state.params_len()
            + state.members_len()
            + state.tokens_len()
    );
}

fn run(steps: &[Step], snapshot_at: usize) {
    let mut state = FleetState::found(FoundingParams { feature_level: 0, ..founding("home", 1) });
    let mut model = Model::found();
    let mut copy: Option<FleetState> = None;
    let mut sent: Vec<Proposal> = Vec::new();
    let mut log_time = 0;
    for (number, step) in steps.iter().enumerate() {
        if number == snapshot_at {
            copy = Some(restored(&snapshot_of(&state)));
        }
        let revision = Revision::new(state.last_applied().get() + 1);
        let proposal = match step {
            Step::Role { node, role } => {
                let node = NodeId::new(*node).unwrap();
                let changes = state.apply_role(revision, node, *role);
                model.set_role(node.get(), *role);
                if let Some(copy) = &mut copy {
                    assert_eq!(copy.apply_role(revision, node, *role), changes);
                }
                continue;
            }
            Step::Level { node, level } => {
                let body = Body::MemberLevel { node: NodeId::new(*node).unwrap(), level: *level };
                let entry = Entry { log_time_ms: log_time, wall_time_ms: 7, body };
                let applied = state.apply(revision, &entry);
                model.set_level(*node, *level);
                model.log_time = log_time;
                if let Some(copy) = &mut copy {
                    assert_eq!(copy.apply(revision, &entry), applied);
                }
                continue;
            }
            Step::Retry { .. } if sent.is_empty() => continue,
            Step::Retry { back } => back.get(&sent).clone(),
            Step::Propose { request, precondition, command, waited_ms } => {
                log_time += waited_ms;
                let if_revision = match precondition {
                    Precondition::None => None,
                    Precondition::Absent => Some(Revision::NONE),
                    Precondition::Recent(back) => {
                        Some(Revision::new(revision.get().saturating_sub(*back)))
                    }
                };
                let request_id = format!("request-{request}").parse().unwrap();
                Proposal { request_id, if_revision, actor: None, command: command.clone() }
            }
        };
        sent.push(proposal.clone());
        let entry = Entry {
            log_time_ms: log_time,
            wall_time_ms: 7,
            body: Body::Proposal(proposal.clone()),
        };
        let applied = state.apply(revision, &entry);
        let answer = applied.answer.clone().unwrap();
        let (decided, expected) = model.propose(&proposal, log_time);
        assert_eq!(verdict(&answer.outcome), expected, "{number}: {proposal:?}");
        assert_eq!(answer.revision.get(), decided);
        if let Some(copy) = &mut copy {
            assert_eq!(copy.apply(revision, &entry), applied);
        }
    }
    agree(&state, &model);
    let bytes = snapshot_of(&state);
    let again = restored(&bytes);
    assert_eq!(again.digests(), state.digests());
    // Counted up change by change, and counted anew record by record.
    assert_eq!(again.content_bytes(), state.content_bytes());
    assert_eq!(snapshot_of(&again), bytes);
    if let Some(copy) = copy {
        assert_eq!(copy.digests(), state.digests());
        assert_eq!(snapshot_of(&copy), bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_state_machine_does_as_the_model(steps in prop::collection::vec(step(), 1..80), snapshot_at in 0usize..60) {
        run(&steps, snapshot_at);
    }
}
