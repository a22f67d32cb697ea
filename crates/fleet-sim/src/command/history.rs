//! How long both judges take for a long history: one is made up, of operations that overlap and
//! are explained, and given to them.

use std::collections::BTreeMap;
use std::time::Instant;

use fleet_sim::invariants::{Floor, Heard, Histories, Linearizable, Wanted};
use fleet_sim::random::Random;
use fleet_state::ParamKey;

use super::number;

/// Clients, each with one operation at a time.
const CLIENTS: usize = 12;
/// Operations on one key: the general judge looks at the beginning of each key's history.
const OPERATIONS_PER_KEY: u64 = 250;

/// An operation under way.
struct Open {
    id: u64,
    key: ParamKey,
    floor: Floor,
    /// What its client will hear, once it has taken effect: index, and what a read saw.
    done: Option<(u64, Option<(u64, u64)>)>,
    writes: bool,
}

/// A register for each key, and who is under way.
#[derive(Default)]
struct Plant {
    index: u64,
    /// Revision and value of each key.
    last: BTreeMap<ParamKey, (u64, u64)>,
    order: Linearizable<ParamKey>,
    histories: Histories<ParamKey>,
}

/// Says whether the judges find what was made up explained.
///
/// # Errors
/// An option that isn't one.
pub(crate) fn history(mut args: impl Iterator<Item = String>) -> Result<bool, String> {
    let mut operations = 1_000_000;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--operations" => operations = number(&mut args, &arg)?,
            _ => return Err(format!("{arg:?} is no option")),
        }
    }
    let began = Instant::now();
    let mut plant = Plant::default();
    plant.work(operations).map_err(|violation| violation.to_string())?;
    let first = began.elapsed().as_secs_f64();
    plant.histories.check().map_err(|violation| violation.to_string())?;
    let all = began.elapsed().as_secs_f64();
    println!(
        "{operations} operations: by index and real time in {first:.1} s, {} of them by the general \
         judge in {:.1} s",
        plant.histories.judged(),
        all - first
    );
    Ok(true)
}

impl Plant {
    fn work(&mut self, operations: u64) -> Result<(), fleet_sim::Violation> {
        let mut random = Random::new(1);
        let keys = operations.div_ceil(OPERATIONS_PER_KEY).max(1);
        let mut clients: Vec<Option<Open>> = (0..CLIENTS).map(|_| None).collect();
        let mut begun = 0;
        while begun < operations || clients.iter().any(Option::is_some) {
            let at = usize::try_from(random.below(CLIENTS as u64)).unwrap_or(0);
            let Some(slot) = clients.get_mut(at) else { continue };
            match slot.take() {
                None if begun < operations => {
                    begun += 1;
                    *slot = Some(self.begin(begun, keys, &mut random));
                }
                None => {}
                Some(open) if open.done.is_none() => *slot = Some(self.take_effect(open)?),
                Some(open) => self.end(&open)?,
            }
        }
        Ok(())
    }

    fn begin(&mut self, id: u64, keys: u64, random: &mut Random) -> Open {
        // A few neighbouring keys at a time, so that operations on one key overlap.
        let around = id / (OPERATIONS_PER_KEY * 8) * 8 + random.below(8);
        let key: ParamKey = format!("key-{}", around % keys).parse().expect("a valid key");
        let writes = random.per_mille(500);
        let wanted = if writes { Wanted::Set { value: id, expected: None } } else { Wanted::Read };
        self.histories.begin(&key, id, wanted);
        Open { id, key, floor: self.order.begin(), done: None, writes }
    }

    fn take_effect(&mut self, mut open: Open) -> Result<Open, fleet_sim::Violation> {
        let before = self.last.get(&open.key).copied();
        if open.writes {
            self.index += 1;
            let previous = before.map(|(revision, _)| revision);
            self.order.changed(&open.key, self.index, previous, true)?;
            self.last.insert(open.key.clone(), (self.index, open.id));
        }
        open.done = Some((self.index, self.last.get(&open.key).copied()));
        Ok(open)
    }

    fn end(&mut self, open: &Open) -> Result<(), fleet_sim::Violation> {
        let Some((index, seen)) = open.done else { return Ok(()) };
        let heard = if open.writes {
            self.order.wrote(open.floor, index)?;
            Heard::Done(index)
        } else {
            self.order.read(open.floor, index, &open.key, seen.map(|(revision, _)| revision))?;
            Heard::Saw(seen.map(|(revision, value)| (value, revision)))
        };
        self.histories.end(&open.key, open.id, Some(heard));
        Ok(())
    }
}
