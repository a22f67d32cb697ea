//! What is known of devices without being agreed on: what they said, and how they stand.
//!
//! The owner of a link puts what it hears into the table and tells the other nodes, coalesced
//! per device; everybody keeps the newest by (epoch, sequence), so a former owner's words never
//! cover those of the present one. Epochs are a link's own: what was observed of a device over
//! another link than its present one gives way to what is over that. Queries show the table of the node that is asked: it may be
//! behind, or lack what was lost on the way, and the next report mends it. Nothing in here can
//! change replicated state.
//!
//! What is known of a device or a link is an object, in the form in which it is shown. Bounds: as many
//! devices as the state holds, and [`BODY_BYTES_MAX`] for each.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use fleet_protocol::event::ForeignWrite;
use fleet_protocol::query::{ObservedDevices, Told};
use fleet_state::{DeviceId, Entity, Limits, LinkId, NodeId, Object, Value};
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;

/// Bytes of what is known of one device.
pub const BODY_BYTES_MAX: usize = 48 * 1024;
/// Words of this node that a follower may lag behind.
const FOLLOWED_MAX: usize = 4_096;
/// Writes of others that are not told yet.
const FOREIGN_MAX: usize = 256;
/// Devices and links in one message to the other nodes.
pub(super) const ITEMS_PER_MESSAGE_MAX: usize = 1_024;

/// What is known of a device or a link.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// Who says so.
    pub node: NodeId,
    /// Over which link; `None` when an agent says it that does not tell that yet.
    pub link: Option<LinkId>,
    /// In which epoch of the link.
    pub epoch: u64,
    /// Grows with everything said in the epoch.
    pub sequence: u64,
    /// What is shown.
    pub body: Arc<Object>,
}

/// What is known of all devices; cloning gives another handle on the same table.
#[derive(Clone, Debug)]
pub struct ObservedTable(Arc<Table>);

#[derive(Debug)]
struct Table {
    known: DashMap<Entity, Observed>,
    /// When each node last told anything.
    heard: DashMap<NodeId, Instant>,
    began: Instant,
    /// What this node said and has not told.
    changed: DashMap<Entity, ()>,
    /// What this node said, for those who follow it here.
    said: broadcast::Sender<(Entity, Observed)>,
    /// Something is to be told.
    news: Notify,
    /// What others wrote to devices of this node, for those who tell of it.
    foreign: broadcast::Sender<ForeignWrite>,
}

impl Default for ObservedTable {
    fn default() -> Self {
        let (said, _) = broadcast::channel(FOLLOWED_MAX);
        let (foreign, _) = broadcast::channel(FOREIGN_MAX);
        let (known, heard, changed) = (DashMap::new(), DashMap::new(), DashMap::new());
        let (began, news) = (Instant::now(), Notify::new());
        Self(Arc::new(Table { known, heard, began, changed, said, news, foreign }))
    }
}

impl ObservedTable {
    /// What is known of a device or a link.
    #[must_use]
    pub fn get(&self, of: &Entity) -> Option<Observed> {
        self.0.known.get(of).map(|known| known.value().clone())
    }

    /// What is known of a device.
    #[must_use]
    pub fn device(&self, device: &DeviceId) -> Option<Observed> {
        self.get(&Entity::Device(device.clone()))
    }

    /// What is known of a link.
    #[must_use]
    pub fn link(&self, link: &LinkId) -> Option<Observed> {
        self.get(&Entity::Link(link.clone()))
    }

    /// Takes what is newer than what is known, or what is over the link on which the device is now
    /// where the other is not; says whether it was taken.
    pub fn put(&self, of: Entity, observed: Observed, present: Option<&LinkId>) -> bool {
        let newer = |known: &Observed| {
            if known.link == observed.link || known.link.is_none() || observed.link.is_none() {
                return (observed.epoch, observed.sequence) > (known.epoch, known.sequence);
            }
            known.link.as_ref() != present
        };
        match self.0.known.entry(of) {
            dashmap::Entry::Occupied(known) if !newer(known.get()) => false,
            dashmap::Entry::Occupied(mut known) => {
                known.insert(observed);
                true
            }
            dashmap::Entry::Vacant(free) => {
                free.insert(observed);
                true
            }
        }
    }

    /// Takes what this node says itself, and marks it to be told.
    pub(super) fn put_own(&self, of: Entity, observed: Observed, present: Option<&LinkId>) {
        self.note_heard(observed.node);
        if self.put(of.clone(), observed.clone(), present) {
            // An error says that nobody follows.
            let _nobody = self.0.said.send((of.clone(), observed));
            self.0.changed.insert(of, ());
            self.0.news.notify_one();
        }
    }

    /// Follows what this node says itself. Who lags misses some.
    #[must_use]
    pub fn follow(&self) -> broadcast::Receiver<(Entity, Observed)> {
        self.0.said.subscribe()
    }

    /// Somebody else wrote to a device of this node.
    pub(super) fn put_foreign(&self, told: ForeignWrite) {
        // An error says that nobody follows.
        let _nobody = self.0.foreign.send(told);
    }

    /// Follows what others write to devices of this node. Who lags misses some.
    #[must_use]
    pub fn follow_foreign(&self) -> broadcast::Receiver<ForeignWrite> {
        self.0.foreign.subscribe()
    }

    /// Waits until something is to be told; one task can.
    pub(super) async fn changed(&self) {
        while self.0.changed.is_empty() {
            self.0.news.notified().await;
        }
    }

    /// A node has told something.
    pub(super) fn note_heard(&self, node: NodeId) {
        self.0.heard.insert(node, Instant::now());
    }

    /// For how long a node has told nothing, as far as this table reaches back.
    fn silence(&self, node: NodeId) -> Duration {
        self.0.heard.get(&node).map_or(self.0.began, |heard| *heard).elapsed()
    }

    /// Marks everything that this node said to be told again.
    pub(super) fn mark_all_of(&self, node: NodeId) {
        self.note_heard(node);
        for known in self.0.known.iter().filter(|known| known.node == node) {
            self.0.changed.insert(known.key().clone(), ());
        }
    }

    /// Takes up to `items_max` of what is to be told.
    pub(super) fn take_changed(&self, items_max: usize) -> Vec<(Entity, Observed)> {
        let changed: Vec<Entity> =
            self.0.changed.iter().take(items_max).map(|changed| changed.key().clone()).collect();
        let taken = changed.into_iter().filter_map(|of| {
            self.0.changed.remove(&of)?;
            let known = self.get(&of)?;
            Some((of, known))
        });
        taken.collect()
    }

    /// Forgets what is gone.
    pub fn retain(&self, keep: impl Fn(&Entity) -> bool) {
        self.0.known.retain(|of, _| keep(of));
        self.0.heard.retain(|node, _| keep(&Entity::Member(*node)));
    }
}

impl ObservedDevices for ObservedTable {
    fn observed(&self, device: &DeviceId) -> Option<Told> {
        self.device(device).map(shown)
    }

    fn observed_link(&self, link: &LinkId) -> Option<Told> {
        self.link(link).map(shown)
    }

    fn silent_ms(&self, node: NodeId) -> u64 {
        u64::try_from(self.silence(node).as_millis()).unwrap_or(u64::MAX)
    }
}

/// What is known, and who says so.
fn shown(observed: Observed) -> Told {
    let Observed { node, link, epoch, body, .. } = observed;
    let mut body = body.as_ref().clone();
    body.insert("node", node.get());
    body.insert("epoch", epoch);
    Told { body, link, epoch }
}

/// The message that tells other nodes what is known of something.
#[must_use]
pub(super) fn encode(of: &Entity, observed: &Observed) -> Value {
    let mut message = Object::new();
    message.insert(of.kind(), of.id_text());
    if let Some(link) = &observed.link {
        message.insert("over", link.as_str());
    }
    message.insert("epoch", observed.epoch);
    message.insert("sequence", observed.sequence);
    message.insert("body", Value::Map(observed.body.as_ref().clone()));
    Value::Map(message)
}

/// What a message of `node` tells; `None` when it isn't one of ours.
pub(super) fn decode(node: NodeId, bytes: &[u8]) -> Option<Vec<(Entity, Observed)>> {
    let limits = Limits { size_bytes_max: bytes.len(), ..Limits::default() };
    let Ok(Value::List(items)) = Value::parse(bytes, limits) else { return None };
    if items.len() > ITEMS_PER_MESSAGE_MAX {
        return None;
    }
    items.iter().map(|item| decode_one(node, item)).collect()
}

fn decode_one(node: NodeId, item: &Value) -> Option<(Entity, Observed)> {
    let item = item.as_map()?;
    let number = |key| match item.get(key)? {
        Value::I64(number) => u64::try_from(*number).ok(),
        Value::U64(number) => Some(*number),
        Value::Null
        | Value::Bool(_)
        | Value::F64(_)
        | Value::Text(_)
        | Value::List(_)
        | Value::Map(_) => None,
    };
    let of = match (item.get("device"), item.get("link")) {
        (Some(device), None) => Entity::Device(device.as_text()?.parse().ok()?),
        (None, Some(link)) => Entity::Link(link.as_text()?.parse().ok()?),
        (Some(_), Some(_)) | (None, None) => return None,
    };
    let body = Arc::new(item.get("body")?.as_map()?.clone());
    let (epoch, sequence) = (number("epoch")?, number("sequence")?);
    let link = match item.get("over") {
        Some(link) => Some(link.as_text()?.parse().ok()?),
        None => None,
    };
    Some((of, Observed { node, link, epoch, sequence, body }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(link: Option<&str>, epoch: u64, sequence: u64) -> Observed {
        let link = link.map(|link| link.parse().expect("an id"));
        Observed { node: NodeId::FOUNDER, link, epoch, sequence, body: Arc::default() }
    }

    #[test]
    fn a_moved_device_is_as_its_present_link_says_whatever_the_epochs() {
        let lamp = Entity::Device("lamp".parse().expect("an id"));
        let cases = [
            ("newer", Some("old"), (3, 1), Some("old"), (3, 2), true),
            ("older", Some("old"), (3, 2), Some("old"), (3, 1), false),
            ("another owner", Some("old"), (3, 2), Some("old"), (4, 1), true),
            ("moved to an older link", Some("new"), (900, 7), Some("old"), (3, 1), true),
            ("late from the former link", Some("old"), (3, 1), Some("new"), (900, 8), false),
            ("not said, newer", None, (3, 1), Some("old"), (4, 1), true),
            ("not said, older", Some("old"), (4, 1), None, (3, 1), false),
        ];
        let present: LinkId = "old".parse().expect("an id");
        for (what, known, (epoch, sequence), told, (told_epoch, told_sequence), taken) in cases {
            let table = ObservedTable::default();
            table.put(lamp.clone(), observed(known, epoch, sequence), Some(&present));
            let told = observed(told, told_epoch, told_sequence);
            assert_eq!(table.put(lamp.clone(), told.clone(), Some(&present)), taken, "{what}");
            assert_eq!(table.get(&lamp) == Some(told), taken, "{what}");
        }
    }

    #[test]
    fn a_message_says_over_which_link_and_one_that_does_not_is_understood() {
        let lamp = Entity::Device("lamp".parse().expect("an id"));
        for link in [Some("old"), None] {
            let told = observed(link, 3, 1);
            let message = Value::List(vec![encode(&lamp, &told)]).to_json();
            let heard = decode(NodeId::FOUNDER, message.as_bytes());
            assert_eq!(heard, Some(vec![(lamp.clone(), told)]), "{message}");
        }
        let wrong = r#"[{"device":"lamp","over":7,"epoch":1,"sequence":1,"body":{}}]"#;
        assert_eq!(decode(NodeId::FOUNDER, wrong.as_bytes()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_is_silent_since_it_last_told_anything() {
        let table = ObservedTable::default();
        let (one, other) = (NodeId::FOUNDER, NodeId::new(2).expect("a node"));
        tokio::time::advance(Duration::from_secs(40)).await;
        table.note_heard(one);
        tokio::time::advance(Duration::from_secs(40)).await;
        assert_eq!((table.silent_ms(one), table.silent_ms(other)), (40_000, 80_000));
        table.mark_all_of(other);
        assert_eq!(table.silent_ms(other), 0);
    }
}
