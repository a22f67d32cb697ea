//! Frames, entries and proposals.

use bytes::Bytes;
use fleet_consensus::frame::{Class, FrameCodec, FrameIdentity, LogEntry, Path, Payload, Route};
use fleet_state::{
    Command, Entry, FleetState, FoundingMember, FoundingParams, NodeId, NodeKeys, Proposal,
    Revision, SiteUid,
};

use super::kind;

pub(super) fn node(id: u64) -> NodeId {
    NodeId::new(id).unwrap_or(NodeId::FOUNDER)
}

fn codec(me: u64, other: u64) -> Option<FrameCodec> {
    let secret = |id: u64| [u8::try_from(id).unwrap_or(0) + 1; 32];
    // A point that can sign; nothing here is signed.
    let site_public_key = [
        0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07,
        0x3a, 0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07,
        0x51, 0x1a,
    ];
    let mut codec = FrameCodec::new(FrameIdentity {
        site: SiteUid::from_bytes([7; 16]),
        site_public_key,
        me: node(me),
        boot: 1,
        salt: [3; 8],
        exchange_secret: secret(me),
        credential: None,
    })
    .ok()?;
    // The public half of the other's secret is whatever X25519 makes of it; any point does here.
    let keys = NodeKeys { sign: secret(other), exchange: [9; 32] };
    codec.upsert(node(other), &keys).ok()?;
    Some(codec)
}

pub(super) fn hello() -> Payload {
    Payload::Hello { boot: 1, applied: 7 }
}

pub(super) fn frames() -> Vec<Vec<u8>> {
    let route = Route {
        to: node(2),
        path: Path::Nats,
        class: Class::Urgent,
        frame_bytes_max: 4_096,
        unheard: None,
    };
    let sealed = codec(1, 2).and_then(|mut codec| codec.seal(route, &hello(), 5).ok());
    sealed.into_iter().flatten().map(|frame| frame.to_vec()).collect()
}

/// No frame opens that was not sealed for this node by somebody it knows.
pub(super) fn frame(bytes: &[u8]) -> String {
    let Some(mut codec) = codec(2, 1) else {
        return "no codec".to_owned();
    };
    let word = |opened| match opened {
        Ok(Some(_)) => "opened".to_owned(),
        Ok(None) => "a part".to_owned(),
        Err(refused) => kind(&refused),
    };
    let first = word(codec.open(bytes, Path::Nats, 10));
    assert!(first != "opened" && first != "a part", "a forged frame was opened");
    format!("{first} {}", word(codec.open(bytes, Path::Mesh, 11)))
}

fn samples() -> Vec<Proposal> {
    let param = |key: &str, value: &str| {
        let key = key.parse().ok()?;
        let value =
            fleet_state::Value::parse(value.as_bytes(), fleet_state::Limits::default()).ok()?;
        Some(Command::ParamSet { key, value })
    };
    let commands = [
        param("hall2.speed", r#"{"a":[1,2.5,null,true,"x"],"b":{}}"#),
        "hall2.speed".parse().ok().map(|key| Command::ParamDelete { key }),
        Some(Command::SetVoters { voters: 3 }),
        "hall2.lamp".parse().ok().map(|id| Command::DeviceDelete { id }),
    ];
    let proposals = commands.into_iter().flatten().filter_map(|command| {
        let request_id = "request-1".parse().ok()?;
        Some(Proposal { request_id, if_revision: Some(Revision::new(5)), actor: None, command })
    });
    proposals.collect()
}

pub(super) fn proposals() -> Vec<Vec<u8>> {
    samples().iter().map(Proposal::encode).collect()
}

pub(super) fn proposal(bytes: &[u8]) -> String {
    match Proposal::decode(bytes) {
        Ok(proposal) => {
            let again = Proposal::decode(&proposal.encode());
            assert_eq!(again.as_ref(), Ok(&proposal), "it came back otherwise");
            let valid = proposal.validate().map_err(|invalid| kind(&invalid));
            format!("{} {valid:?}", kind(&proposal.command).chars().take(16).collect::<String>())
        }
        Err(error) => kind(&error),
    }
}

pub(super) fn entries() -> Vec<Vec<u8>> {
    let encoded = proposals();
    encoded.iter().map(|proposal| Entry::encode_with(10, 20, proposal)).collect()
}

/// A state that everything is applied to.
pub(super) fn site() -> Option<FleetState> {
    Some(FleetState::found(FoundingParams {
        site: "home".parse().ok()?,
        uid: SiteUid::from_bytes([4; 16]),
        site_public_key: [5; 32],
        member: FoundingMember {
            name: "gw-1".parse().ok()?,
            keys: NodeKeys { sign: [1; 32], exchange: [2; 32] },
            credential: [3; 64],
        },
        voters: 5,
        feature_level: fleet_state::limits::FEATURE_LEVEL,
        token: None,
        wall_time_ms: 1_000,
    }))
}

/// Two states that apply the same entry are the same, whatever is in it.
pub(super) fn entry(bytes: &[u8]) -> String {
    let on_disk = LogEntry::from_disk(5, 2, 0, Bytes::copy_from_slice(bytes));
    let word = match Entry::decode(bytes) {
        Ok(entry) => {
            assert_eq!(
                Entry::decode(&entry.encode()).as_ref(),
                Ok(&entry),
                "it came back otherwise"
            );
            let (Some(mut one), Some(mut other)) = (site(), site()) else {
                return "no site".to_owned();
            };
            let applied = one.apply(Revision::new(5), &entry);
            assert_eq!(applied, other.apply(Revision::new(5), &entry), "two outcomes");
            assert_eq!(one.digests(), other.digests(), "two states");
            applied.answer.map_or("no answer".to_owned(), |answer| kind(&answer.outcome))
        }
        Err(error) => kind(&error),
    };
    format!("{word} {}", on_disk.is_ok())
}
