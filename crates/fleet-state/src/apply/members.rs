//! Members: who belongs to the site.
//!
//! A member comes by a join, and what it is to the consensus follows from the configuration changes in the log, told
//! by [`FleetState::apply_role`]. Commands only record what is wanted; the leader sees to the rest.

use std::sync::Arc;

use super::effects::{Effects, compare_revision, limit_reached};
use super::{ACCEPTED, Decision};
use crate::command::{JoinRequest, Labels};
use crate::credential::{join_message, verify_join_proof};
use crate::ids::{NodeId, RequestId, Revision};
use crate::limits::{MEMBERS_MAX, MEMBERS_REMOVED_MAX, TOKEN_USES_MAX, VOTERS_MAX};
use crate::outcome::{Accepted, Outcome, RejectCode, Rejection};
use crate::record::{Change, Member, Role, Token};
use crate::seeded;
use crate::state::FleetState;

impl FleetState {
    /// Records what a committed configuration change made of a member.
    ///
    /// Nothing changes for an unknown member, one that was removed, or one that has the role already.
    pub fn apply_role(&mut self, revision: Revision, node: NodeId, role: Role) -> Vec<Change> {
        if revision <= self.counters.last_applied {
            return Vec::new();
        }
        self.counters.last_applied = revision;
        let mut effects = Effects::new(revision, self.counters.wall_time_ms);
        if let Some(before) =
            self.members.get(&node).filter(|member| member.is_live() && member.role != role)
        {
            let mut member = Member { role, revision, ..before.as_ref().clone() };
            member.wanted_voter &= matches!(role, Role::Joining | Role::Learner);
            member.leaving &= role != Role::Removed;
            self.put(member, &mut effects);
            self.forget_removed_members(&mut effects);
            self.raise_level();
        }
        effects.into_changes()
    }

    /// Records what a member's program reads. Nothing changes for an unknown or removed one.
    pub(super) fn member_level(&mut self, node: NodeId, level: u16, effects: &mut Effects) {
        let Ok(before) = self.live_member(node) else { return };
        if before.feature_level != level {
            let revision = effects.revision();
            self.put(Member { feature_level: level, revision, ..before.clone() }, effects);
            self.raise_level();
        }
    }

    /// The site has the highest level that the program of every member reads, and never goes back: what was
    /// written since may be of that level.
    pub(crate) fn raise_level(&mut self) {
        let live = self.members.iter().filter(|member| member.is_live());
        let levels = live.map(|member| member.feature_level);
        let read_by_all =
            if seeded::on("level-by-the-newest") { levels.max() } else { levels.min() };
        self.counters.feature_level =
            self.counters.feature_level.max(read_by_all.unwrap_or_default());
    }

    pub(super) fn join(&mut self, request: &JoinRequest, effects: &mut Effects) -> Decision {
        if let Some(known) = self.member_with_key_of(request) {
            return repeat_join(known, request);
        }
        let token = self.usable_token(request)?;
        if let Some(other) = self.member_named(&request.name) {
            let message = format!(
                "the name {} belongs to node {}; choose another one",
                request.name, other.id
            );
            return Err(Rejection::new(RejectCode::AlreadyExists, message));
        }
        if self.members.iter().filter(|member| member.is_live()).count() >= MEMBERS_MAX {
            return Err(limit_reached("members", MEMBERS_MAX));
        }
        let revision = effects.revision();
        let id = self.take_node_id();
        let mut used_by = token.used_by.clone();
        used_by.push(id);
        let uses_left = token.uses_left.saturating_sub(1);
        self.put(Token { uses_left, used_by, revision, ..token }, effects);
        let member = Member {
            id,
            name: request.name.clone(),
            keys: request.keys,
            credential: None,
            role: Role::Joining,
            wanted_voter: false,
            leaving: false,
            draining: false,
            labels: Labels::new(),
            // It has to read what the site has, and tells the leader what else it reads.
            feature_level: self.counters.feature_level,
            joined: revision,
            revision,
        };
        self.put(member, effects);
        Ok(Outcome::Accepted(Accepted { node: Some(id), claims: Vec::new() }))
    }

    /// Why this request to join would be refused as things stand. Whoever asks need not belong to
    /// anything, so it is asked before the log is troubled; one that was answered already is for
    /// the log to answer again.
    #[must_use]
    pub fn join_refusal(&self, id: &RequestId, request: &JoinRequest) -> Option<Rejection> {
        if self.dedup.answer(id).is_some() {
            return None;
        }
        match self.member_with_key_of(request) {
            Some(known) => repeat_join(known, request).err(),
            None => self.usable_token(request).err(),
        }
    }

    fn member_with_key_of(&self, request: &JoinRequest) -> Option<&Member> {
        let same = |member: &&Member| {
            member.keys.sign == request.keys.sign || member.keys.exchange == request.keys.exchange
        };
        self.members.iter().map(AsRef::as_ref).find(same)
    }

    /// The token of a join request, when the request was made with its secret and it may be used.
    fn usable_token(&self, request: &JoinRequest) -> Result<Token, Rejection> {
        let id = request.token;
        let reject = |code, message: String| Err(Rejection::new(code, message));
        let Some(token) = self.tokens.get(&id) else {
            return reject(
                RejectCode::TokenUnknown,
                format!("there is no join token {id}; ask for a new one"),
            );
        };
        let message = join_message(id, &request.name, &request.keys);
        if !verify_join_proof(&token.key, &message, &request.proof) {
            let message = format!(
                "the join request does not fit token {id}; check that the token is complete"
            );
            return reject(RejectCode::ProofInvalid, message);
        }
        if token.expires_log_ms <= self.counters.log_time_ms {
            return reject(
                RejectCode::TokenExpired,
                format!("join token {id} has expired; ask for a new one"),
            );
        }
        if token.uses_left == 0 || token.used_by.len() >= TOKEN_USES_MAX as usize {
            return reject(
                RejectCode::TokenUsed,
                format!("join token {id} has no use left; ask for a new one"),
            );
        }
        Ok(token.as_ref().clone())
    }

    /// Takes the next id. None is given twice: there are more than can be counted through.
    pub(crate) fn take_node_id(&mut self) -> NodeId {
        if seeded::on("node-id-reused")
            && let Some(removed) = self.members.iter().find(|member| !member.is_live())
        {
            return removed.id;
        }
        let id = self.counters.next_node;
        self.counters.next_node = NodeId::new(id.get().saturating_add(1)).unwrap_or(id);
        id
    }

    pub(super) fn certify(
        &mut self,
        node: NodeId,
        credential: &[u8; 64],
        effects: &mut Effects,
    ) -> Decision {
        let before = self.live_member(node)?;
        match &before.credential {
            Some(known) if known == credential => return Ok(Outcome::Unchanged),
            Some(_) => {
                let message = format!("node {node} has another credential already");
                return Err(Rejection::new(RejectCode::AlreadyExists, message));
            }
            None => {}
        }
        let member = Member {
            credential: Some(*credential),
            revision: effects.revision(),
            ..before.clone()
        };
        self.put(member, effects);
        Ok(ACCEPTED)
    }

    pub(super) fn member_promote(
        &mut self,
        node: NodeId,
        expected: Option<Revision>,
        effects: &mut Effects,
    ) -> Decision {
        let before = self.live_member(node)?;
        compare_revision(&format_args!("node {node}"), Some(before.revision), expected)?;
        if before.leaving {
            let message = format!("node {node} is being removed; let it join anew");
            return Err(Rejection::new(RejectCode::Denied, message));
        }
        if before.wanted_voter || before.role == Role::Voter {
            return Ok(Outcome::Unchanged);
        }
        self.check_room_for_voter()?;
        let member = Member { wanted_voter: true, revision: effects.revision(), ..before.clone() };
        self.put(member, effects);
        Ok(ACCEPTED)
    }

    /// A voter beyond the wanted number makes it even: one more that can fail, and no more that may.
    fn check_room_for_voter(&self) -> Result<(), Rejection> {
        let votes = |member: &&Arc<Member>| {
            !member.leaving && (member.role == Role::Voter || member.wanted_voter)
        };
        let (count, wanted) =
            (self.members.iter().filter(votes).count(), self.counters.voters_wanted);
        if count < usize::from(wanted) {
            return Ok(());
        }
        let advice = if wanted < VOTERS_MAX {
            format!(
                "remove one of them, or let the site have {} (flotilla member voters)",
                wanted + 2
            )
        } else {
            "no site has more, so remove one of them".to_owned()
        };
        let message = format!(
            "{count} nodes vote or are named to vote, and the site wants {wanted}; one more would make \
             the number even, which survives no more failures: {advice}"
        );
        Err(Rejection::new(RejectCode::LimitReached, message))
    }

    pub(super) fn member_remove(
        &mut self,
        node: NodeId,
        expected: Option<Revision>,
        effects: &mut Effects,
    ) -> Decision {
        let before = self.live_member(node)?;
        compare_revision(&format_args!("node {node}"), Some(before.revision), expected)?;
        if before.leaving {
            return Ok(Outcome::Unchanged);
        }
        let staying =
            |member: &&Member| member.role == Role::Voter && !member.leaving && member.id != node;
        if before.role == Role::Voter
            && !self.members.iter().map(AsRef::as_ref).any(|member| staying(&member))
        {
            let message =
                format!("node {node} is the last voter; let another node become one first");
            return Err(Rejection::new(RejectCode::LastVoter, message));
        }
        // Who is in no configuration yet has none to leave.
        let removed = before.role == Role::Joining;
        let role = if removed { Role::Removed } else { before.role };
        let revision = effects.revision();
        let member =
            Member { role, leaving: !removed, wanted_voter: false, revision, ..before.clone() };
        self.put(member, effects);
        self.forget_removed_members(effects);
        self.raise_level();
        Ok(ACCEPTED)
    }

    pub(super) fn set_voters(&mut self, voters: u8) -> Outcome {
        if self.counters.voters_wanted == voters {
            return Outcome::Unchanged;
        }
        self.counters.voters_wanted = voters;
        ACCEPTED
    }

    pub(super) fn live_member(&self, node: NodeId) -> Result<&Member, Rejection> {
        let live = self.members.get(&node).filter(|member| member.is_live());
        live.map(AsRef::as_ref).ok_or_else(|| {
            let message = format!("node {node} is no member of the site; `member ls` shows who is");
            Rejection::new(RejectCode::NotFound, message)
        })
    }

    fn forget_removed_members(&mut self, effects: &mut Effects) {
        let removed: Vec<NodeId> = self
            .members
            .iter()
            .filter(|member| !member.is_live())
            .map(|member| member.id)
            .collect();
        let surplus = removed.len().saturating_sub(MEMBERS_REMOVED_MAX);
        for id in removed.into_iter().take(surplus) {
            self.delete::<Member>(&id, effects);
        }
    }
}

/// A join by a node whose keys are known: the same answer when it is the same join.
fn repeat_join(known: &Member, request: &JoinRequest) -> Decision {
    if !known.is_live() {
        let message = format!(
            "these keys belong to node {}, which was removed; start with an empty data directory",
            known.id
        );
        return Err(Rejection::new(RejectCode::Denied, message));
    }
    if known.keys != request.keys || known.name != request.name {
        let message =
            format!("one of these keys belongs to node {} named {}", known.id, known.name);
        return Err(Rejection::new(RejectCode::AlreadyExists, message));
    }
    // Who asks again has no node file: what it stored and voted for is forgotten, and so is the count of its starts,
    // without which nobody listens to it. Before the configuration held it there was nothing to forget.
    if known.role != Role::Joining {
        let message = format!(
            "these keys belong to node {}, a {} already, which must not come back without its files: remove it \
             (flotilla member remove {}), then join anew with an empty data directory",
            known.id,
            known.role.as_str(),
            known.name
        );
        return Err(Rejection::new(RejectCode::Denied, message));
    }
    Ok(Outcome::Accepted(Accepted { node: Some(known.id), claims: Vec::new() }))
}
