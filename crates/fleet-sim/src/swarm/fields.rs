//! Every choice of a swarm by name, so that a run with other choices can be asked for on a
//! command line, and so that a failing one can be made smaller.

use super::Swarm;
use crate::faults::Fault;

const FAULTS: &str = "faults";

macro_rules! fields {
    ($($name:literal => $($part:ident).+;)*) => {
        impl Swarm {
            /// All choices, by name.
            #[must_use]
            pub fn fields(&self) -> Vec<(&'static str, String)> {
                let words: Vec<&str> = self.faults.iter().map(|fault| fault.as_str()).collect();
                vec![(FAULTS, words.join(",")), $(($name, self.$($part).+.to_string())),*]
            }

            fn set_number(&mut self, name: &str, value: &str) -> Result<(), String> {
                match name {
                    $($name => {
                        self.$($part).+ =
                            value.parse().map_err(|_| format!("{name} can't be {value:?}"))?;
                    })*
                    _ => return Err(format!("nothing of a run is called {name:?}")),
                }
                Ok(())
            }
        }
    };
}

fields! {
    "nodes" => nodes;
    "voters" => voters;
    "salt" => salt;
    "strikes_max" => strikes_max;
    "safety_ms" => safety_ms;
    "fault_gap_ms_max" => fault_gap_ms_max;
    "snapshot_every_entries" => snapshot_every_entries;
    "snapshot_build_ms_max" => snapshot_build_ms_max;
    "uncommitted_bytes_max" => uncommitted_bytes_max;
    "append_bytes_max" => append_bytes_max;
    "segment_bytes" => segment_bytes;
    "cache_bytes" => cache_bytes;
    "frame_bytes_max" => frame_bytes_max;
    "links" => links;
    "devices_per_link" => devices_per_link;
    "drift_max" => drift_max;
    "ways" => ways;
    "network.delay_min_ms" => network.delay_min_ms;
    "network.delay_max_ms" => network.delay_max_ms;
    "network.in_order" => network.in_order;
    "network.loss" => network.loss;
    "network.duplicated" => network.duplicated;
    "network.replayed" => network.replayed;
    "network.corrupted" => network.corrupted;
    "network.refused" => network.refused;
    "network.late" => network.late;
    "network.late_ms_max" => network.late_ms_max;
    "second_way.delay_min_ms" => second_way.delay_min_ms;
    "second_way.delay_max_ms" => second_way.delay_max_ms;
    "second_way.in_order" => second_way.in_order;
    "second_way.loss" => second_way.loss;
    "second_way.duplicated" => second_way.duplicated;
    "second_way.replayed" => second_way.replayed;
    "second_way.corrupted" => second_way.corrupted;
    "second_way.refused" => second_way.refused;
    "second_way.late" => second_way.late;
    "second_way.late_ms_max" => second_way.late_ms_max;
    "workload.clients" => workload.clients;
    "workload.keys" => workload.keys;
    "workload.value_bytes_max" => workload.value_bytes_max;
    "workload.reads" => workload.reads;
    "workload.operations_max" => workload.operations_max;
    "workload.think_ms_max" => workload.think_ms_max;
}

impl Swarm {
    /// Chooses otherwise.
    ///
    /// # Errors
    /// There is no such choice, or no such value of it.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        if name != FAULTS {
            return self.set_number(name, value);
        }
        let words = value.split(',').filter(|word| !word.is_empty());
        self.faults = words.map(fault).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// What this swarm chooses otherwise than `drawn`, by name.
    #[must_use]
    pub fn differences(&self, drawn: &Self) -> Vec<(&'static str, String)> {
        let theirs = drawn.fields();
        self.fields().into_iter().filter(|field| !theirs.contains(field)).collect()
    }
}

fn fault(word: &str) -> Result<Fault, String> {
    let known = Fault::ALL.iter().copied().find(|fault| fault.as_str() == word);
    known.ok_or_else(|| format!("no fault is called {word:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn a_swarm_follows_from_its_fields() {
        for seed in 0..50 {
            let drawn = Swarm::draw(&mut Random::new(seed));
            let mut other = Swarm::quiet(3, 3);
            for (name, value) in drawn.fields() {
                other.set(name, &value).unwrap();
            }
            assert_eq!(other.fields(), drawn.fields());
            assert_eq!(other.differences(&drawn), []);
        }
    }

    #[test]
    fn what_is_no_choice_is_refused() {
        let mut swarm = Swarm::quiet(3, 3);
        for (name, value) in
            [("colour", "red"), ("nodes", "three"), ("faults", "kill,gremlins"), ("voters", "-1")]
        {
            assert!(swarm.set(name, value).is_err(), "{name}={value}");
        }
        assert!(swarm.set("faults", "").is_ok() && swarm.faults.is_empty());
    }
}
