//! What links, devices and parameters have in common: things out of files, labels, whole pages, what is read and how it
//! is taken away.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use anyhow::Result;
use clap::Args;
use fleet_protocol::{
    CommandTarget, QueryTarget,
    limits::PAGE_ITEMS_MAX,
    query::{Page, PageRequest},
};
use fleet_state::{Object, Value};
use serde::de::DeserializeOwned;

use crate::{
    exit::Stop,
    file,
    session::Session,
    value,
    write::{Order, WriteArgs},
};

/// What is the same in the description of a link and of a device
#[derive(Debug, Args)]
pub(crate) struct DescribedArgs {
    /// Where it is, as its connector writes it
    #[arg(long, conflicts_with = "file")]
    address: Option<String>,
    /// What people call it
    #[arg(long, conflicts_with = "file")]
    name: Option<String>,
    /// A label; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", conflicts_with = "file")]
    labels: Vec<String>,
    /// What its connector must know of it: JSON, or @FILE
    #[arg(long, value_name = "JSON", conflicts_with = "file")]
    settings: Option<String>,
    /// A list in YAML or JSON; - for standard input
    #[arg(short, long)]
    file: Option<PathBuf>,
}

impl DescribedArgs {
    /// Adds what was given to the payload of a registration.
    fn describe(&self, body: &mut Object) -> Result<(), Stop> {
        for (key, text) in [("address", &self.address), ("name", &self.name)] {
            if let Some(text) = text {
                body.insert(key, text.as_str());
            }
        }
        if !self.labels.is_empty() {
            body.insert("labels", Value::Map(labels(&self.labels)?));
        }
        if let Some(settings) = &self.settings {
            body.insert("settings", json_or_file(settings)?);
        }
        Ok(())
    }

    /// The registrations that were asked for: of one thing, or of all in the file.
    pub(crate) fn orders<T>(
        &self,
        id: Option<&T>,
        target: fn(T) -> CommandTarget,
        body: impl FnOnce() -> Result<Object, Stop>,
    ) -> Result<Vec<Order>, Stop>
    where
        T: FromStr<Err = fleet_state::IdError> + Clone,
    {
        let order = |id: T, body: &Object| Order {
            target: target(id),
            payload: body.to_json().into_bytes(),
        };
        match (id, &self.file) {
            (Some(id), _) => {
                let mut body = body()?;
                self.describe(&mut body)?;
                Ok(vec![order(id.clone(), &body)])
            }
            (None, Some(file)) => from_file(file, |at, mut item| {
                let id = take_id(file, at, &mut item, "id")?;
                Ok(order(id, &item))
            }),
            (None, None) => Err(Stop::usage("give an id, or a list with -f")),
        }
    }
}

/// A value: JSON as it was typed, or what is in a file.
pub(crate) fn json_or_file(text: &str) -> Result<Value, Stop> {
    match text.strip_prefix('@') {
        Some(path) => file::read(path.as_ref()),
        None => value::guess(text),
    }
}

/// One order for each item of a file.
pub(crate) fn from_file(
    file: &Path,
    order: impl Fn(usize, Object) -> Result<Order, Stop>,
) -> Result<Vec<Order>, Stop> {
    let items = file::objects(file)?.into_iter().enumerate();
    items.map(|(at, item)| order(at, item)).collect()
}

/// Sends a command without a payload for each of these.
pub(crate) async fn send_each<T>(
    write: &WriteArgs,
    session: &Session,
    ids: Vec<T>,
    target: fn(T) -> CommandTarget,
) -> Result<()> {
    let order = |id| Order { target: target(id), payload: Vec::new() };
    write.send_all(session, ids.into_iter().map(order).collect()).await
}

/// Reads one thing.
pub(crate) async fn one<T: DeserializeOwned>(session: &Session, target: QueryTarget) -> Result<T> {
    let client = session.client().await?;
    let found = client.get::<T>(&target, session.consistency()).await?;
    session.say_age(found.revision, found.age_ms);
    Ok(found.item)
}

/// Reads a whole list.
pub(crate) async fn all<T: DeserializeOwned>(
    session: &Session,
    target: QueryTarget,
    page: PageRequest,
) -> Result<Vec<T>> {
    let client = session.client().await?;
    let found: Page<T> = client.list(&target, page, session.consistency()).await?;
    session.say_age(found.revision, found.age_ms);
    Ok(found.items)
}

/// Labels as they are shown.
pub(crate) fn shown_labels(labels: &BTreeMap<String, String>) -> String {
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.join(" ")
}

/// A page as large as it may be: who lists wants all of it.
pub(crate) fn whole_page() -> PageRequest {
    PageRequest { limit: PAGE_ITEMS_MAX, ..PageRequest::default() }
}

/// A mistake in one item of a file.
pub(crate) fn wrong(path: &Path, at: usize, what: &str) -> Stop {
    Stop::usage(format!("item {} of {}: {what}", at.saturating_add(1), file::display(path)))
}

/// Takes a field out of an item.
pub(crate) fn take(path: &Path, at: usize, item: &mut Object, key: &str) -> Result<Value, Stop> {
    item.remove(key).ok_or_else(|| wrong(path, at, &format!("it has no {key}")))
}

/// Takes an id out of an item.
pub(crate) fn take_id<T>(path: &Path, at: usize, item: &mut Object, key: &str) -> Result<T, Stop>
where
    T: FromStr<Err = fleet_state::IdError>,
{
    let found = take(path, at, item, key)?;
    let text = found
        .as_text()
        .ok_or_else(|| wrong(path, at, &format!("its {key} is {} and not a text", found.kind())))?;
    text.parse().map_err(|error: fleet_state::IdError| wrong(path, at, &error.to_string()))
}

/// Labels as an object of texts.
pub(crate) fn labels(words: &[String]) -> Result<Object, Stop> {
    let mut labels = Object::new();
    for word in words {
        let (key, text) = value::pair(word)?;
        if labels.insert(key, text).is_some() {
            return Err(Stop::usage(format!("label \"{}\" is given twice", value::shown(key))));
        }
    }
    Ok(labels)
}

/// Changes of labels: `KEY=VALUE` sets one, `KEY-` takes it away.
pub(crate) fn label_patch(words: &[String]) -> Result<Object, Stop> {
    let mut patch = Object::new();
    for word in words {
        let (key, value) = match word.strip_suffix('-').filter(|key| !key.contains('=')) {
            Some(key) => (key, Value::Null),
            None => value::pair(word).map(|(key, text)| (key, Value::from(text)))?,
        };
        if patch.insert(key, value).is_some() {
            return Err(Stop::usage(format!("label \"{}\" is given twice", value::shown(key))));
        }
    }
    Ok(patch)
}

/// Labels to filter by.
pub(crate) fn label_filter(words: &[String]) -> Result<BTreeMap<Arc<str>, Arc<str>>, Stop> {
    words
        .iter()
        .map(|word| value::pair(word).map(|(key, text)| (key.into(), text.into())))
        .collect()
}
