//! What the switch throws away, written as nftables rules on its bridge.
//!
//! A cut names machines, not addresses: all that goes from one cable to another is thrown away,
//! ARP and multicast as well, and nobody is told. Each cut counts what it has thrown away.

use std::net::Ipv4Addr;

use serde_json::Value;

/// Thousandths of all packets.
const ALL_PERMILLE: u32 = 1_000;

/// What goes from some machines to some others is thrown away; the other way is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    from: Vec<String>,
    to: Vec<String>,
    loss_permille: u32,
}

impl Cut {
    /// All that goes from these machines to those.
    pub fn one_way<N: AsRef<str>>(from: &[N], to: &[N]) -> Self {
        let names = |names: &[N]| names.iter().map(|name| name.as_ref().to_owned()).collect();
        Self { from: names(from), to: names(to), loss_permille: ALL_PERMILLE }
    }

    /// So many thousandths of what goes from these machines to those, by chance.
    #[must_use]
    pub fn some(self, loss_permille: u32) -> Self {
        Self { loss_permille, ..self }
    }

    /// Both ways between two groups.
    pub fn between<N: AsRef<str>>(these: &[N], those: &[N]) -> Vec<Self> {
        vec![Self::one_way(these, those), Self::one_way(those, these)]
    }

    /// Between all of these machines, but for the pairs (by place in the list) that stay joined.
    pub fn all_but<N: AsRef<str>>(names: &[N], joined: &[(usize, usize)]) -> Vec<Self> {
        let mut cuts = Vec::new();
        for (at, one) in names.iter().enumerate() {
            for (beyond, other) in names.iter().enumerate().skip(at + 1) {
                if !joined.contains(&(at, beyond)) && !joined.contains(&(beyond, at)) {
                    cuts.extend(Self::between(&[one.as_ref()], &[other.as_ref()]));
                }
            }
        }
        cuts
    }

    /// The first half from the second, and the machine in the middle of the list joined with all.
    pub fn bridge<N: AsRef<str>>(names: &[N]) -> Vec<Self> {
        let middle = names.len() / 2;
        let (first, rest) = names.split_at(middle);
        Self::between(first, rest.get(1..).unwrap_or_default())
    }

    /// Each is joined with its two neighbours only.
    pub fn ring<N: AsRef<str>>(names: &[N]) -> Vec<Self> {
        let count = names.len();
        let joined: Vec<_> = (0..count).map(|at| (at, (at + 1) % count.max(1))).collect();
        Self::all_but(names, &joined)
    }

    /// Two are joined with each other, and each of them with leaves of its own, as is said of
    /// five: the first with the third, the second with the fourth and the fifth.
    pub fn two_leaves<N: AsRef<str>>(names: &[N]) -> Vec<Self> {
        Self::all_but(names, &[(0, 1), (0, 2), (1, 3), (1, 4)])
    }
}

fn set(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    format!("{{ {} }}", quoted.join(", "))
}

/// The whole rule set: what stood there before is forgotten, in one step.
pub(super) fn rules(cuts: &[Cut]) -> String {
    let mut text = String::from("flush ruleset\ntable bridge faults {\n  chain forward {\n");
    text.push_str("    type filter hook forward priority 0; policy accept;\n");
    for cut in cuts {
        let chance = match cut.loss_permille {
            ALL_PERMILLE => String::new(),
            some => format!("numgen random mod {ALL_PERMILLE} < {some} "),
        };
        let (from, to) = (set(&cut.from), set(&cut.to));
        text.push_str(&format!("    iifname {from} oifname {to} {chance}counter drop\n"));
    }
    text.push_str("  }\n}\n");
    text
}

/// Rules for one machine: connections to that address are reset.
pub(super) fn refusal(of: Ipv4Addr) -> String {
    format!(
        "flush ruleset\ntable inet faults {{\n  chain output {{\n    \
         type filter hook output priority 0; policy accept;\n    \
         ip daddr {of} meta l4proto tcp counter reject with tcp reset\n  }}\n}}\n"
    )
}

/// What was thrown away, by the cuts in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fired {
    /// Packets that each has thrown away.
    pub packets: Vec<u64>,
}

impl Fired {
    /// From what `nft -j list ruleset` says.
    pub(super) fn read(text: &str) -> Self {
        let said: Value = serde_json::from_str(text).expect("nft says it in JSON");
        let items = said.get("nftables").and_then(Value::as_array).into_iter().flatten();
        let rules = items.filter_map(|item| item.pointer("/rule/expr")?.as_array());
        let counted = rules.map(|parts| {
            let counts = parts.iter().find_map(|part| part.pointer("/counter/packets")?.as_u64());
            counts.expect("each rule counts")
        });
        Self { packets: counted.collect() }
    }

    /// Packets that all have thrown away.
    pub fn total(&self) -> u64 {
        self.packets.iter().sum()
    }

    /// Whether each has thrown something away.
    pub fn is_all(&self) -> bool {
        self.packets.iter().all(|packets| *packets > 0)
    }

    /// Checks that each has thrown something away.
    ///
    /// # Panics
    /// If one has not: that fault did not fire.
    pub fn expect_all(&self) {
        assert!(self.is_all(), "a cut threw nothing away, so it did not fire: {:?}", self.packets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIVE: [&str; 5] = ["n1", "n2", "n3", "n4", "n5"];

    /// The pairs that can still talk, each way for itself.
    fn open(cuts: &[Cut]) -> Vec<(usize, usize)> {
        let mut open = Vec::new();
        for (from, one) in FIVE.iter().enumerate() {
            for (to, other) in FIVE.iter().enumerate().filter(|(to, _)| *to != from) {
                let is = |names: &[String], name: &str| names.iter().any(|held| held == name);
                if !cuts.iter().any(|cut| is(&cut.from, one) && is(&cut.to, other)) {
                    open.push((from, to));
                }
            }
        }
        open
    }

    fn both(pairs: &[(usize, usize)]) -> Vec<(usize, usize)> {
        let mut both: Vec<_> = pairs.iter().flat_map(|(a, b)| [(*a, *b), (*b, *a)]).collect();
        both.sort_unstable();
        both
    }

    #[test]
    fn shapes_leave_open_what_their_names_say() {
        let split = Cut::between(&FIVE[..2], &FIVE[2..]);
        assert_eq!(open(&split), both(&[(0, 1), (2, 3), (2, 4), (3, 4)]));
        let bridge = Cut::bridge(&FIVE);
        assert_eq!(open(&bridge), both(&[(0, 1), (0, 2), (1, 2), (2, 3), (2, 4), (3, 4)]));
        let ring = Cut::ring(&FIVE);
        assert_eq!(open(&ring), both(&[(0, 1), (1, 2), (2, 3), (3, 4), (0, 4)]));
        assert_eq!(open(&Cut::two_leaves(&FIVE)), both(&[(0, 1), (0, 2), (1, 3), (1, 4)]));
        let one_way = [Cut::one_way(&FIVE[..1], &FIVE[1..])];
        assert_eq!(open(&one_way).iter().filter(|(from, _)| *from == 0).count(), 0);
        assert_eq!(open(&one_way).iter().filter(|(_, to)| *to == 0).count(), 4);
    }

    #[test]
    fn rules_say_whose_packets_and_how_many() {
        let cuts = [Cut::one_way(&["n1"], &["n2", "n3"]), Cut::one_way(&["n2"], &["n1"]).some(300)];
        let text = rules(&cuts);
        assert!(text.contains("iifname { \"n1\" } oifname { \"n2\", \"n3\" } counter drop\n"));
        assert!(text.contains("oifname { \"n1\" } numgen random mod 1000 < 300 counter drop\n"));
        assert!(text.starts_with("flush ruleset\n"));
    }

    #[test]
    fn counts_are_read_rule_by_rule() {
        let text = r#"{"nftables": [{"metainfo": {}}, {"chain": {"name": "forward"}},
            {"rule": {"expr": [{"match": {}}, {"counter": {"packets": 3, "bytes": 9}}, {"drop": null}]}},
            {"rule": {"expr": [{"counter": {"packets": 0, "bytes": 0}}]}}]}"#;
        let fired = Fired::read(text);
        assert_eq!((fired.packets.as_slice(), fired.total()), ([3, 0].as_slice(), 3));
        assert!(!fired.is_all());
    }
}
