//! A hall with a few nodes on disks in memory, and a network without any delay.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use fleet_log::{LogConfig, MemoryDisk};
use fleet_state::command::{JoinRequest, NodeKeys};
use fleet_state::credential::{credential_message, join_message, join_proof};
use fleet_state::limits::FEATURE_LEVEL;
use fleet_state::{
    Body, Command, Entry, FoundingMember, FoundingParams, NodeName, Role, SiteName, SiteUid,
    SnapshotMeta, TokenId, Value,
};

use super::super::open::create_log;
use super::super::*;
use crate::frame::{Credential, Path, Route};
use crate::log_time::Now;
use crate::snapshot_store::SnapshotStore;
use crate::{Fault, StartError};

pub(super) const SITE: SiteUid = SiteUid::from_bytes([5; 16]);
pub(super) const TICK_MS: u64 = 25;
/// Writes under way at a time.
const BATCH: usize = 10;
/// Bulk frames delivered in one tick.
const BULK_PER_TICK: usize = 8;
/// Ticks within which anything in a hall must have come about.
pub(super) const PATIENCE_TICKS: u64 = 1_200;

pub(super) type Node = Replica<MemoryDisk, u64>;

pub(super) fn id(node: u64) -> NodeId {
    NodeId::new(node).expect("not zero")
}

fn site_key() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

fn name(node: u64) -> NodeName {
    format!("n{node}").parse().expect("a name")
}

fn exchange_secret(node: u64) -> [u8; 32] {
    [u8::try_from(node).expect("few nodes") + 40; 32]
}

fn keys(node: u64) -> NodeKeys {
    let sign = SigningKey::from_bytes(&exchange_secret(node));
    let secret = x25519_dalek::StaticSecret::from(exchange_secret(node));
    NodeKeys {
        sign: sign.verifying_key().to_bytes(),
        exchange: x25519_dalek::PublicKey::from(&secret).to_bytes(),
    }
}

fn signature(node: u64) -> [u8; 64] {
    let message = credential_message(SITE, id(node), &name(node), &keys(node));
    site_key().sign(&message).to_bytes()
}

fn entry(request: &str, command: Command) -> Entry {
    Entry { log_time_ms: 1, wall_time_ms: 1, body: Body::Proposal(proposal(request, command)) }
}

pub(super) fn proposal(request: &str, command: Command) -> Proposal {
    let request_id = request.parse().expect("a request id");
    Proposal { request_id, if_revision: None, actor: None, command }
}

pub(super) fn set(key: &str, value: &str) -> Command {
    Command::ParamSet { key: key.parse().expect("a key"), value: Value::Text(value.into()) }
}

/// The state of a settled site with so many voters, and the index at which it is that.
pub(super) fn settled(voters: u64) -> (FleetState, u64) {
    let mut state = FleetState::found(FoundingParams {
        site: "hall".parse().expect("a name"),
        uid: SITE,
        site_public_key: site_key().verifying_key().to_bytes(),
        member: FoundingMember { name: name(1), keys: keys(1), credential: signature(1) },
        voters: 3,
        feature_level: FEATURE_LEVEL,
        token: None,
        wall_time_ms: 1,
    });
    let token = TokenId::from_bytes([3; 8]);
    let token_key = [4; 32];
    let invite = Command::TokenCreate {
        id: token,
        key: token_key,
        ttl_ms: 60_000,
        uses: 9,
        note: "".into(),
    };
    let mut index = 2;
    apply(&mut state, index, "invite", invite);
    for node in 2..=voters {
        let proof = join_proof(&token_key, &join_message(token, &name(node), &keys(node)));
        let join = JoinRequest { token, name: name(node), keys: keys(node), proof };
        apply(&mut state, index + 1, &format!("join.{node}"), Command::Join(join));
        let certify = Command::Certify { node: id(node), credential: signature(node) };
        apply(&mut state, index + 2, &format!("certify.{node}"), certify);
        index += 3;
        assert_eq!(state.apply_role(Revision::new(index), id(node), Role::Voter).len(), 1);
    }
    (state, index)
}

fn apply(state: &mut FleetState, index: u64, request: &str, command: Command) {
    let applied = state.apply(Revision::new(index), &entry(request, command));
    let answer = applied.answer.expect("an answer");
    assert!(!matches!(answer.outcome, fleet_state::Outcome::Rejected(_)), "{answer:?}");
}

pub(super) fn meta(state: &FleetState, index: u64, term: u64, voters: u64) -> SnapshotMeta {
    SnapshotMeta {
        site: state.site().clone(),
        uid: state.uid(),
        index,
        term,
        voters: (1..=voters).map(id).collect(),
        learners: Vec::new(),
        wall_time_ms: state.wall_time_ms(),
    }
}

/// One node: its disks outlive its replica.
pub(super) struct Place {
    pub(super) node: u64,
    pub(super) boot: u64,
    pub(super) log_disk: MemoryDisk,
    pub(super) snapshot_disk: MemoryDisk,
    pub(super) replica: Option<Node>,
}

impl Place {
    pub(super) fn new(node: u64) -> Self {
        let (log_disk, snapshot_disk) = (MemoryDisk::new(), MemoryDisk::new());
        Self { node, boot: 0, log_disk, snapshot_disk, replica: None }
    }

    pub(super) fn parts(&self, settings: &Settings) -> Parts<MemoryDisk> {
        let mut config = ReplicaConfig::new(id(self.node), SITE);
        config.log = LogConfig { segment_bytes: 64 * 1024, cache_bytes: 1024 * 1024 };
        config.snapshot_every_entries = settings.snapshot_every_entries;
        config.log_trailing_entries = settings.log_trailing_entries;
        config.log_bytes_max = settings.log_bytes_max;
        let reads = usize::try_from(self.node - 1).ok().and_then(|at| settings.reads.get(at));
        config.levels.reads = reads.copied().expect("one of three");
        config.levels.needed = level_needed;
        let site: SiteName = "hall".parse().expect("a name");
        Parts {
            config,
            site,
            site_public_key: site_key().verifying_key().to_bytes(),
            site_key: Some(site_key()),
            exchange_secret: exchange_secret(self.node),
            boot: self.boot,
            salt: [7; 8],
            credential: Some(Credential {
                node: id(self.node),
                name: name(self.node),
                keys: keys(self.node),
                signature: signature(self.node),
            }),
            log_disk: self.log_disk.clone(),
            snapshot_disk: self.snapshot_disk.clone(),
        }
    }

    pub(super) fn open(
        &mut self,
        settings: &Settings,
        now: Now,
    ) -> Result<Vec<String>, StartError> {
        self.boot += 1;
        let opened = Replica::open(self.parts(settings), now)?;
        self.replica = Some(opened.replica);
        Ok(opened.damaged_snapshots)
    }

    pub(super) fn store(&self) -> SnapshotStore<MemoryDisk> {
        SnapshotStore::new(self.snapshot_disk.clone())
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.log_disk.is_stopped() || self.snapshot_disk.is_stopped()
    }

    pub(super) fn disks_have_failed(&self) -> bool {
        self.log_disk.faults_fired() + self.snapshot_disk.faults_fired() > 0
    }

    pub(super) fn newest(&self) -> String {
        self.store().names().expect("listed").remove(0).2
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) snapshot_every_entries: u64,
    pub(super) log_trailing_entries: u64,
    pub(super) log_bytes_max: u64,
    /// The feature level that each node's program reads.
    pub(super) reads: [u16; 3],
}

/// As if deleting parameters had come with the level after this program's.
fn level_needed(command: &Command) -> u16 {
    FEATURE_LEVEL + u16::from(matches!(command, Command::ParamDelete { .. }))
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            snapshot_every_entries: 1_000_000,
            log_trailing_entries: 0,
            log_bytes_max: 1024 * 1024 * 1024,
            reads: [FEATURE_LEVEL; 3],
        }
    }
}

pub(super) struct Hall {
    pub(super) settings: Settings,
    pub(super) places: BTreeMap<u64, Place>,
    pub(super) now_ms: u64,
    /// Whoever is in here hears and says nothing.
    pub(super) cut: BTreeSet<u64>,
    /// These get no bulk and no entries, only what is urgent.
    pub(super) starved: BTreeSet<u64>,
    pub(super) builds: u64,
    pub(super) decided: BTreeSet<u64>,
    /// Tokens of commands that were not taken in.
    pub(super) busy: BTreeSet<u64>,
    pub(super) faults: Vec<(u64, Fault)>,
    /// How often a node was looked at because it had asked for that.
    pub(super) looks: u64,
    submitted: u64,
    under_way: VecDeque<(u64, Route, Bytes)>,
}

impl Hall {
    /// Three voters, of which those in `fresh` have nothing but the wish to be there.
    pub(super) fn new(fresh: &[u64], settings: Settings) -> Self {
        let (state, index) = settled(3);
        let mut places = BTreeMap::new();
        for node in 1..=3 {
            let place = Place::new(node);
            let parts = place.parts(&settings);
            if fresh.contains(&node) {
                join(&parts).expect("joined");
            } else {
                place.store().write(&meta(&state, index, 1, 3), &state).expect("written");
                let hard = fleet_log::HardState { term: 1, vote: 0, commit: index };
                create_log(&parts, Position { index, term: 1 }, hard).expect("created");
            }
            places.insert(node, place);
        }
        let mut hall = Self {
            settings,
            places,
            now_ms: 1_000,
            cut: BTreeSet::new(),
            starved: BTreeSet::new(),
            builds: 0,
            decided: BTreeSet::new(),
            busy: BTreeSet::new(),
            faults: Vec::new(),
            looks: 0,
            submitted: 0,
            under_way: VecDeque::new(),
        };
        for node in 1..=3 {
            hall.start(node).expect("opened");
        }
        hall
    }

    pub(super) fn now(&self) -> Now {
        Now { mono_ms: self.now_ms, wall_ms: 1_700_000_000_000 + self.now_ms }
    }

    pub(super) fn start(&mut self, node: u64) -> Result<Vec<String>, StartError> {
        let (settings, now) = (self.settings, self.now());
        self.place(node).open(&settings, now)
    }

    pub(super) fn place(&mut self, node: u64) -> &mut Place {
        self.places.get_mut(&node).expect("a node of the hall")
    }

    pub(super) fn replica(&mut self, node: u64) -> &mut Node {
        self.place(node).replica.as_mut().expect("it runs")
    }

    pub(super) fn leader(&self) -> Option<u64> {
        let leads = |place: &&Place| {
            !self.cut.contains(&place.node) && place.replica.as_ref().is_some_and(Node::is_leader)
        };
        self.places.values().find(leads).map(|place| place.node)
    }

    /// One tick, and everything that follows from it.
    pub(super) fn tick(&mut self) {
        self.now_ms += TICK_MS;
        let now = self.now();
        for node in 1..=3 {
            let Some(replica) = self.places.get_mut(&node).and_then(|p| p.replica.as_mut()) else {
                continue;
            };
            // Which node is first is the same in every run.
            replica.pin_election_timeout(10 + usize::try_from(node).expect("few") * 4);
            if now.mono_ms < replica.next_tick_ms() {
                continue;
            }
            self.looks += 1;
            let ticked = replica.handle_tick(now).map(|_| ());
            self.judge(node, ticked);
            self.turn(node);
        }
        let mut bulk = 0;
        let mut later = VecDeque::new();
        while let Some((from, route, frame)) = self.under_way.pop_front() {
            let to = route.to.get();
            bulk += usize::from(route.class == Class::Bulk);
            if route.class == Class::Bulk && bulk > BULK_PER_TICK {
                later.push_back((from, route, frame));
                continue;
            }
            let patient = route.class != Class::Urgent;
            let lost = self.cut.contains(&from)
                || self.cut.contains(&to)
                || (patient && self.starved.contains(&to));
            let Some(replica) = self.places.get_mut(&to).and_then(|p| p.replica.as_mut()) else {
                continue;
            };
            if lost {
                continue;
            }
            let handled = replica
                .handle_frame(&frame, route.path, now)
                .and_then(|()| replica.handle_tick(now).map(|_| ()));
            self.judge(to, handled);
            self.turn(to);
        }
        self.under_way = later;
    }

    fn turn(&mut self, node: u64) {
        let now = self.now();
        loop {
            let Some(replica) = self.places.get_mut(&node).and_then(|p| p.replica.as_mut()) else {
                return;
            };
            let mut wire = HallWire { sent: Vec::new() };
            let polled = replica.poll(now, &mut wire);
            let outputs = replica.take_outputs();
            let more = replica.has_more();
            let sent = wire.sent.into_iter().map(|(route, frame)| (node, route, frame));
            self.under_way.extend(sent);
            self.judge(node, polled);
            self.decided.extend(outputs.commands.iter().map(|(token, _)| *token));
            let busy = |ended: &&(u64, CommandEnd)| matches!(ended.1, CommandEnd::Busy(_));
            self.busy.extend(outputs.commands.iter().filter(busy).map(|(token, _)| *token));
            if let Some(build) = outputs.build {
                self.builds += 1;
                let built = build.run().ok();
                let handled = self.replica(node).handle_snapshot_built(built);
                self.judge(node, handled);
            }
            if !more {
                return;
            }
        }
    }

    /// A fault ends the process, as it should.
    fn judge(&mut self, node: u64, result: Result<(), Fault>) {
        if let Err(fault) = result {
            self.place(node).replica = None;
            self.faults.push((node, fault));
        }
    }

    /// Ticks until it is so.
    pub(super) fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        for _ in 0..PATIENCE_TICKS {
            if is_so(self) {
                return;
            }
            self.tick();
        }
        panic!("it did not come about: {what}");
    }

    pub(super) fn until_led(&mut self) -> u64 {
        self.until("a leader", |hall| hall.leader().is_some());
        self.leader().expect("just seen")
    }

    /// Sets parameters through the leader, a few at a time, and waits until they are decided.
    pub(super) fn write(&mut self, count: u64, value: &str) {
        for done in (0..count).step_by(BATCH) {
            self.write_batch((count - done).min(BATCH as u64), value);
        }
    }

    fn write_batch(&mut self, count: u64, value: &str) {
        let leader = self.until_led();
        let deadline_ms = self.now_ms + 60_000;
        let first = self.submitted;
        for token in first..first + count {
            let command = set(&format!("p{token}"), value);
            let proposal = proposal(&format!("r{token}"), command);
            self.replica(leader).handle_submit(&proposal, deadline_ms, token);
        }
        self.submitted += count;
        self.until("decided", |hall| (first..first + count).all(|t| hall.decided.contains(&t)));
    }

    /// Everybody who runs and is reachable has the same state as the leader.
    pub(super) fn agrees(&mut self) -> bool {
        let Some(leader) = self.leader() else {
            return false;
        };
        let digest = self.replica(leader).state().digests().combined();
        let applied = self.replica(leader).applied();
        let cut = self.cut.clone();
        let others = self.places.values().filter(|place| !cut.contains(&place.node));
        others.filter_map(|place| place.replica.as_ref()).all(|replica| {
            replica.applied() == applied && replica.state().digests().combined() == digest
        })
    }

    /// As [`Hall::agrees`]; a machine that stops meanwhile is started again.
    pub(super) fn agrees_after_cuts(&mut self) -> bool {
        let stopped: Vec<u64> =
            self.places.values().filter(|place| place.is_stopped()).map(|p| p.node).collect();
        for node in stopped {
            let place = self.place(node);
            place.replica = None;
            place.log_disk.power_cut(node);
            place.snapshot_disk.power_cut(node);
            self.start(node).expect("it starts again");
        }
        self.agrees()
    }

    pub(super) fn refused(&mut self, node: u64, surface: &str, reason: &str) -> u64 {
        let counters = self.replica(node).counters();
        let found = counters.refused().find(|(s, r, _)| (*s, *r) == (surface, reason));
        found.map_or(0, |(.., count)| count)
    }
}

pub(super) struct HallWire {
    pub(super) sent: Vec<(Route, Bytes)>,
}

impl Wire for HallWire {
    fn routes(&mut self, to: NodeId, class: Class, _now_ms: u64) -> Routes {
        let frame_bytes_max = 1024 * 1024;
        Routes::one(Route { to, path: Path::Nats, class, frame_bytes_max, unheard: None })
    }

    fn send(&mut self, route: Route, frame: Bytes) -> bool {
        self.sent.push((route, frame));
        true
    }
}
