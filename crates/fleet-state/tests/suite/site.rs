//! A site to try commands on.

use fleet_state::{
    Answer, Applied, Body, Command, DeviceSpec, Entry, FleetState, FoundingMember, FoundingParams,
    JoinRequest, Limits, LinkId, LinkSpec, NodeKeys, Object, Outcome, Placement, Proposal,
    RejectCode, RequestId, Revision, SiteUid, SnapshotMeta, TokenId, Value, credential,
};

pub(crate) fn keys(number: u8) -> NodeKeys {
    NodeKeys { sign: [number; 32], exchange: [number ^ 0x80; 32] }
}

pub(crate) fn founding(site: &str, uid: u8) -> FoundingParams {
    FoundingParams {
        site: site.parse().unwrap(),
        uid: SiteUid::from_bytes([uid; 16]),
        site_public_key: [7; 32],
        member: FoundingMember {
            name: "gw-1".parse().unwrap(),
            keys: keys(1),
            credential: [9; 64],
        },
        voters: 5,
        feature_level: fleet_state::limits::FEATURE_LEVEL,
        token: None,
        wall_time_ms: 1_700_000_000_000,
    }
}

pub(crate) fn json(text: &str) -> Value {
    Value::parse(text.as_bytes(), Limits::default()).unwrap()
}

pub(crate) fn object(text: &str) -> Object {
    json(text).as_map().unwrap().clone()
}

pub(crate) fn uuid_v7(unix_ms: u64, tail: u64) -> RequestId {
    let mut bytes = [0u8; 16];
    bytes[..6].copy_from_slice(&unix_ms.to_be_bytes()[2..]);
    bytes[6] = 0x70;
    bytes[8..].copy_from_slice(&tail.to_be_bytes());
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    RequestId::from_uuid_bytes(bytes)
}

pub(crate) fn link_spec() -> LinkSpec {
    LinkSpec {
        connector: "mqtt".into(),
        address: "mqtt://broker:1883".into(),
        placement: Placement::Any { labels: Default::default() },
        name: "".into(),
        labels: Default::default(),
        settings: Default::default(),
    }
}

pub(crate) fn device_on(link: &str) -> DeviceSpec {
    DeviceSpec { link: Some(link.parse::<LinkId>().unwrap()), ..DeviceSpec::default() }
}

pub(crate) fn set(key: &str, value: &str) -> Command {
    Command::ParamSet { key: key.parse().unwrap(), value: json(value) }
}

pub(crate) fn unset(key: &str) -> Command {
    Command::ParamDelete { key: key.parse().unwrap() }
}

pub(crate) fn register(id: &str) -> Command {
    Command::DeviceRegister { id: id.parse().unwrap(), spec: DeviceSpec::default() }
}

pub(crate) fn update(id: &str, patch: &str) -> Command {
    Command::DeviceUpdate { id: id.parse().unwrap(), patch: object(patch), ttl_ms: None }
}

pub(crate) fn replace(id: &str, desired: &str) -> Command {
    Command::DeviceReplace { id: id.parse().unwrap(), desired: object(desired), ttl_ms: None }
}

pub(crate) fn delete_device(id: &str) -> Command {
    Command::DeviceDelete { id: id.parse().unwrap() }
}

pub(crate) fn register_link(id: &str) -> Command {
    Command::LinkRegister { id: id.parse().unwrap(), spec: link_spec() }
}

pub(crate) fn delete_link(id: &str) -> Command {
    Command::LinkDelete { id: id.parse().unwrap() }
}

pub(crate) fn token_id(number: u8) -> TokenId {
    TokenId::from_bytes([number; 8])
}

pub(crate) fn token_key(number: u8) -> [u8; 32] {
    credential::token_key(&[number; 16])
}

pub(crate) fn create_token(number: u8, ttl_ms: u64, uses: u32) -> Command {
    Command::TokenCreate {
        id: token_id(number),
        key: token_key(number),
        ttl_ms,
        uses,
        note: "".into(),
    }
}

/// A right join request.
pub(crate) fn join_request(token: u8, name: &str, key: u8) -> JoinRequest {
    let (token_id, name, keys) = (token_id(token), name.parse().unwrap(), keys(key));
    let message = credential::join_message(token_id, &name, &keys);
    let proof = credential::join_proof(&token_key(token), &message);
    JoinRequest { token: token_id, name, keys, proof }
}

pub(crate) fn join(token: u8, name: &str, key: u8) -> Command {
    Command::Join(join_request(token, name, key))
}

/// A state, and the entries that it goes through.
pub(crate) struct Site {
    pub(crate) state: FleetState,
    pub(crate) log_time_ms: u64,
    pub(crate) wall_time_ms: u64,
}

impl Default for Site {
    fn default() -> Self {
        Self {
            state: FleetState::found(founding("home", 1)),
            log_time_ms: 0,
            wall_time_ms: 1_700_000_000_000,
        }
    }
}

impl Site {
    pub(crate) fn next_revision(&self) -> Revision {
        Revision::new(self.state.last_applied().get() + 1)
    }

    pub(crate) fn apply_body(&mut self, body: Body) -> Applied {
        let entry = Entry { log_time_ms: self.log_time_ms, wall_time_ms: self.wall_time_ms, body };
        let entry = Entry::decode(&entry.encode()).unwrap();
        let revision = self.next_revision();
        let before = self.state.clone();
        let applied = self.state.apply(revision, &entry);
        check_changes(&before, &self.state, &applied);
        applied
    }

    pub(crate) fn propose(
        &mut self,
        id: RequestId,
        if_revision: Option<u64>,
        command: Command,
    ) -> Applied {
        let if_revision = if_revision.map(Revision::new);
        self.apply_body(Body::Proposal(Proposal {
            request_id: id,
            if_revision,
            actor: None,
            command,
        }))
    }

    /// Applies a command under a new request id.
    pub(crate) fn run_if(&mut self, if_revision: Option<u64>, command: Command) -> Applied {
        let id = format!("request-{}", self.next_revision()).parse().unwrap();
        self.propose(id, if_revision, command)
    }

    pub(crate) fn run(&mut self, command: Command) -> Applied {
        self.run_if(None, command)
    }

    /// Applies a command that must be accepted, and gives its revision.
    pub(crate) fn accept(&mut self, command: Command) -> u64 {
        let shown = format!("{command:?}");
        let answer = self.run(command).answer.unwrap();
        assert!(matches!(answer.outcome, Outcome::Accepted(_)), "{shown}: {answer:?}");
        answer.revision.get()
    }

    pub(crate) fn unchanged(&mut self, command: Command) {
        let applied = self.run(command);
        assert_eq!(applied.answer.unwrap().outcome, Outcome::Unchanged);
        assert!(applied.changes.is_empty());
    }

    /// Applies a command that must be rejected, sees that nothing changed, and gives the message.
    pub(crate) fn reject_if(
        &mut self,
        if_revision: Option<u64>,
        command: Command,
        code: RejectCode,
    ) -> String {
        let before = self.state.digests();
        let shown = format!("{command:?}");
        let applied = self.run_if(if_revision, command);
        let answer = applied.answer.unwrap();
        let Outcome::Rejected(rejection) = answer.outcome else {
            panic!("{shown} was not rejected: {answer:?}")
        };
        assert_eq!(rejection.code, code, "{shown}: {}", rejection.message);
        assert!(applied.changes.is_empty());
        let after = self.state.digests();
        assert_eq!(
            (before.links, before.devices, before.params, before.members, before.tokens),
            (after.links, after.devices, after.params, after.members, after.tokens),
        );
        assert_eq!(before.tombstones, after.tombstones);
        rejection.message
    }

    pub(crate) fn reject(&mut self, command: Command, code: RejectCode) -> String {
        self.reject_if(None, command, code)
    }

    pub(crate) fn tick(&mut self, ms: u64) -> Applied {
        self.log_time_ms += ms;
        self.wall_time_ms += ms;
        self.apply_body(Body::TimeTick)
    }
}

/// Every change must tell the truth about the states before and after.
fn check_changes(before: &FleetState, after: &FleetState, applied: &Applied) {
    for change in &applied.changes {
        let was = before.record(&change.entity).map(|record| record.revision());
        assert_eq!(change.previous, was, "{change:?}");
        assert_eq!(change.record, after.record(&change.entity), "{change:?}");
        if let Some(record) = &change.record {
            assert_eq!(record.revision(), after.last_applied());
        }
    }
}

pub(crate) fn rejection(answer: &Answer) -> Option<RejectCode> {
    match &answer.outcome {
        Outcome::Rejected(rejection) => Some(rejection.code),
        _ => None,
    }
}

pub(crate) fn meta_of(state: &FleetState) -> SnapshotMeta {
    SnapshotMeta {
        site: state.site().clone(),
        uid: state.uid(),
        index: state.last_applied().get(),
        term: 3,
        voters: vec![fleet_state::NodeId::FOUNDER],
        learners: Vec::new(),
        wall_time_ms: state.wall_time_ms(),
    }
}

pub(crate) fn snapshot_of(state: &FleetState) -> Vec<u8> {
    let mut bytes = Vec::new();
    fleet_state::encode_snapshot(state, &meta_of(state), &mut bytes).unwrap();
    bytes
}

pub(crate) const LIMIT_BYTES: u64 = 1 << 30;

pub(crate) fn restored(mut bytes: &[u8]) -> FleetState {
    fleet_state::decode_snapshot(&mut bytes, LIMIT_BYTES).unwrap().1
}
