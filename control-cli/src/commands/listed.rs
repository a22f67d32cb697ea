//! What lists have in common: things out of files, labels, whole pages.

use std::{collections::BTreeMap, path::Path, str::FromStr, sync::Arc};

use fleet_protocol::{limits::PAGE_ITEMS_MAX, query::PageRequest};
use fleet_state::{Object, Value};

use crate::{exit::Stop, file, value};

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

/// Labels to filter by.
pub(crate) fn label_filter(words: &[String]) -> Result<BTreeMap<Arc<str>, Arc<str>>, Stop> {
    words
        .iter()
        .map(|word| value::pair(word).map(|(key, text)| (key.into(), text.into())))
        .collect()
}
