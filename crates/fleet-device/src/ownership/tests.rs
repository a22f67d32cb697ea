//! Who gets which link, by tables and at random.

mod random;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleet_consensus::{Leases, MemberProgress, NodeRole, Standing, View};
use fleet_state::credential::{join_message, join_proof};
use fleet_state::{
    AgentCommand, Body, Command, Entry, FleetState, FoundingMember, FoundingParams, FoundingToken,
    JoinRequest, LinkId, LinkSpec, NodeId, NodeKeys, NodeName, Object, Outcome, Placement,
    Proposal, Revision, Role, TokenId,
};

use super::{Assignment, REST_MS, Resting, due};
use crate::lease::silent_ms;

const TOKEN_KEY: [u8; 32] = [9; 32];
/// When the leader was elected, and when it looks: long after.
const ELECTED_MS: u64 = 1_000;
const NOW_MS: u64 = 1_000_000;

/// A site, and what its leader knows of the nodes.
#[derive(Clone)]
struct Site {
    state: FleetState,
    leader: NodeId,
    /// When nodes asked for a read barrier last; the others just now.
    heard_ms: BTreeMap<NodeId, u64>,
    /// Nodes that don't answer the leader any more.
    away: BTreeSet<NodeId>,
}

fn id(node: u64) -> NodeId {
    NodeId::new(node).unwrap()
}

fn name(node: u64) -> NodeName {
    format!("gw{node}").parse().unwrap()
}

fn keys(node: u64) -> NodeKeys {
    let node = u8::try_from(node).unwrap();
    NodeKeys { sign: [node; 32], exchange: [100 + node; 32] }
}

fn link(text: &str) -> LinkId {
    text.parse().unwrap()
}

fn with_labels(labels: &[(&str, &str)]) -> Placement {
    let labels = labels.iter().map(|(key, value)| (Arc::from(*key), Arc::from(*value)));
    Placement::Any { labels: labels.collect() }
}

impl Site {
    /// A site with so many members, all of them there; the first one leads.
    fn of(members: u64) -> Self {
        let token: TokenId = "0102030405060708".parse().unwrap();
        let (ttl_ms, uses) = (1_000_000, 100);
        let state = FleetState::found(FoundingParams {
            site: "home".parse().unwrap(),
            uid: "00112233445566778899aabbccddeeff".parse().unwrap(),
            site_public_key: [3; 32],
            member: FoundingMember { name: name(1), keys: keys(1), credential: [4; 64] },
            voters: 3,
            feature_level: fleet_state::limits::FEATURE_LEVEL,
            token: Some(FoundingToken { id: token, key: TOKEN_KEY, ttl_ms, uses, note: "".into() }),
            wall_time_ms: 0,
        });
        let mut site =
            Self { state, leader: id(1), heard_ms: BTreeMap::new(), away: BTreeSet::new() };
        for node in 2..=members {
            let proof = join_proof(&TOKEN_KEY, &join_message(token, &name(node), &keys(node)));
            site.run(Command::Join(JoinRequest {
                token,
                name: name(node),
                keys: keys(node),
                proof,
            }));
            site.becomes(node, Role::Learner);
        }
        site
    }

    fn becomes(&mut self, node: u64, role: Role) {
        let revision = Revision::new(self.state.last_applied().get() + 1);
        self.state.apply_role(revision, id(node), role);
    }

    fn run(&mut self, command: Command) {
        let revision = Revision::new(self.state.last_applied().get() + 1);
        let request_id = format!("request-{revision}").parse().unwrap();
        let proposal = Proposal { request_id, if_revision: None, actor: None, command };
        let body = Body::Proposal(proposal);
        let applied = self.state.apply(revision, &Entry { log_time_ms: 0, wall_time_ms: 0, body });
        let outcome = applied.answer.unwrap().outcome;
        assert!(!matches!(outcome, Outcome::Rejected(_)), "{outcome:?}");
    }

    fn register(&mut self, link: &LinkId, placement: Placement) {
        let spec = LinkSpec {
            connector: "mqtt".into(),
            address: "mqtt://broker:1883".into(),
            placement,
            name: "".into(),
            labels: BTreeMap::default(),
            settings: Object::new(),
        };
        self.run(Command::LinkRegister { id: link.clone(), spec });
    }

    fn assign(&mut self, link: &LinkId, owner: Option<u64>) {
        let expect_epoch = self.state.link(link).unwrap().epoch;
        let (link, owner) = (link.clone(), owner.map(id));
        self.run(Command::Agents(AgentCommand::LinkAssign { link, expect_epoch, owner }));
    }

    /// Carries out what is due, as the log would.
    fn carry_out(&mut self, due: &[Assignment]) {
        for Assignment { link, expect_epoch, owner, .. } in due {
            assert_eq!(self.state.link(link).unwrap().epoch, *expect_epoch, "of another epoch");
            self.assign(link, Some(owner.get()));
        }
    }

    /// A node is gone from the leader's sight since so many milliseconds.
    fn silence(&mut self, node: u64, since_ms: u64) {
        self.heard_ms.insert(id(node), NOW_MS - since_ms);
        self.away.insert(id(node));
    }

    /// What a node of this role sees.
    fn view_as(&self, role: NodeRole) -> View {
        let mut leases = Leases::default();
        let others = || self.state.members().map(|member| member.id);
        if role == NodeRole::Leader {
            leases.begin(ELECTED_MS);
            for node in others() {
                leases.heard(node, self.heard_ms.get(&node).copied().unwrap_or(NOW_MS));
            }
        }
        let progress = |node| {
            let active = !self.away.contains(&node);
            MemberProgress { node, matched: 1, active, in_snapshot: false }
        };
        let standing = Standing {
            node: self.leader,
            role,
            leader: Some(self.leader),
            term: 1,
            commit: 1,
            first_index: 1,
            last_index: 1,
            voters: Vec::new(),
            learners: Vec::new(),
            progress: others().filter(|node| *node != self.leader).map(progress).collect(),
            snapshot_index: 0,
            log_bytes: 0,
            low_space: false,
            leases,
        };
        View {
            state: self.state.clone(),
            applied: self.state.last_applied(),
            standing: Arc::new(standing),
            applied_at_ms: 0,
            leaderless_since_ms: None,
        }
    }

    fn due_with(&self, resting: &Resting) -> Vec<Assignment> {
        due(&self.view_as(NodeRole::Leader), resting, NOW_MS)
    }

    fn due(&self) -> Vec<Assignment> {
        self.due_with(&Resting::default())
    }

    /// Who gets a link now, if anybody does.
    fn chosen(&self, link: &LinkId) -> Option<u64> {
        let due = self.due();
        due.iter().find(|due| due.link == *link).map(|due| due.owner.get())
    }
}
