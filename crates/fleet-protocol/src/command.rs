//! The bodies of commands: JSON in, [`Command`] out.

mod policy;

use fleet_state::{
    BatchItem, Command, DeviceId, DeviceSpec, Limits, LinkSpec, Mode, Object, ParseErrorKind,
    Placement, Proposal, Revision, Schema, Value,
    limits::{
        ACTION_BYTES_MAX, ADDRESS_BYTES_MAX, BATCH_ITEMS_MAX, NAME_BYTES_MAX, REASON_BYTES_MAX,
        TOKEN_CHARS_MAX,
    },
};

use crate::{
    CommandOp, CommandTarget, ErrorCode, Failure,
    fields::Fields,
    limits::{BATCH_DEPTH_MAX, INVOKE_TTL_MS_DEFAULT, REQUEST_BYTES_MAX},
    operation::Payload,
    suggest,
};

const LINK_FIELDS: [&str; 6] = ["connector", "address", "placement", "name", "labels", "settings"];
const DEVICE_FIELDS: [&str; 7] =
    ["link", "address", "name", "labels", "model", "settings", "policy"];
const ITEM_FIELDS: [&str; 4] = ["op", "id", "body", "if_revision"];

/// The command that a payload makes of its target.
pub(crate) fn parse(
    target: &CommandTarget,
    payload: &[u8],
    ttl_ms: Option<u64>,
) -> Result<Command, Failure> {
    let op = target.op();
    if op == CommandOp::Batch {
        return parse_batch(payload);
    }
    let body = match op.payload() {
        Payload::Empty if !payload.is_empty() => return Err(needless_payload(op)),
        Payload::Empty => Value::Null,
        Payload::Options => options_json(payload)?,
        Payload::Value => json(payload)?,
    };
    build(target, &body, ttl_ms)
}

/// Checks a whole proposal against the bounds of the replicated state.
pub(crate) fn check(proposal: &Proposal) -> Result<(), Failure> {
    proposal.validate().map_err(|invalid| Failure::new(invalid.code.into(), invalid.message))
}

/// One value of the usual size, strictly parsed.
pub(crate) fn json(payload: &[u8]) -> Result<Value, Failure> {
    if payload.is_empty() {
        return Err(Failure::malformed("the payload is empty, which is not JSON")
            .with_hint("The payload is the value, as in true, 21.5 or {\"on\":true}."));
    }
    parse_json(payload, Limits::default())
}

/// An object of options, which may be left out altogether.
pub(crate) fn options_json(payload: &[u8]) -> Result<Value, Failure> {
    if payload.is_empty() { Ok(Value::Map(Object::default())) } else { json(payload) }
}

fn parse_json(payload: &[u8], limits: Limits) -> Result<Value, Failure> {
    Value::parse(payload, limits).map_err(|error| {
        let (line, column) = (error.line, error.column);
        match error.kind {
            ParseErrorKind::TooLarge { .. } => Failure::new(
                ErrorCode::TooLarge,
                format!("the payload is too large: {}", error.kind),
            ),
            ParseErrorKind::TooDeep { .. } => Failure::new(
                ErrorCode::TooLarge,
                format!("the payload is {}, at line {line}, column {column}", error.kind),
            ),
            ParseErrorKind::Expected { .. }
            | ParseErrorKind::Trailing
            | ParseErrorKind::DuplicateKey { .. }
            | ParseErrorKind::NumberRange
            | ParseErrorKind::ByteOrderMark
            | ParseErrorKind::Utf8
            | ParseErrorKind::Control
            | ParseErrorKind::Surrogate => Failure::malformed(format!("the payload is {error}")),
        }
    })
}

fn needless_payload(op: CommandOp) -> Failure {
    Failure::malformed(format!("{op} takes no payload"))
        .with_hint("Send it empty; a condition goes into the header Flotilla-If-Revision.")
}

fn parse_batch(payload: &[u8]) -> Result<Command, Failure> {
    let limits = Limits { size_bytes_max: REQUEST_BYTES_MAX, depth_max: BATCH_DEPTH_MAX };
    let value = parse_json(payload, limits)?;
    let Value::List(items) = &value else {
        return Err(Failure::malformed(format!(
            "a batch must be a JSON list, not {}",
            value.kind()
        ))
        .with_hint("For example: [{\"op\":\"param.set\",\"id\":\"a.b\",\"body\":1}]"));
    };
    if items.is_empty() {
        return Err(Failure::malformed("the batch is empty"));
    }
    if items.len() > BATCH_ITEMS_MAX {
        let message =
            format!("the batch has {} items; at most {BATCH_ITEMS_MAX} are allowed", items.len());
        return Err(Failure::new(ErrorCode::TooLarge, message));
    }
    let items: Result<Vec<_>, _> =
        items.iter().enumerate().map(|(at, item)| batch_item(at.saturating_add(1), item)).collect();
    items.map(Command::Batch)
}

fn batch_item(number: usize, item: &Value) -> Result<BatchItem, Failure> {
    let what = format!("item {number}");
    let fields = Fields::of(&what, item, &ITEM_FIELDS)?;
    let name = fields.text("op")?.ok_or_else(|| fields.missing("op"))?;
    let op = batch_op(name).map_err(|why| fields.wrong("op", &why))?;
    let id = fields.text("id")?.ok_or_else(|| fields.missing("id"))?;
    let target = CommandTarget::new(op, id).map_err(|why| fields.wrong("id", &why))?;
    let if_revision = fields.whole("if_revision", u64::MAX)?.map(Revision::new);
    // `null` is a body: a parameter may be set to it.
    let body = item.as_map().and_then(|object| object.get("body"));
    let body = match (op.payload(), body) {
        (Payload::Empty, Some(_)) => {
            return Err(fields.wrong("body", &format!("{op} takes none")));
        }
        (Payload::Value, None) => return Err(fields.missing("body")),
        (Payload::Empty, None) => Value::Null,
        (Payload::Options, None) => Value::Map(Object::default()),
        (Payload::Options | Payload::Value, Some(body)) => body.clone(),
    };
    let command = build(&target, &body, None).map_err(|failure| Failure {
        message: format!("{what}: {}", failure.message),
        ..failure
    })?;
    Ok(BatchItem { command, if_revision })
}

/// What may be done inside a batch.
fn batch_op(name: &str) -> Result<CommandOp, String> {
    match CommandOp::from_name(name) {
        Some(CommandOp::Batch) => {
            Err("a batch cannot be part of a batch; put its items into this one".to_owned())
        }
        Some(op) if op.in_batch() => Ok(op),
        Some(op) => Err(format!("{op} cannot be part of a batch; send it by itself")),
        None => {
            let inside = CommandOp::ALL.iter().filter(|op| op.in_batch());
            let suggestion = suggest::did_you_mean(name, inside.map(|op| op.as_str()));
            let shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
            Err(format!("\"{shown}\" cannot be part of a batch{suggestion}"))
        }
    }
}

/// The command of a target and its body, which is `null` where there is none.
fn build(target: &CommandTarget, body: &Value, ttl_ms: Option<u64>) -> Result<Command, Failure> {
    Ok(match target {
        CommandTarget::LinkRegister(id) => {
            Command::LinkRegister { id: id.clone(), spec: link_spec(body)? }
        }
        CommandTarget::LinkDelete(id) => Command::LinkDelete { id: id.clone() },
        CommandTarget::LinkMove(id) => {
            let to = Fields::of("the move", body, &["to"])?.id("to")?;
            Command::LinkMove { id: id.clone(), to }
        }
        CommandTarget::LinkPause(id) => Command::LinkPause { id: id.clone(), paused: true },
        CommandTarget::LinkResume(id) => Command::LinkPause { id: id.clone(), paused: false },
        CommandTarget::DeviceRegister(id) => {
            Command::DeviceRegister { id: id.clone(), spec: device_spec(body)? }
        }
        CommandTarget::DeviceUpdate(id) => {
            Command::DeviceUpdate { id: id.clone(), patch: desired(body)?, ttl_ms }
        }
        CommandTarget::DeviceReplace(id) => {
            Command::DeviceReplace { id: id.clone(), desired: desired(body)?, ttl_ms }
        }
        CommandTarget::DeviceDelete(id) => Command::DeviceDelete { id: id.clone() },
        CommandTarget::DeviceMode(id) => Command::DeviceMode { id: id.clone(), mode: mode(body)? },
        CommandTarget::DeviceHold(id) => {
            let fields = Fields::of("the hold", body, &["reason"])?;
            let reason = fields.text_up_to("reason", REASON_BYTES_MAX)?;
            Command::DeviceHold { id: id.clone(), reason }
        }
        CommandTarget::DeviceRelease(id) => Command::DeviceRelease { id: id.clone() },
        CommandTarget::DeviceInvoke(id) => invocation(id, body, ttl_ms)?,
        CommandTarget::CommandCancel(id) => Command::CommandCancel { request: id.clone() },
        CommandTarget::ParamSet(key) => Command::ParamSet { key: key.clone(), value: body.clone() },
        CommandTarget::ParamDelete(key) => Command::ParamDelete { key: key.clone() },
        CommandTarget::Batch => {
            return Err(Failure::malformed("a batch cannot be part of a batch"));
        }
    })
}

/// The payload is the value: a mode's name.
fn mode(body: &Value) -> Result<Mode, Failure> {
    let known = Mode::ALL.map(Mode::as_str);
    let mode = body.as_text().and_then(|text| Mode::ALL.into_iter().find(|m| m.as_str() == text));
    mode.ok_or_else(|| {
        let suggestion =
            body.as_text().map(|text| suggest::did_you_mean(text, known)).unwrap_or_default();
        Failure::malformed(format!(
            "a mode is one of the texts {}{suggestion}",
            known.map(|name| format!("\"{name}\"")).join(", ")
        ))
    })
}

/// A one-shot that nobody limits is limited all the same: it must not fire when its device comes back tomorrow.
fn invocation(id: &DeviceId, body: &Value, ttl_ms: Option<u64>) -> Result<Command, Failure> {
    let fields = Fields::of("the invocation", body, &["action", "args"])?;
    let action = fields.text_up_to("action", ACTION_BYTES_MAX)?;
    if action.is_empty() {
        return Err(fields.missing("action"));
    }
    let args = fields.object("args")?;
    let ttl_ms = Some(ttl_ms.unwrap_or(INVOKE_TTL_MS_DEFAULT));
    Ok(Command::DeviceInvoke { id: id.clone(), action, args, ttl_ms })
}

fn desired(body: &Value) -> Result<Object, Failure> {
    body.as_map().cloned().ok_or_else(|| {
        Failure::malformed(format!("a desired state must be a JSON object, not {}", body.kind()))
            .with_hint("For example: {\"on\":true}")
    })
}

fn link_spec(body: &Value) -> Result<LinkSpec, Failure> {
    let fields = Fields::of("the link", body, &LINK_FIELDS)?;
    Ok(LinkSpec {
        connector: match fields.text_up_to("connector", TOKEN_CHARS_MAX)? {
            connector if connector.is_empty() => return Err(fields.missing("connector")),
            connector => connector,
        },
        address: fields.text_up_to("address", ADDRESS_BYTES_MAX)?,
        placement: placement(&fields)?,
        name: fields.text_up_to("name", NAME_BYTES_MAX)?,
        labels: fields.texts("labels")?,
        settings: fields.object("settings")?,
    })
}

/// Absent or `"any"`; `{"any":{"floor":"2"}}`; `{"on":"gateway-1"}`.
fn placement(fields: &Fields<'_>) -> Result<Placement, Failure> {
    let any = Placement::Any { labels: std::collections::BTreeMap::new() };
    match fields.value("placement") {
        None => Ok(any),
        Some(Value::Text(text)) if **text == *"any" => Ok(any),
        Some(value) => {
            let inner = Fields::of("the placement", value, &["any", "on"])?;
            match (inner.value("any").is_some(), inner.id("on")?) {
                (false, Some(node)) => Ok(Placement::On(node)),
                (true, None) => Ok(Placement::Any { labels: inner.texts("any")? }),
                _ => Err(Failure::malformed(
                    "the placement must be {\"on\":\"<node>\"} or {\"any\":{<labels>}}",
                )),
            }
        }
    }
}

fn device_spec(body: &Value) -> Result<DeviceSpec, Failure> {
    let fields = Fields::of("the device", body, &DEVICE_FIELDS)?;
    Ok(DeviceSpec {
        link: fields.id("link")?,
        address: fields.text_up_to("address", ADDRESS_BYTES_MAX)?,
        name: fields.text_up_to("name", NAME_BYTES_MAX)?,
        labels: fields.texts("labels")?,
        model: fields.value("model").cloned().map(model).transpose()?,
        settings: fields.object("settings")?,
        policy: policy::read(&fields)?.into(),
    })
}

fn model(source: Value) -> Result<Schema, Failure> {
    Schema::from_value(source).map_err(|error| Failure::malformed(error.to_string()))
}

#[cfg(test)]
mod tests;
