//! Templates of topics and payloads, in the language that the field writes them in: Jinja.
//!
//! Home Assistant's discovery messages carry Jinja templates, and people who know MQTT devices
//! know them, so ours are the same: `{"state": {{ value | tojson }}}` renders a payload,
//! `{{ value_json.POWER }}` takes a value out of one. [`Engine`] holds the compiled ones of a
//! whole link, each text once.
//!
//! Rendering is pure and bounded: no file, no clock, no random source, no loading of other
//! templates, [`FUEL`] steps and [`OUTPUT_BYTES_MAX`] bytes. A name that doesn't exist is an
//! error and never an empty text: half a command is worse than none.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use fleet_state::Value;
use minijinja::value::Value as Jinja;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};

/// Bytes of a template's text.
pub(crate) const TEMPLATE_BYTES_MAX: usize = 4 * 1024;
/// Steps that rendering may take.
const FUEL: u64 = 20_000;
/// Bytes that rendering may produce.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Nesting within a template.
const DEPTH_MAX: usize = 32;

/// A compiled template; belongs to the [`Engine`] that compiled it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Arc<str>);

impl Template {
    /// Whether it holds nothing to fill in.
    pub(crate) fn is_constant(&self) -> bool {
        !self.0.contains("{{") && !self.0.contains("{%") && !self.0.contains("{#")
    }
}

/// What a template sees.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(BTreeMap<&'static str, Jinja>);

impl Names {
    /// Adds a name.
    pub(crate) fn with(mut self, name: &'static str, value: &Value) -> Self {
        self.0.insert(name, jinja(value));
        self
    }

    /// Adds a text.
    pub(crate) fn with_text(mut self, name: &'static str, text: &str) -> Self {
        self.0.insert(name, Jinja::from(text));
        self
    }
}

/// Why a template gave no text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RenderError {
    /// It asks for something that isn't there.
    Missing(String),
    /// It uses a filter, test or function that nobody knows, whatever it is given.
    Unknown(String),
    /// Anything else.
    Failed(String),
}

impl RenderError {
    /// The reason, for people.
    pub(crate) fn message(&self) -> &str {
        match self {
            RenderError::Missing(text) | RenderError::Unknown(text) | RenderError::Failed(text) => {
                text
            }
        }
    }
}

/// The compiled templates of a link.
pub(crate) struct Engine(Environment<'static>);

impl Engine {
    /// An engine without templates.
    pub(crate) fn new() -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(DEPTH_MAX);
        // Home Assistant's word for "leave this message out if it isn't there": strict already.
        environment.add_filter("is_defined", |value: Jinja| value);
        Self(environment)
    }

    /// Compiles a text.
    ///
    /// # Errors
    /// Why it is no template.
    pub(crate) fn compile(&mut self, text: &str) -> Result<Template, String> {
        if text.len() > TEMPLATE_BYTES_MAX {
            let found = text.len();
            return Err(format!(
                "the template has {found} bytes, the limit is {TEMPLATE_BYTES_MAX}"
            ));
        }
        self.0
            .add_template_owned(text.to_owned(), text.to_owned())
            .map_err(|error| reason(&error))?;
        Ok(Template(Arc::from(text)))
    }

    /// Renders a template.
    ///
    /// # Errors
    /// Why it doesn't render with these names.
    pub(crate) fn render(&self, template: &Template, names: &Names) -> Result<String, RenderError> {
        let failed = |error: minijinja::Error| {
            let unknown =
                [ErrorKind::UnknownFilter, ErrorKind::UnknownFunction, ErrorKind::UnknownTest];
            if error.kind() == ErrorKind::UndefinedError {
                RenderError::Missing(reason(&error))
            } else if unknown.contains(&error.kind()) {
                RenderError::Unknown(reason(&error))
            } else {
                RenderError::Failed(reason(&error))
            }
        };
        let compiled = self.0.get_template(&template.0).map_err(failed)?;
        let mut output = Bounded(Vec::new());
        compiled.render_captured_to(names.0.clone(), &mut output).map_err(failed)?;
        String::from_utf8(output.0).map_err(|error| RenderError::Failed(error.to_string()))
    }
}

/// An output that refuses to grow beyond the bound.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > OUTPUT_BYTES_MAX {
            return Err(io::Error::other("it renders to more than 64 KiB"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The error in one line, without the template's name, which is its whole text.
fn reason(error: &minijinja::Error) -> String {
    let mut text = error.kind().to_string();
    if let Some(detail) = error.detail() {
        text.push_str(": ");
        text.push_str(detail);
    }
    let line = error.line().filter(|line| *line > 1);
    line.map_or(text.clone(), |line| format!("{text} (line {line})"))
}

fn jinja(value: &Value) -> Jinja {
    match value {
        Value::Null => Jinja::from(()),
        Value::Bool(flag) => Jinja::from(*flag),
        Value::I64(number) => Jinja::from(*number),
        Value::U64(number) => Jinja::from(*number),
        Value::F64(number) => Jinja::from(number.get()),
        Value::Text(text) => Jinja::from(Arc::clone(text)),
        Value::List(list) => Jinja::from(list.iter().map(jinja).collect::<Vec<_>>()),
        Value::Map(object) => Jinja::from(
            object
                .iter()
                .map(|(key, value)| (Arc::clone(key), jinja(value)))
                .collect::<BTreeMap<_, _>>(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleet_state::Limits;

    fn json(text: &str) -> Value {
        Value::parse(text.as_bytes(), Limits::default()).unwrap()
    }

    fn render(text: &str, value: &str) -> Result<String, RenderError> {
        let mut engine = Engine::new();
        let template = engine.compile(text).map_err(RenderError::Failed)?;
        engine.render(
            &template,
            &Names::default().with("value_json", &json(value)).with_text("value", value),
        )
    }

    #[test]
    fn what_the_field_writes() {
        let cases = [
            ("{{ value_json.POWER }}", r#"{"POWER":"ON"}"#, "ON"),
            ("{{ value_json['state'] }}", r#"{"state":"OFF"}"#, "OFF"),
            ("{{value_json.ENERGY.Power}}", r#"{"ENERGY":{"Power":12.5}}"#, "12.5"),
            ("{{ value_json.t | round(1) }}", r#"{"t":21.456}"#, "21.5"),
            ("{{ value_json.b | int }}", r#"{"b":"42"}"#, "42"),
            ("{{ 'on' if value_json.output else 'off' }}", r#"{"output":true}"#, "on"),
            ("{{ value_json.x | default('none') }}", "{}", "none"),
            ("{{ value_json.x | is_defined }}", r#"{"x":3}"#, "3"),
            ("{{ value_json.list[0] }}", r#"{"list":[7]}"#, "7"),
            (r#"{"v": {{ value_json.s | tojson }}}"#, r#"{"s":"a\"b"}"#, r#"{"v": "a\"b"}"#),
            ("{{ value }}", "21.5", "21.5"),
            ("plain", "1", "plain"),
            ("<{{ value }}>", "1", "<1>"),
        ];
        for (template, value, wanted) in cases {
            assert_eq!(render(template, value).as_deref(), Ok(wanted), "{template}");
        }
    }

    #[test]
    fn what_does_not_render() {
        assert!(matches!(render("{{ value_json.nope }}", "{}"), Err(RenderError::Missing(_))));
        assert!(matches!(render("{{ nobody }}", "{}"), Err(RenderError::Missing(_))));
        for bad in ["{{ value", "{% if %}", "{% include 'x' %}"] {
            assert!(matches!(render(bad, "1"), Err(RenderError::Failed(_))), "{bad}");
        }
        for bad in ["{{ value | no_such_filter }}", "{{ states('x') }}", "{{ value is nosuch }}"] {
            assert!(matches!(render(bad, "1"), Err(RenderError::Unknown(_))), "{bad}");
        }
    }

    #[test]
    fn rendering_is_bounded() {
        let endless = "{% for a in range(99999) %}{{ a }}{% endfor %}";
        assert!(matches!(render(endless, "1"), Err(RenderError::Failed(_))));
        let wide = "{{ 'x' * 90000 }}";
        assert!(matches!(render(wide, "1"), Err(RenderError::Failed(_))));
        assert!(Engine::new().compile(&"x".repeat(TEMPLATE_BYTES_MAX + 1)).is_err());
    }
}
