//! Reading the configuration file: a bounded read, then TOML, then settings with their place.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Origin};
use super::layers::Settings;
use super::schema;
use super::values::{self, Misfit, Value};

/// Largest configuration file in bytes.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads `path` into `settings`.
pub(super) fn read(path: &Path, settings: &mut Settings) -> Result<(), ConfigError> {
    let text = read_text(path)?;
    let source = Source { path, text: &text };
    let table = DeTable::parse(&text).map_err(|error| source.syntax_error(&error))?;
    walk(&source, "", table.get_ref(), settings)
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |error: std::io::Error| {
        ConfigError::new(
            None,
            path.display().to_string(),
            format!("the configuration file can't be read: {error}"),
            "check the path and its permissions, or leave --config out",
        )
    };
    let whole = |what: String, fix: &str| {
        Err(ConfigError::new(None, path.display().to_string(), what, fix))
    };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if metadata.is_dir() {
        return whole(
            "this is a directory, not a configuration file".to_owned(),
            "name the file in it",
        );
    }
    if !metadata.is_file() {
        return whole("this is not a regular file".to_owned(), "name a file");
    }
    // The limit is on what is read, not on what the metadata says: the file may grow meanwhile.
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return whole(
            format!("the file is larger than {FILE_BYTES_MAX} bytes"),
            "a configuration is a few lines; check that this is the right file",
        );
    }
    if bytes.starts_with(b"\xEF\xBB\xBF") {
        return whole(
            "the file begins with a byte order mark".to_owned(),
            "save it as UTF-8 without BOM",
        );
    }
    String::from_utf8(bytes).or_else(|error| {
        whole(
            format!("the file is not UTF-8 from byte {} on", error.utf8_error().valid_up_to()),
            "save it as UTF-8",
        )
    })
}

struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn origin(&self, span: &Range<usize>) -> Origin {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        Origin::File { path: self.path.to_owned(), line, column }
    }

    fn misfit(&self, span: &Range<usize>, key: &str, misfit: Misfit) -> ConfigError {
        ConfigError::new(Some(self.origin(span)), key, misfit.what, misfit.fix)
    }

    fn syntax_error(&self, error: &toml::de::Error) -> ConfigError {
        let span = error.span().unwrap_or(0..0);
        let message = error.message().trim();
        let fix = if message.contains("duplicate") {
            "keep one of them"
        } else {
            "correct the line; text stands in quotes, sections as [nats]"
        };
        let near = self.text.get(span.clone()).unwrap_or("").trim();
        let near =
            if near.is_empty() { String::new() } else { format!(" at {}", values::quoted(near)) };
        ConfigError::new(
            Some(self.origin(&span)),
            "TOML",
            format!("{}{near}", message.escape_debug()),
            fix,
        )
    }
}

fn walk(
    source: &Source<'_>,
    prefix: &str,
    table: &DeTable<'_>,
    settings: &mut Settings,
) -> Result<(), ConfigError> {
    // In the order of the file, so that the first error is the first one the reader sees.
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in entries {
        let last = key.get_ref().as_ref();
        // A dot inside a quoted key would forge the name of another key.
        let name = match (prefix, last.contains('.')) {
            (_, true) => format!("{prefix}.\"{last}\""),
            ("", false) => last.to_owned(),
            (_, false) => format!("{prefix}.{last}"),
        };
        if let Some(spec) = schema::find(&name) {
            let converted = convert(spec, value)
                .map_err(|misfit| source.misfit(&value.span(), &name, misfit))?;
            settings.put(spec, converted, source.origin(&value.span()));
        } else if schema::is_section(&name) {
            let DeValue::Table(inner) = value.get_ref() else {
                let misfit = Misfit::new(
                    format!("this is a section, not {}", kind_of(value.get_ref())),
                    format!("write [{name}] and its keys below"),
                );
                return Err(source.misfit(&key.span(), &name, misfit));
            };
            walk(source, &name, inner, settings)?;
        } else {
            return Err(source.misfit(&key.span(), &values::escaped(&name), unknown(&name)));
        }
    }
    Ok(())
}

fn unknown(name: &str) -> Misfit {
    Misfit::new(
        "unknown key",
        match schema::similar(name) {
            Some(meant) => format!("did you mean {meant}? `config show` lists all keys"),
            None => "remove it; `config show` lists all keys".to_owned(),
        },
    )
}

fn convert(spec: &schema::KeySpec, value: &Spanned<DeValue<'_>>) -> Result<Value, Misfit> {
    use schema::Kind;
    let raw = value.get_ref();
    match (spec.kind, raw) {
        (Kind::Text { .. } | Kind::Path | Kind::Choice(_), DeValue::String(text)) => {
            values::text(spec, text)
        }
        (Kind::Bool, DeValue::Boolean(flag)) => Ok(Value::Bool(*flag)),
        (Kind::Number { .. }, DeValue::Integer(number)) => {
            match i128::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => values::number(spec, number),
                Err(_) => Err(values::wrong(spec, "the number is out of range")),
            }
        }
        (Kind::List { .. }, DeValue::Array(items)) => {
            let mut list = Vec::with_capacity(items.len());
            for (i, item) in items.iter().enumerate() {
                let DeValue::String(text) = item.get_ref() else {
                    let kind = kind_of(item.get_ref());
                    return Err(values::wrong(spec, &format!("item {} is {kind}", i + 1)));
                };
                list.push(text.clone().into_owned());
            }
            values::list(spec, list)
        }
        _ => Err(values::wrong(spec, &format!("this is {}", kind_of(raw)))),
    }
}

/// The kind of a value with its article.
fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}
