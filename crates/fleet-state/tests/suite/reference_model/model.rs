//! The model: maps of the standard library, cloned for each batch and searched from end to end.

use std::collections::BTreeMap;

use fleet_state::{
    Command, DeviceSpec, Entity, LinkSpec, NodeId, Object, Proposal, RejectCode, RequestId,
    Revision, Role, Value,
};

use crate::site::founding;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ModelDevice {
    pub(crate) spec: DeviceSpec,
    pub(crate) desired: Object,
    pub(crate) ever_desired: bool,
    pub(crate) revision: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct ModelMember {
    pub(crate) name: String,
    pub(crate) sign: [u8; 32],
    pub(crate) role: Role,
    pub(crate) certified: Option<[u8; 64]>,
    pub(crate) wanted: bool,
    pub(crate) leaving: bool,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) reads: u16,
    pub(crate) revision: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct ModelToken {
    pub(crate) expires: u64,
    pub(crate) uses_left: u32,
    pub(crate) revision: u64,
}

/// What a command comes to: changed with a node id perhaps, unchanged, or refused.
pub(crate) type Verdict = Result<(bool, Option<u64>), RejectCode>;

#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) links: BTreeMap<String, (LinkSpec, u64)>,
    pub(crate) devices: BTreeMap<String, ModelDevice>,
    pub(crate) params: BTreeMap<String, (Value, u64)>,
    pub(crate) members: BTreeMap<u64, ModelMember>,
    pub(crate) tokens: BTreeMap<String, ModelToken>,
    pub(crate) deleted: BTreeMap<Entity, u64>,
    pub(crate) answers: BTreeMap<RequestId, (Proposal, u64, Verdict)>,
    pub(crate) voters: u8,
    pub(crate) level: u16,
    pub(crate) next_node: u64,
    pub(crate) log_time: u64,
    pub(crate) last: u64,
}

impl Model {
    pub(crate) fn found() -> Self {
        let founder = founding("home", 1).member;
        let member = ModelMember {
            name: founder.name.to_string(),
            sign: founder.keys.sign,
            role: Role::Voter,
            certified: Some(founder.credential),
            wanted: false,
            leaving: false,
            labels: BTreeMap::new(),
            reads: 0,
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
            level: 0,
            next_node: 2,
            log_time: 0,
            last: 1,
        }
    }

    pub(crate) fn propose(&mut self, proposal: &Proposal, log_time: u64) -> (u64, Verdict) {
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
                let named = match command {
                    Command::DeviceUpdate { patch, .. } => patch,
                    Command::DeviceReplace { desired, .. } => desired,
                    _ => unreachable!(),
                };
                // On a link, to name a property is to want it anew.
                let anew = device.spec.link.is_some()
                    && named.iter().any(|(name, _)| desired.get(name).is_some());
                if device.ever_desired && device.desired == desired && !anew {
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
                        member if member.role == Role::Joining => Ok((true, Some(*id))),
                        _ => Err(RejectCode::Denied),
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
                    labels: BTreeMap::new(),
                    reads: self.level,
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
            Command::MemberLabel { labels, .. }
                if labels.is_empty() || labels.contains_key("node") =>
            {
                return Err(RejectCode::Malformed);
            }
            Command::Certify { node, .. }
            | Command::MemberRemove { node }
            | Command::MemberPromote { node }
            | Command::MemberLabel { node, .. } => {
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
        let named = self
            .members
            .values()
            .filter(|member| !member.leaving && (member.wanted || member.role == Role::Voter))
            .count();
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
            Command::MemberPromote { .. } if named >= usize::from(self.voters) => {
                return Err(RejectCode::LimitReached);
            }
            Command::MemberPromote { .. } => member.wanted = true,
            Command::MemberLabel { labels, .. } => {
                let before = member.labels.clone();
                for (key, value) in labels {
                    match value {
                        Some(value) => member.labels.insert(key.to_string(), value.to_string()),
                        None => member.labels.remove(&**key),
                    };
                }
                if member.labels == before {
                    return Ok((false, None));
                }
            }
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
        self.settle_level();
        Ok((true, None))
    }

    pub(crate) fn set_role(&mut self, node: u64, role: Role) {
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
        self.settle_level();
    }

    pub(crate) fn set_level(&mut self, node: u64, reads: u16) {
        self.last += 1;
        if let Some(member) = self.members.get_mut(&node)
            && member.role != Role::Removed
            && member.reads != reads
        {
            (member.reads, member.revision) = (reads, self.last);
            self.settle_level();
        }
    }

    /// As high as no living member stands in the way of.
    fn settle_level(&mut self) {
        let in_the_way = |level: u16| {
            self.members.values().any(|member| member.role != Role::Removed && member.reads < level)
        };
        let anybody = self.members.values().any(|member| member.role != Role::Removed);
        while anybody && !in_the_way(self.level + 1) {
            self.level += 1;
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
