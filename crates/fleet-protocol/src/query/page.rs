//! Pages: where one begins, and when it is full.

use std::sync::Arc;

use fleet_state::Record;
use serde_json::value::RawValue;

use super::PageRequest;
use crate::{Area, Failure};

/// Where a walk in the order of ids begins: after an id, or at an area's own.
pub(super) enum Start<K> {
    Beginning,
    At(K),
    After(K),
}

impl<K: std::str::FromStr + Ord> Start<K> {
    pub(super) fn of(area: Option<&Area>, page: &PageRequest) -> Self {
        let area: Option<K> = area.and_then(|area| area.as_ref().parse().ok());
        let after: Option<K> = page.after.as_deref().and_then(|after| after.parse().ok());
        match (area, after) {
            (None, None) => Self::Beginning,
            (Some(area), None) => Self::At(area),
            (Some(area), Some(after)) if after < area => Self::At(area),
            (_, Some(after)) => Self::After(after),
        }
    }

    /// Everything from there on.
    pub(super) fn walk<'s, 'a, R: 'a, I: Iterator<Item = &'a Arc<R>>>(
        &'s self,
        get: impl FnOnce(&'s K) -> Option<&'a Arc<R>>,
        after: impl FnOnce(Option<&'s K>) -> I,
    ) -> impl Iterator<Item = &'a Arc<R>> {
        let (exact, after_id) = match self {
            Self::Beginning => (None, None),
            Self::At(id) => (get(id), Some(id)),
            Self::After(id) => (None, Some(id)),
        };
        exact.into_iter().chain(after(after_id))
    }
}

/// Collects items until one of the page's bounds is met.
pub(super) struct PageBuilder<'a> {
    area: Option<&'a Area>,
    page: &'a PageRequest,
    bytes_max: usize,
    bytes: usize,
    items: Vec<Box<RawValue>>,
    last: String,
    next: Option<String>,
}

impl<'a> PageBuilder<'a> {
    pub(super) fn new(area: Option<&'a Area>, page: &'a PageRequest, bytes_max: usize) -> Self {
        Self { area, page, bytes_max, bytes: 0, items: Vec::new(), last: String::new(), next: None }
    }

    /// Takes records in the order of their ids, until the page is full.
    pub(super) fn fill(
        &mut self,
        records: impl Iterator<Item = Record>,
        show: impl Fn(&Record) -> Result<Box<RawValue>, Failure>,
    ) -> Result<(), Failure> {
        for record in records {
            let id = id_text(&record);
            if let Some(area) = self.area {
                if area.is_before(&id) {
                    break;
                }
                if !area.contains(&id) {
                    continue;
                }
            }
            if self.labelled(&record) && !self.take(id, show(&record)?) {
                break;
            }
        }
        Ok(())
    }

    /// Takes one item, unless the page is full.
    pub(super) fn take(&mut self, id: String, text: Box<RawValue>) -> bool {
        let size = text.get().len().saturating_add(1);
        let full = self.items.len() >= usize::try_from(self.page.limit).unwrap_or(usize::MAX)
            || self.bytes.saturating_add(size) > self.bytes_max;
        // At least one item, however large: a page that cannot move would be asked for again for ever.
        if full && !self.items.is_empty() {
            self.next = Some(std::mem::take(&mut self.last));
            return false;
        }
        self.bytes = self.bytes.saturating_add(size);
        self.items.push(text);
        self.last = id;
        true
    }

    /// The items, and where the next page begins.
    pub(super) fn finish(self) -> (Vec<Box<RawValue>>, Option<String>) {
        (self.items, self.next)
    }

    fn labelled(&self, record: &Record) -> bool {
        let labels = match record {
            Record::Link(link) => &link.spec.labels,
            Record::Device(device) => &device.spec.labels,
            Record::Param(_)
            | Record::Member(_)
            | Record::Token(_)
            | Record::Watermarks(_)
            | Record::Invocation(_) => return true,
        };
        self.page
            .labels
            .iter()
            .all(|(key, value)| labels.get(key).map(Arc::as_ref) == Some(value.as_ref()))
    }
}

fn id_text(record: &Record) -> String {
    match record {
        Record::Link(link) => link.id.to_string(),
        Record::Device(device) => device.id.to_string(),
        Record::Param(param) => param.key.to_string(),
        Record::Member(member) => member.id.to_string(),
        Record::Token(token) => token.id.to_string(),
        Record::Watermarks(marks) => marks.device.to_string(),
        Record::Invocation(invocation) => invocation.id.to_string(),
    }
}
