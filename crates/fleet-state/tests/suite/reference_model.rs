//! The state machine against a model of it that is as simple as can be: maps of the standard library, cloned for
//! each batch, searched from end to end, and written from the rules rather than from the code.

use std::collections::BTreeMap;

use fleet_state::{
    Body, Command, DeviceSpec, Entity, Entry, FleetState, LinkSpec, NodeId, Object, Outcome,
    Proposal, RejectCode, RequestId, Revision, Role, Value,
};
use proptest::prelude::*;

use crate::generate;
use crate::site::{founding, restored, snapshot_of};

#[derive(Clone, Debug, PartialEq)]
struct ModelDevice {
    spec: DeviceSpec,
    desired: Object,
    ever_desired: bool,
    revision: u64,
}

#[derive(Clone, Debug)]
struct ModelMember {
    name: String,
    sign: [u8; 32],
    role: Role,
    certified: Option<[u8; 64]>,
    wanted: bool,
    leaving: bool,
    revision: u64,
}

#[derive(Clone, Debug)]
struct ModelToken {
    expires: u64,
    uses_left: u32,
    revision: u64,
}

/// What a command comes to: changed with a node id perhaps, unchanged, or refused.
type Verdict = Result<(bool, Option<u64>), RejectCode>;

#[derive(Clone)]
struct Model {
    links: BTreeMap<String, (LinkSpec, u64)>,
    devices: BTreeMap<String, ModelDevice>,
    params: BTreeMap<String, (Value, u64)>,
    members: BTreeMap<u64, ModelMember>,
    tokens: BTreeMap<String, ModelToken>,
    deleted: BTreeMap<Entity, u64>,
    answers: BTreeMap<RequestId, (Proposal, u64, Verdict)>,
    voters: u8,
    next_node: u64,
    log_time: u64,
    last: u64,
}

impl Model {
    fn found() -> Self {
        let founder = founding("home", 1).member;
        let member = ModelMember {
            name: founder.name.to_string(),
            sign: founder.keys.sign,
            role: Role::Voter,
            certified: Some(founder.credential),
            wanted: false,
            leaving: false,
            revision: 1,
        };
        Self {
            links: BTreeMap::new(),
            devices: BTreeMap::new(),
            params: BTreeMap::new(),
            members: [(1, member)].into(),
            tokens: BTreeMap::new(),
            deleted: BTreeMap::new(),
            answers: BTreeMap::new(),
            voters: 5,
            next_node: 2,
            log_time: 0,
            last: 1,
        }
    }

    fn propose(&mut self, proposal: &Proposal, log_time: u64) -> (u64, Verdict) {
        self.last += 1;
        self.log_time = self.log_time.max(log_time);
        let certify = matches!(proposal.command, Command::Certify { .. });
        if let Some((first, revision, verdict)) =
            self.answers.get(&proposal.request_id).filter(|_| !certify)
        {
            let same =
                first.command == proposal.command && first.if_revision == proposal.if_revision;
            return if same {
                (*revision, *verdict)
            } else {
                (self.last, Err(RejectCode::RequestIdReused))
            };
        }
        let takes_precondition = !matches!(
            proposal.command,
            Command::Batch(_)
                | Command::Join(_)
                | Command::Certify { .. }
                | Command::SetVoters { .. }
        );
        let verdict = if proposal.if_revision.is_some() && !takes_precondition {
            Err(RejectCode::Malformed)
        } else {
            self.decide(&proposal.command, proposal.if_revision.map(Revision::get))
        };
        if !certify {
            self.answers
                .insert(proposal.request_id.clone(), (proposal.clone(), self.last, verdict));
        }
        (self.last, verdict)
    }

    fn decide(&mut self, command: &Command, expected: Option<u64>) -> Verdict {
        let now = self.last;
        let changed = Ok((true, None));
        let unchanged = Ok((false, None));
        // Zero means absent, as a precondition does.
        let compare = |current: u64| match expected {
            Some(expected) if expected != current => Err(RejectCode::RevisionMismatch),
            _ => Ok(()),
        };
        match command {
            Command::LinkRegister { id, spec } => {
                let before = self.links.get(id.as_str());
                compare(before.map_or(0, |link| link.1))?;
                if before.is_some_and(|link| link.0 == *spec) {
                    return unchanged;
                }
                self.links.insert(id.to_string(), (spec.clone(), now));
                self.deleted.remove(&Entity::Link(id.clone()));
                changed
            }
            Command::LinkDelete { id } => {
                let before = self.links.get(id.as_str()).ok_or(RejectCode::NotFound)?;
                compare(before.1)?;
                if self.devices.values().any(|device| device.spec.link.as_ref() == Some(id)) {
                    return Err(RejectCode::InUse);
                }
                self.links.remove(id.as_str());
                self.deleted.insert(Entity::Link(id.clone()), now);
                changed
            }
            Command::DeviceRegister { id, spec } => {
                let before = self.devices.get(id.as_str()).cloned();
                compare(before.as_ref().map_or(0, |device| device.revision))?;
                if before.as_ref().is_some_and(|device| device.spec == *spec) {
                    return unchanged;
                }
                if spec.link.as_ref().is_some_and(|link| !self.links.contains_key(link.as_str())) {
                    return Err(RejectCode::LinkNotFound);
                }
                let (desired, ever_desired) = before
                    .map_or((Object::new(), false), |device| (device.desired, device.ever_desired));
                if ever_desired && !fits(spec, &desired) {
                    return Err(RejectCode::Schema);
                }
                let device =
                    ModelDevice { spec: spec.clone(), desired, ever_desired, revision: now };
                self.devices.insert(id.to_string(), device);
                self.deleted.remove(&Entity::Device(id.clone()));
                changed
            }
            Command::DeviceUpdate { id, .. } | Command::DeviceReplace { id, .. } => {
                let device = self.devices.get_mut(id.as_str()).ok_or(RejectCode::NotFound)?;
                compare(device.revision)?;
                let desired = match command {
                    Command::DeviceUpdate { patch, .. } => patched(&device.desired, patch),
                    Command::DeviceReplace { desired, .. } => desired.clone(),
                    _ => unreachable!(),
                };
                if !fits(&device.spec, &desired) {
                    return Err(RejectCode::Schema);
                }
                if device.ever_desired && device.desired == desired {
                    return unchanged;
                }
                (device.desired, device.ever_desired, device.revision) = (desired, true, now);
                changed
            }
            Command::DeviceDelete { id } => {
                let device = self.devices.get(id.as_str()).ok_or(RejectCode::NotFound)?;
                compare(device.revision)?;
                self.devices.remove(id.as_str());
                self.deleted.insert(Entity::Device(id.clone()), now);
                changed
            }
            Command::ParamSet { key, value } => {
                let before = self.params.get(key.as_str());
                compare(before.map_or(0, |param| param.1))?;
                if before.is_some_and(|param| param.0 == *value) {
                    return unchanged;
                }
                self.params.insert(key.to_string(), (value.clone(), now));
                self.deleted.remove(&Entity::Param(key.clone()));
                changed
            }
            Command::ParamDelete { key } => {
                let before = self.params.get(key.as_str()).ok_or(RejectCode::NotFound)?;
                compare(before.1)?;
                self.params.remove(key.as_str());
                self.deleted.insert(Entity::Param(key.clone()), now);
                changed
            }
            Command::Batch(items) => {
                let mut attempt = self.clone();
                let mut any = false;
                for item in items {
                    any |= attempt.decide(&item.command, item.if_revision.map(Revision::get))?.0;
                }
                *self = attempt;
                Ok((any, None))
            }
            other => self.decide_admin(other, expected),
        }
    }

    fn decide_admin(&mut self, command: &Command, expected: Option<u64>) -> Verdict {
        let now = self.last;
        let compare = |current: u64| match expected {
            Some(expected) if expected != current => Err(RejectCode::RevisionMismatch),
            _ => Ok(()),
        };
        match command {
            Command::TokenCreate { id, ttl_ms, uses, .. } => {
                if *ttl_ms < 1_000 || *uses == 0 {
                    return Err(RejectCode::Malformed);
                }
                compare(self.tokens.get(&id.to_string()).map_or(0, |token| token.revision))?;
                if self.tokens.contains_key(&id.to_string()) {
                    return Err(RejectCode::AlreadyExists);
                }
                let token =
                    ModelToken { expires: self.log_time + ttl_ms, uses_left: *uses, revision: now };
                self.tokens.insert(id.to_string(), token);
                self.deleted.remove(&Entity::Token(*id));
            }
            Command::TokenRevoke { id } => {
                compare(self.tokens.get(&id.to_string()).ok_or(RejectCode::NotFound)?.revision)?;
                self.tokens.remove(&id.to_string());
                self.deleted.insert(Entity::Token(*id), now);
            }
            Command::Join(request) => {
                let known =
                    self.members.iter().find(|(_, member)| member.sign == request.keys.sign);
                if let Some((id, member)) = known {
                    return match member {
                        member if member.role == Role::Removed => Err(RejectCode::Denied),
                        member if member.name != request.name.as_str() => {
                            Err(RejectCode::AlreadyExists)
                        }
                        _ => Ok((true, Some(*id))),
                    };
                }
                let log_time = self.log_time;
                let token = self
                    .tokens
                    .get_mut(&request.token.to_string())
                    .ok_or(RejectCode::TokenUnknown)?;
                // The generator makes right proofs, or all zeros.
                if request.proof == [0; 32] {
                    return Err(RejectCode::ProofInvalid);
                }
                if token.expires <= log_time {
                    return Err(RejectCode::TokenExpired);
                }
                if token.uses_left == 0 {
                    return Err(RejectCode::TokenUsed);
                }
                let mut live = self.members.values().filter(|member| member.role != Role::Removed);
                if live.any(|member| member.name == request.name.as_str()) {
                    return Err(RejectCode::AlreadyExists);
                }
                (token.uses_left, token.revision) = (token.uses_left - 1, now);
                let member = ModelMember {
                    name: request.name.to_string(),
                    sign: request.keys.sign,
                    role: Role::Joining,
                    certified: None,
                    wanted: false,
                    leaving: false,
                    revision: now,
                };
                self.members.insert(self.next_node, member);
                self.next_node += 1;
                return Ok((true, Some(self.next_node - 1)));
            }
            Command::SetVoters { voters } => {
                if ![1, 3, 5, 7].contains(voters) {
                    return Err(RejectCode::Malformed);
                }
                return Ok((std::mem::replace(&mut self.voters, *voters) != *voters, None));
            }
            Command::Certify { node, .. }
            | Command::MemberRemove { node }
            | Command::MemberPromote { node } => {
                return self.decide_member(*node, command, expected);
            }
            _ => unreachable!(),
        }
        Ok((true, None))
    }

    fn decide_member(&mut self, node: NodeId, command: &Command, expected: Option<u64>) -> Verdict {
        let voters_staying = |(id, member): &(&u64, &ModelMember)| {
            member.role == Role::Voter && !member.leaving && **id != node.get()
        };
        let others_vote = self.members.iter().any(|member| voters_staying(&member));
        let member =
            self.members.get_mut(&node.get()).filter(|member| member.role != Role::Removed);
        let member = member.ok_or(RejectCode::NotFound)?;
        if expected.is_some_and(|expected| expected != member.revision) {
            return Err(RejectCode::RevisionMismatch);
        }
        match command {
            Command::Certify { credential, .. } => match member.certified {
                Some(known) if known == *credential => return Ok((false, None)),
                Some(_) => return Err(RejectCode::AlreadyExists),
                None => member.certified = Some(*credential),
            },
            Command::MemberPromote { .. } if member.leaving => return Err(RejectCode::Denied),
            Command::MemberPromote { .. } if member.wanted || member.role == Role::Voter => {
                return Ok((false, None));
            }
            Command::MemberPromote { .. } => member.wanted = true,
            Command::MemberRemove { .. } if member.leaving => return Ok((false, None)),
            Command::MemberRemove { .. } if member.role == Role::Voter && !others_vote => {
                return Err(RejectCode::LastVoter);
            }
            Command::MemberRemove { .. } => {
                member.wanted = false;
                member.leaving = member.role != Role::Joining;
                if member.role == Role::Joining {
                    member.role = Role::Removed;
                }
            }
            _ => unreachable!(),
        }
        member.revision = self.last;
        Ok((true, None))
    }

    fn set_role(&mut self, node: u64, role: Role) {
        self.last += 1;
        let Some(member) = self.members.get_mut(&node) else { return };
        if member.role == Role::Removed || member.role == role {
            return;
        }
        (member.role, member.revision) = (role, self.last);
        if role == Role::Voter || role == Role::Removed {
            member.wanted = false;
        }
        if role == Role::Removed {
            member.leaving = false;
        }
    }
}

fn fits(spec: &DeviceSpec, desired: &Object) -> bool {
    // The generator knows one model only: `a`, when it is there, is an integer of at most 1000.
    spec.model.is_none()
        || desired.get("a").is_none_or(|a| match a {
            Value::I64(number) => *number <= 1_000,
            Value::F64(number) => number.get().fract() == 0.0 && number.get() <= 1_000.0,
            _ => false,
        })
}

/// RFC 7396, word for word.
fn patched(target: &Object, patch: &Object) -> Object {
    fn merge(target: Option<&Value>, patch: &Value) -> Value {
        let Value::Map(patch) = patch else { return patch.clone() };
        let mut target = match target {
            Some(Value::Map(target)) => target.clone(),
            _ => Object::new(),
        };
        for (name, value) in patch.iter() {
            if *value == Value::Null {
                target.remove(name);
            } else {
                let merged = merge(target.get(name), value);
                target.insert(name.clone(), merged);
            }
        }
        Value::Map(target)
    }
    match merge(Some(&Value::Map(target.clone())), &Value::Map(patch.clone())) {
        Value::Map(merged) => merged,
        _ => unreachable!(),
    }
}

/// One step of a run.
#[derive(Clone, Debug)]
enum Step {
    Propose { request: u8, precondition: Precondition, command: Command, waited_ms: u64 },
    Retry { back: prop::sample::Index },
    Role { node: u64, role: Role },
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
    let links: BTreeMap<_, _> = state
        .links()
        .map(|link| (link.id.to_string(), (link.spec.clone(), link.revision.get())))
        .collect();
    assert_eq!(links, model.links);
    let device = |device: &fleet_state::Device| ModelDevice {
        spec: device.spec.clone(),
        desired: device.desired.clone(),
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
    let mut state = FleetState::found(founding("home", 1));
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
