//! Random values and commands.

use fleet_state::{
    BatchItem, Body, Command, DeviceSpec, Entry, Finite, JoinRequest, LabelPatch, LinkSpec, NodeId,
    Object, Placement, Proposal, RequestId, Revision, Schema, Value,
};
use proptest::prelude::*;

use crate::site;

pub(crate) fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::I64),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter_map("finite", |number| Finite::new(number).map(Value::F64)),
        "\\PC{0,8}".prop_map(Value::from),
        any::<String>().prop_map(|text| Value::from(text.chars().take(8).collect::<String>())),
    ]
}

pub(crate) fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            members(inner).prop_map(Value::Map),
        ]
    })
}

fn members(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Object> {
    prop::collection::vec(("[a-d]{1,2}", inner), 0..4).prop_map(|members| {
        members.into_iter().map(|(key, value)| (std::sync::Arc::from(key), value)).collect()
    })
}

pub(crate) fn object() -> impl Strategy<Value = Object> {
    members(value())
}

pub(crate) fn labels() -> impl Strategy<Value = fleet_state::Labels> {
    prop::collection::btree_map("[a-z]{1,3}", "\\PC{0,6}", 0..3).prop_map(|labels| {
        labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
    })
}

pub(crate) fn link_spec() -> impl Strategy<Value = LinkSpec> {
    let placement = prop_oneof![
        labels().prop_map(|labels| Placement::Any { labels }),
        Just(Placement::On("gw-1".parse().unwrap())),
    ];
    (prop_oneof!["mqtt", "modbus"], "[a-z]{0,2}", placement, labels()).prop_map(
        |(connector, address, placement, labels)| LinkSpec {
            connector: connector.into(),
            address: address.into(),
            placement,
            name: "".into(),
            labels,
            settings: Default::default(),
        },
    )
}

pub(crate) fn device_spec() -> impl Strategy<Value = DeviceSpec> {
    let model = prop_oneof![
        4 => Just(None),
        1 => Just(Some(r#"{"properties":{"a":{"type":"integer","maximum":1000}}}"#)),
    ];
    (prop::option::of(few_links()), "[a-z]{0,2}", labels(), model).prop_map(
        |(link, address, labels, model)| DeviceSpec {
            link: link.map(|link| link.parse().unwrap()),
            address: address.into(),
            name: "".into(),
            labels,
            model: model.map(|text| Schema::from_value(site::json(text)).unwrap()),
            ..DeviceSpec::default()
        },
    )
}

fn few_links() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("l1"), Just("l2"), Just("l3.x")]
}

fn few_devices() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("d1"), Just("d2"), Just("hall.d3"), Just("hall.d4")]
}

fn few_params() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("p1"), Just("p2"), Just("a.b.c.d.e.f.g.h")]
}

/// A command of links, devices and parameters, over few ids, so that they meet.
pub(crate) fn plain_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        (few_links(), link_spec())
            .prop_map(|(id, spec)| Command::LinkRegister { id: id.parse().unwrap(), spec }),
        few_links().prop_map(site::delete_link),
        (few_devices(), device_spec())
            .prop_map(|(id, spec)| Command::DeviceRegister { id: id.parse().unwrap(), spec }),
        (few_devices(), object()).prop_map(|(id, patch)| Command::DeviceUpdate {
            id: id.parse().unwrap(),
            patch,
            ttl_ms: None
        }),
        (few_devices(), object()).prop_map(|(id, desired)| Command::DeviceReplace {
            id: id.parse().unwrap(),
            desired,
            ttl_ms: None
        }),
        few_devices().prop_map(site::delete_device),
        (few_params(), scalar())
            .prop_map(|(key, value)| Command::ParamSet { key: key.parse().unwrap(), value }),
        few_params().prop_map(site::unset),
    ]
}

pub(crate) fn batch(
    revision: impl Strategy<Value = Option<Revision>>,
) -> impl Strategy<Value = Command> {
    let item = (plain_command(), revision)
        .prop_map(|(command, if_revision)| BatchItem { command, if_revision });
    prop::collection::vec(item, 1..5).prop_map(Command::Batch)
}

fn label_patch(labels: std::collections::BTreeMap<String, Option<String>>) -> LabelPatch {
    labels.into_iter().map(|(key, value)| (key.into(), value.map(Into::into))).collect()
}

pub(crate) fn admin_command() -> impl Strategy<Value = Command> {
    let node = (1u64..6).prop_map(|number| NodeId::new(number).unwrap());
    prop_oneof![
        (1u8..4, 500u64..5_000, 0u32..3)
            .prop_map(|(number, ttl_ms, uses)| site::create_token(number, ttl_ms, uses)),
        (1u8..4).prop_map(|number| Command::TokenRevoke { id: site::token_id(number) }),
        (1u8..4, 1u8..5, 1u8..6, any::<bool>()).prop_map(|(token, name, key, right)| {
            let request = site::join_request(token, &format!("gw-{name}"), key);
            let proof = if right { request.proof } else { [0; 32] };
            Command::Join(JoinRequest { proof, ..request })
        }),
        (node.clone(), 1u8..3)
            .prop_map(|(node, number)| Command::Certify { node, credential: [number; 64] }),
        node.clone().prop_map(|node| Command::MemberRemove { node }),
        node.clone().prop_map(|node| Command::MemberPromote { node }),
        (node, prop::collection::btree_map("hall|radio|node", prop::option::of("[12]"), 0..3))
            .prop_map(|(node, labels)| Command::MemberLabel { node, labels: label_patch(labels) }),
        (0u8..9).prop_map(|voters| Command::SetVoters { voters }),
    ]
}

fn request_id() -> impl Strategy<Value = RequestId> {
    prop_oneof![
        any::<[u8; 16]>().prop_map(RequestId::from_uuid_bytes),
        "[A-Za-z0-9._:-]{1,64}".prop_map(|text| text.parse().unwrap()),
    ]
}

pub(crate) fn entry() -> impl Strategy<Value = Entry> {
    let revision = || prop::option::of(any::<u64>().prop_map(Revision::new));
    let command = prop_oneof![plain_command(), batch(revision()), admin_command()];
    let actor = prop::option::of("[a-z]{1,8}".prop_map(std::sync::Arc::from));
    let proposal = (request_id(), revision(), actor, command).prop_map(
        |(request_id, if_revision, actor, command)| {
            Body::Proposal(Proposal { request_id, if_revision, actor, command })
        },
    );
    let body = prop_oneof![
        8 => proposal,
        1 => Just(Body::TimeTick),
        1 => Just(Body::TimeLost),
        1 => (1u64..6, 0u16..4).prop_map(|(node, level)| Body::MemberLevel {
            node: NodeId::new(node).unwrap(),
            level,
        }),
    ];
    (any::<u64>(), any::<u64>(), body).prop_map(|(log_time_ms, wall_time_ms, body)| Entry {
        log_time_ms,
        wall_time_ms,
        body,
    })
}
