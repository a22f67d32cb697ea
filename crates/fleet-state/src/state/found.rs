//! Making a state: the founding of a site, and its restoring as another one.

use std::sync::Arc;

use super::{Counters, FleetState, Identity};
use crate::apply::Effects;
use crate::command::{Labels, NodeKeys};
use crate::dedup::Dedup;
use crate::ids::{NodeId, NodeName, Revision, SiteName, SiteUid, TokenId};
use crate::limits::{NOTE_BYTES_MAX, TOKEN_TTL_MS_MAX, TOKEN_TTL_MS_MIN, TOKEN_USES_MAX};
use crate::record::{Device, Hold, Link, Member, Role, Token, Watermarks};
use crate::stage::Stage;

/// The first member of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundingMember {
    /// Its name.
    pub name: NodeName,
    /// Its keys.
    pub keys: NodeKeys,
    /// The site key's signature over [`crate::credential::credential_message`] for its id: [`NodeId::FOUNDER`], or
    /// at a restore [`FleetState::next_node`] of the state that is restored.
    pub credential: [u8; 64],
}

/// A join token that exists from the start.
///
/// What lies outside the limits of tokens is brought within them: a state beyond its own limits could be written as
/// a snapshot and never be read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundingToken {
    /// Its public id.
    pub id: TokenId,
    /// What proofs are made with.
    pub key: [u8; 32],
    /// How long it is valid, in log time.
    pub ttl_ms: u64,
    /// How many nodes may join with it.
    pub uses: u32,
    /// Free text.
    pub note: Arc<str>,
}

impl FoundingToken {
    fn within_limits(mut self) -> Self {
        self.ttl_ms = self.ttl_ms.clamp(TOKEN_TTL_MS_MIN, TOKEN_TTL_MS_MAX);
        self.uses = self.uses.clamp(1, TOKEN_USES_MAX);
        if self.note.len() > NOTE_BYTES_MAX {
            self.note = Arc::from("");
        }
        self
    }
}

/// What a site is founded with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundingParams {
    /// Its name.
    pub site: SiteName,
    /// Its random uid: a new one at every founding and restore.
    pub uid: SiteUid,
    /// The Ed25519 key that member credentials are checked with.
    pub site_public_key: [u8; 32],
    /// Its first member, a voter.
    pub member: FoundingMember,
    /// How many voters it aims for: odd, 1 to 7.
    pub voters: u8,
    /// The feature level that its first member's program reads: [`crate::limits::FEATURE_LEVEL`] for this one.
    pub feature_level: u16,
    /// A join token that exists from the start.
    pub token: Option<FoundingToken>,
    /// Wall time, for display.
    pub wall_time_ms: u64,
}

/// Revisions that a restored site leaves out: more than the site that was can have come to since the snapshot. So no
/// revision means two things, and a device that refuses what is older than the newest it was told takes orders again.
const RESTORE_STEP: u64 = 1_000_000_000;

/// Why a device is held, and an invocation over, in a site that was restored.
const RESTORED: &str = "the site was restored from a snapshot";

impl FleetState {
    /// The state of a new site: what the snapshot at index 1 of its log holds.
    #[must_use]
    pub fn found(params: FoundingParams) -> Self {
        let counters = Counters {
            voters_wanted: params.voters,
            log_time_ms: 0,
            wall_time_ms: params.wall_time_ms,
            time_lost: Revision::NONE,
            last_applied: Revision::new(1),
            feature_level: 0,
            next_node: NodeId::FOUNDER,
        };
        let identity =
            Identity { site: params.site, uid: params.uid, public_key: params.site_public_key };
        let mut state = Self::empty(identity, counters);
        state.install_founder(params.member, params.feature_level, params.token);
        state
    }

    /// This state as that of another site: links, devices and parameters with their revisions stay; members, tokens
    /// and remembered answers go, for they belong to the site that was. No link has an owner, every device is on hold,
    /// and what had not reached its device yet never will.
    ///
    /// The only member is the one that restores, under an id that was never used before. The restoring counts as one
    /// entry, a thousand million revisions later, so the new site's log goes on after [`FleetState::last_applied`] of
    /// the result.
    #[must_use]
    pub fn restore_as(mut self, params: FoundingParams) -> Self {
        let last_applied = self.counters.last_applied.get();
        let revision = Revision::new(last_applied.saturating_add(RESTORE_STEP));
        self.counters.last_applied = revision;
        // Who followed changes may have heard of some that are no more.
        self.index.set_floor(revision);
        self.counters.wall_time_ms = params.wall_time_ms;
        // How long ago the snapshot was taken nobody knows.
        self.counters.time_lost = revision;
        self.counters.voters_wanted = params.voters;
        self.identity =
            Identity { site: params.site, uid: params.uid, public_key: params.site_public_key };
        self.dedup = Dedup::default();
        let mut effects = Effects::new(revision, params.wall_time_ms);
        let members: Vec<NodeId> = self.members.iter().map(|member| member.id).collect();
        for id in members {
            self.delete::<Member>(&id, &mut effects);
        }
        let tokens: Vec<TokenId> = self.tokens.iter().map(|token| token.id).collect();
        for id in tokens {
            self.delete::<Token>(&id, &mut effects);
        }
        self.part_from_devices(&mut effects);
        self.install_founder(params.member, params.feature_level, params.token);
        self
    }

    /// Nobody knows what became of the devices since the snapshot was taken: nobody owns a link, nothing is written
    /// until somebody says so, and nothing that had begun or had a time limit goes on.
    fn part_from_devices(&mut self, effects: &mut Effects) {
        let (revision, changed_wall_ms) = (effects.revision(), effects.wall_time_ms());
        for link in self.links.clone().iter() {
            let epoch = link.epoch.saturating_add(1).max(revision.get());
            let link = Link {
                owner: None,
                wanted: None,
                releasing: false,
                unleased: false,
                epoch,
                revision,
                changed_wall_ms,
                ..link.as_ref().clone()
            };
            self.put(link, effects);
        }
        for invocation in self.invocations.clone().iter() {
            if invocation.stage.is_open() {
                self.end_invocation(invocation, Stage::Unknown, RESTORED.into(), effects);
            }
        }
        for device in self.devices.clone().iter() {
            self.roll_back(device, |_, _| true, Stage::Expired, effects);
            self.delete::<Watermarks>(&device.id, effects);
            let hold = Some(Hold { reason: RESTORED.into(), actor: None, revision });
            if let Some(device) = self.devices.get(&device.id).cloned() {
                let device = device.as_ref().clone();
                self.put(Device { hold, revision, changed_wall_ms, ..device }, effects);
            }
        }
    }

    fn install_founder(
        &mut self,
        founder: FoundingMember,
        feature_level: u16,
        token: Option<FoundingToken>,
    ) {
        let revision = self.counters.last_applied;
        let mut effects = Effects::new(revision, self.counters.wall_time_ms);
        let id = self.take_node_id();
        let member = Member {
            id,
            name: founder.name,
            keys: founder.keys,
            credential: Some(founder.credential),
            role: Role::Voter,
            wanted_voter: false,
            leaving: false,
            draining: false,
            labels: Labels::new(),
            feature_level,
            joined: revision,
            revision,
        };
        self.put(member, &mut effects);
        if let Some(token) = token {
            let token = self.new_token(&token.within_limits(), &effects);
            self.put(token, &mut effects);
        }
        self.raise_level();
        self.reckon_tokens_due();
    }
}
