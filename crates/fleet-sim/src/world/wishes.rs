//! What clients wish for: writes of every kind, and reads.

use std::sync::Arc;

use fleet_state::{
    BatchItem, Command, DeviceId, DeviceSpec, Object, ParamKey, Proposal, RequestId, Revision,
    Value,
};

use super::World;
use super::clients::Wish;
use crate::node::WALL_START_MS;
use crate::random::Random;

/// Writes that want something of a device on a link, of a thousand, where there are links.
const DEVICE_COMMANDS: u64 = 500;

impl World {
    pub(super) fn draw_wish(&mut self, number: u64) -> Wish {
        let workload = self.clients.workload.clone();
        let key = draw_key(&mut self.random, workload.keys);
        if self.random.per_mille(workload.reads) {
            return Wish::Read(key);
        }
        let request_id = self.request_id();
        let mut if_revision = None;
        if self.swarm.links > 0
            && self.random.per_mille(DEVICE_COMMANDS)
            && let Some(command) = self.draw_device_command(number, &request_id)
        {
            return Wish::Write(Proposal { request_id, if_revision, actor: None, command });
        }
        let command = match self.random.below(20) {
            0..=9 => Command::ParamSet { key, value: self.draw_value(number) },
            10..=12 => {
                // Some of these preconditions hold, some don't.
                let last = self.invariants.order.value_at(&key, u64::MAX).unwrap_or(0);
                if_revision = Some(Revision::new(last));
                Command::ParamSet { key, value: self.draw_value(number) }
            }
            13 => Command::ParamDelete { key },
            14 => {
                let id = draw_device(&mut self.random, workload.keys);
                let name: Arc<str> = format!("device {number}").into();
                Command::DeviceRegister { id, spec: DeviceSpec { name, ..DeviceSpec::default() } }
            }
            15 | 16 => {
                let id = draw_device(&mut self.random, workload.keys);
                Command::DeviceUpdate { id, patch: patch(number), ttl_ms: None }
            }
            17 => Command::DeviceReplace {
                id: draw_device(&mut self.random, workload.keys),
                desired: patch(number),
                ttl_ms: None,
            },
            _ => self.draw_batch(number),
        };
        Wish::Write(Proposal { request_id, if_revision, actor: None, command })
    }

    fn draw_batch(&mut self, number: u64) -> Command {
        let keys = self.clients.workload.keys;
        let count = self.random.between(1, 4);
        let items = (0..count).map(|_| {
            let key = draw_key(&mut self.random, keys);
            // Some of these hold; where one doesn't, nothing of the batch is done.
            let last = self.invariants.order.value_at(&key, u64::MAX).unwrap_or(0);
            let wanted = if self.random.per_mille(200) { last + 1 } else { last };
            BatchItem {
                if_revision: self.random.per_mille(300).then(|| Revision::new(wanted)),
                command: Command::ParamSet { key, value: Value::from(number) },
            }
        });
        Command::Batch(items.collect())
    }

    fn draw_value(&mut self, number: u64) -> Value {
        let bytes = self.random.below(self.clients.workload.value_bytes_max);
        let mut value = Object::new();
        value.insert("operation", number);
        value.insert("filler", "x".repeat(usize::try_from(bytes).unwrap_or(0)));
        Value::from(value)
    }

    /// A UUIDv7 by the clients' clock, which is right.
    pub(super) fn request_id(&mut self) -> RequestId {
        let mut bytes: [u8; 16] = self.random.bytes();
        let wall_ms = WALL_START_MS + self.passed_ms();
        let [_, _, time @ ..] = wall_ms.to_be_bytes();
        for (to, from) in bytes.iter_mut().zip(time) {
            *to = from;
        }
        let [_, _, _, _, _, _, version, _, variant, ..] = &mut bytes;
        *version = 0x70 | (*version & 0x0f);
        *variant = 0x80 | (*variant & 0x3f);
        RequestId::from_uuid_bytes(bytes)
    }
}

fn draw_key(random: &mut Random, keys: u64) -> ParamKey {
    let key = format!("area.param-{}", random.below(keys));
    key.parse().expect("a valid key")
}

fn draw_device(random: &mut Random, keys: u64) -> DeviceId {
    let id = format!("hall.device-{}", random.below(keys));
    id.parse().expect("a valid id")
}

fn patch(number: u64) -> Object {
    let mut patch = Object::new();
    patch.insert("operation", number);
    patch.insert("on", number.is_multiple_of(2));
    patch
}
