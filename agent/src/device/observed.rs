//! What is known of devices without being agreed on: what they said, and how they stand.
//!
//! The owner of a link puts what it hears into the table and tells the other nodes, coalesced
//! per device; everybody keeps the newest by (epoch, sequence), so a former owner's words never
//! cover those of the present one. Queries show the table of the node that is asked: it may be
//! behind, or lack what was lost on the way, and the next report mends it. Nothing in here can
//! change replicated state.
//!
//! What is known of a device or a link is an object, in the form in which it is shown. Bounds: as many
//! devices as the state holds, and [`BODY_BYTES_MAX`] for each.

use std::sync::Arc;

use dashmap::DashMap;
use fleet_protocol::event::ForeignWrite;
use fleet_protocol::query::ObservedDevices;
use fleet_state::{DeviceId, Entity, Limits, LinkId, NodeId, Object, Value};
use tokio::sync::{Notify, broadcast};

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
        let (known, changed) = (DashMap::new(), DashMap::new());
        Self(Arc::new(Table { known, changed, said, news: Notify::new(), foreign }))
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

    /// Takes what is newer than what is known; says whether it was.
    pub fn put(&self, of: Entity, observed: Observed) -> bool {
        let newer =
            |known: &Observed| (observed.epoch, observed.sequence) > (known.epoch, known.sequence);
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
    pub(super) fn put_own(&self, of: Entity, observed: Observed) {
        if self.put(of.clone(), observed.clone()) {
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

    /// Marks everything that this node said to be told again.
    pub(super) fn mark_all_of(&self, node: NodeId) {
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
    }
}

impl ObservedDevices for ObservedTable {
    fn observed(&self, device: &DeviceId) -> Option<Object> {
        self.device(device).map(shown)
    }

    fn observed_link(&self, link: &LinkId) -> Option<Object> {
        self.get(&Entity::Link(link.clone())).map(shown)
    }
}

/// What is known, and who says so.
fn shown(observed: Observed) -> Object {
    let Observed { node, epoch, body, .. } = observed;
    let mut shown = body.as_ref().clone();
    shown.insert("node", node.get());
    shown.insert("epoch", epoch);
    shown
}

/// The message that tells other nodes what is known of something.
#[must_use]
pub(super) fn encode(of: &Entity, observed: &Observed) -> Value {
    let mut message = Object::new();
    message.insert(of.kind(), of.id_text());
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
    Some((of, Observed { node, epoch, sequence, body }))
}
