//! The parts of a model: where a value is read, where it is written, how it is asked for.

use std::sync::Arc;

use fleet_state::{Limits, Object, Value};

use crate::device::connector::Refusal;

use super::super::super::settings::{Fields, shown};
use super::super::PAYLOAD_BYTES_MAX;
use super::super::form::{Form, scalar};
use super::super::template::{Engine, Names, RenderError, Template};
use super::SOURCES_MAX;

/// Members of a path like `color.x`.
const KEY_DEPTH_MAX: usize = 8;
/// Nesting of a payload.
const PAYLOAD_DEPTH_MAX: usize = 32;

/// One property.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Property {
    /// What its values look like.
    pub(crate) form: Form,
    /// Where they are reported.
    pub(crate) sources: Vec<Source>,
    /// Where they are written.
    pub(crate) sink: Option<Sink>,
    /// How the device is asked for them.
    pub(crate) ask: Option<Ask>,
}

impl Property {
    pub(super) fn parse(engine: &mut Engine, fields: Fields<'_>) -> Result<Self, Refusal> {
        let form = Form::parse(&fields)?;
        let mut sources = Vec::new();
        for source in fields.objects("read")? {
            sources.push(Source::parse(engine, source)?);
        }
        if sources.len() > SOURCES_MAX {
            return Err(fields.refuse("read", format!("more than {SOURCES_MAX} topics")));
        }
        let sink = match fields.object("write")? {
            Some(sink) => Some(Sink::parse(engine, sink, &form)?),
            None => None,
        };
        let ask = match fields.object("get")? {
            Some(ask) => Some(Ask::parse(engine, ask)?),
            None => None,
        };
        if sources.is_empty() && sink.is_none() {
            return Err(fields
                .missing("read")
                .with_hint("say where the property is read, written, or both"));
        }
        if ask.is_some() && sources.is_empty() {
            return Err(fields.refuse("get", "nothing says where the answer is read"));
        }
        fields.finish()?;
        Ok(Self { form, sources, sink, ask })
    }
}

/// Where a value is reported.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Source {
    /// The topic.
    pub(crate) topic: Template,
    /// Where in the payload.
    pub(crate) pick: Pick,
}

impl Source {
    fn parse(engine: &mut Engine, fields: Fields<'_>) -> Result<Self, Refusal> {
        let topic = compiled(engine, &fields, "topic", fields.required_text("topic")?)?;
        let pick = Pick::parse(engine, &fields)?;
        fields.finish()?;
        Ok(Self { topic, pick })
    }
}

/// Where in a payload a value stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Pick {
    /// The payload is the value.
    Whole,
    /// It is this member of a JSON payload.
    Key(Vec<Arc<str>>),
    /// A template takes it out.
    Rendered(Template),
}

impl Pick {
    pub(super) fn parse(engine: &mut Engine, fields: &Fields<'_>) -> Result<Self, Refusal> {
        match (fields.text("key")?, fields.text("value")?) {
            (None, None) => Ok(Pick::Whole),
            (Some(key), None) => Ok(Pick::Key(key_path(fields, key)?)),
            (None, Some(text)) => {
                let template = compiled(engine, fields, "value", text)?;
                // Whatever a message holds or lacks: an unknown filter never renders.
                let names = Payload::new("1").names();
                if let Err(RenderError::Unknown(problem)) = engine.render(&template, &names) {
                    return Err(fields.refuse("value", problem));
                }
                Ok(Pick::Rendered(template))
            }
            (Some(_), Some(_)) => Err(fields.refuse("value", "key says it already")),
        }
    }

    /// The value in a payload; `None` when this message doesn't speak of it.
    ///
    /// # Errors
    /// Why the payload can't be read.
    pub(crate) fn value_in(
        &self,
        engine: &Engine,
        payload: &mut Payload<'_>,
    ) -> Result<Option<Value>, String> {
        match self {
            Pick::Whole => Ok(Some(payload.scalar())),
            Pick::Key(path) => {
                let mut value = payload.json()?;
                for key in path {
                    match value.as_map().and_then(|object| object.get(key)) {
                        Some(inner) => value = inner,
                        None => return Ok(None),
                    }
                }
                // Zigbee2MQTT says null for what it doesn't know yet.
                Ok((*value != Value::Null).then(|| value.clone()))
            }
            Pick::Rendered(template) => {
                let names = payload.names();
                match engine.render(template, &names) {
                    Ok(text) => Ok(Some(scalar(text.trim()))),
                    Err(RenderError::Missing(_)) => Ok(None),
                    Err(RenderError::Unknown(reason) | RenderError::Failed(reason)) => Err(reason),
                }
            }
        }
    }
}

/// A payload that was received, parsed when somebody asks and once only.
pub(crate) struct Payload<'a> {
    text: &'a str,
    json: Option<Result<Value, String>>,
}

impl<'a> Payload<'a> {
    /// A payload.
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, json: None }
    }

    /// The payload as JSON.
    pub(crate) fn json(&mut self) -> Result<&Value, String> {
        let text = self.text;
        let parsed = self.json.get_or_insert_with(|| {
            let limits = Limits { size_bytes_max: PAYLOAD_BYTES_MAX, depth_max: PAYLOAD_DEPTH_MAX };
            Value::parse(text.as_bytes(), limits)
                .map_err(|error| format!("the payload {} is {error}", shown(text)))
        });
        parsed.as_ref().map_err(Clone::clone)
    }

    /// The payload as it was received.
    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// The payload as JSON where it is that, else as a text.
    pub(crate) fn scalar(&mut self) -> Value {
        let text = self.text;
        self.json().cloned().unwrap_or_else(|_| Value::from(text))
    }

    fn names(&mut self) -> Names {
        let names = Names::default().with_text("value", self.text);
        match self.json() {
            Ok(json) => names.with("value_json", json),
            Err(_) => names,
        }
    }
}

/// Where a value is written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sink {
    /// The topic.
    pub(crate) topic: Template,
    /// Where in the payload.
    pub(crate) put: Put,
    /// Whether the broker acknowledges it.
    pub(crate) acknowledged: bool,
}

impl Sink {
    fn parse(engine: &mut Engine, fields: Fields<'_>, form: &Form) -> Result<Self, Refusal> {
        let topic = compiled(engine, &fields, "topic", fields.required_text("topic")?)?;
        let put = match (fields.text("key")?, fields.text("payload")?) {
            (None, None) => Put::Whole,
            (Some(key), None) => Put::Key(key_path(&fields, key)?),
            (None, Some(text)) => Put::Rendered(compiled(engine, &fields, "payload", text)?),
            (Some(_), Some(_)) => return Err(fields.refuse("payload", "key says it already")),
        };
        let acknowledged = fields.whole("qos", 0..=1)? != Some(0);
        let sample = form.word_for(&form.sample()).map_err(|why| fields.refuse("payload", why))?;
        put.rendered(engine, &sample).map_err(|why| fields.refuse("payload", why))?;
        if let Put::Rendered(template) = &put
            && template.is_constant()
        {
            return Err(fields
                .refuse("payload", "it says the same for every value")
                .with_hint("use {{ value }} in it, or make it an action"));
        }
        fields.finish()?;
        Ok(Self { topic, put, acknowledged })
    }
}

/// Where in a payload a value goes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Put {
    /// The payload is the value.
    Whole,
    /// It becomes this member of a JSON payload, beside others of the same topic.
    Key(Vec<Arc<str>>),
    /// A template makes the payload.
    Rendered(Template),
}

impl Put {
    /// The payload for one value, which is on the wire's terms already.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn rendered(&self, engine: &Engine, word: &Value) -> Result<String, String> {
        match self {
            Put::Whole => Ok(plain(word)),
            Put::Key(path) => {
                let mut object = Object::new();
                insert(&mut object, path, word);
                Ok(object.to_json())
            }
            Put::Rendered(template) => {
                let names = Names::default().with("value", word);
                engine.render(template, &names).map_err(|error| error.message().to_owned())
            }
        }
    }
}

/// Puts a value at a path, making the objects on the way.
pub(crate) fn insert(object: &mut Object, path: &[Arc<str>], value: &Value) {
    match path {
        [] => {}
        [last] => {
            object.insert(Arc::clone(last), value.clone());
        }
        [first, rest @ ..] => {
            let mut inner = match object.remove(first) {
                Some(Value::Map(inner)) => inner,
                _ => Object::new(),
            };
            insert(&mut inner, rest, value);
            object.insert(Arc::clone(first), inner);
        }
    }
}

/// A value as the text that devices expect: words without quotes.
fn plain(value: &Value) -> String {
    value.as_text().map_or_else(|| value.to_json(), str::to_owned)
}

/// How a device is asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ask {
    /// The topic.
    pub(crate) topic: Template,
    /// What is said.
    pub(crate) payload: Asking,
}

/// What a question says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Asking {
    /// This member, empty, beside others of the same topic.
    Key(Vec<Arc<str>>),
    /// A constant text.
    Text(Arc<str>),
}

impl Ask {
    fn parse(engine: &mut Engine, fields: Fields<'_>) -> Result<Self, Refusal> {
        let topic = compiled(engine, &fields, "topic", fields.required_text("topic")?)?;
        let payload = match (fields.text("key")?, fields.text("payload")?) {
            (Some(key), None) => Asking::Key(key_path(&fields, key)?),
            (None, text) => Asking::Text(Arc::from(text.unwrap_or_default())),
            (Some(_), Some(_)) => return Err(fields.refuse("payload", "key says it already")),
        };
        fields.finish()?;
        Ok(Self { topic, payload })
    }
}

/// A one-shot.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Action {
    /// The topic.
    pub(crate) topic: Template,
    /// The payload.
    pub(crate) payload: Template,
}

impl Action {
    pub(super) fn parse(engine: &mut Engine, fields: Fields<'_>) -> Result<Self, Refusal> {
        let topic = compiled(engine, &fields, "topic", fields.required_text("topic")?)?;
        let text = fields.text("payload")?.unwrap_or_default();
        let payload = compiled(engine, &fields, "payload", text)?;
        if payload.is_constant() {
            let names = Names::default();
            engine
                .render(&payload, &names)
                .map_err(|error| fields.refuse("payload", error.message()))?;
        }
        fields.finish()?;
        Ok(Self { topic, payload })
    }
}

pub(super) fn compiled(
    engine: &mut Engine,
    fields: &Fields<'_>,
    field: &str,
    text: &str,
) -> Result<Template, Refusal> {
    engine
        .compile(text)
        .map_err(|reason| fields.refuse(field, format!("{} is no template: {reason}", shown(text))))
}

fn key_path(fields: &Fields<'_>, key: &str) -> Result<Vec<Arc<str>>, Refusal> {
    let path: Vec<Arc<str>> = key.split('.').map(Arc::from).collect();
    if path.len() > KEY_DEPTH_MAX || path.iter().any(|part| part.is_empty()) {
        let problem = format!("{} is no path of 1 to {KEY_DEPTH_MAX} keys", shown(key));
        return Err(fields.refuse("key", problem));
    }
    Ok(path)
}
