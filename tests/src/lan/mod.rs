//! A network of its own: a switch, and machines behind it that have addresses of their own.
//!
//! Each machine is a network namespace with one interface; the switch is a bridge in another.
//! Nothing of it touches the network of the machine that runs the tests, so two of these never
//! meet, and the same addresses are used in all. A test reaches an agent inside by its Unix
//! socket, which knows no network, or by a thread that goes inside ([`Machine::enter`]); so it
//! sees a site whatever it does to the network between the gateways.
//!
//! - [`Lan`]: lays the network, and takes it away on drop, also after a panic.
//! - [`machine::Machine`]: starts programs inside.
//! - [`cuts`]: what the switch throws away, and how much of it there was: the proof that a fault
//!   has fired.
//! - `leftovers`: what a killed run has left is found by the id of its process, and removed.
//!
//! It takes root, `ip` and `tc` (iproute2), `nsenter` (util-linux) and `nft` (nftables, fetched by
//! `deploy/faults/fetch-fault-tools.py`). Where one of them is missing the test is not run, and
//! says so ([`crate::not_run`]).

pub mod cuts;
mod leftovers;
pub mod machine;
mod tools;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::lan::cuts::{Cut, Fired};
use crate::lan::machine::Machine;
use crate::lan::tools::{Tools, run};
use crate::not_run;

/// The bridge inside the switch.
const BRIDGE: &str = "switch";
/// The network of all these: private, and used by nobody's configuration.
const NETWORK: [u8; 3] = [10, 213, 7];
/// The address of the switch, where machines send what they know no way for.
const SWITCH_NUMBER: u8 = 254;

static LAID: AtomicU32 = AtomicU32::new(0);

/// A network with its machines.
#[derive(Debug)]
pub struct Lan {
    tools: Tools,
    prefix: String,
    switch: Machine,
    machines: BTreeMap<String, Machine>,
    next_number: u8,
}

/// What went through a machine's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that it has received, with headers.
    pub received_bytes: u64,
    /// Bytes that it has sent, with headers.
    pub sent_bytes: u64,
}

impl Lan {
    /// Lays a network without machines; `None` if this machine can't have one, said loudly.
    ///
    /// # Panics
    /// If it should be possible and is not.
    pub fn lay() -> Option<Self> {
        let tools = match Tools::find() {
            Ok(tools) => tools,
            Err(why) => {
                not_run::say(&format!("no network namespaces: {why}"));
                return None;
            }
        };
        leftovers::remove();
        let number = LAID.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{}{number}-", leftovers::prefix_of(std::process::id()));
        let address = Self::address(SWITCH_NUMBER);
        let switch = Machine::new(&prefix, BRIDGE, address);
        // From here on it is taken away on drop.
        let lan = Self { tools, prefix, switch, machines: BTreeMap::new(), next_number: 1 };
        lan.switch.make();
        let ip = |arguments: &str| lan.switch.ip(arguments);
        ip("link set lo up");
        // Without spanning tree and snooping it forwards at once, also what goes to everybody.
        ip(&format!("link add {BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"));
        ip(&format!("addr add {address}/24 dev {BRIDGE}"));
        ip(&format!("link set dev {BRIDGE} up"));
        Some(lan)
    }

    fn address(number: u8) -> Ipv4Addr {
        let [a, b, c] = NETWORK;
        Ipv4Addr::new(a, b, c, number)
    }

    /// Connects another machine to the switch. The name is at most twelve letters and digits.
    pub fn add(&mut self, name: &str) -> Machine {
        let address = Self::address(self.next_number);
        self.next_number += 1;
        let machine = Machine::new(&self.prefix, name, address);
        self.machines.insert(name.to_owned(), machine.clone());
        machine.make();
        machine.ip("link set lo up");
        let switch = self.switch.namespace();
        machine.ip(&format!("link add eth0 type veth peer name {name} netns {switch}"));
        self.switch.ip(&format!("link set dev {name} master {BRIDGE} up"));
        machine.ip("link set eth0 up");
        self.give(&machine);
        machine
    }

    fn give(&self, machine: &Machine) {
        machine.ip(&format!("addr add {}/24 dev eth0", machine.address()));
        machine.ip(&format!("route add default via {}", self.switch.address()));
    }

    /// A machine by its name.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn machine(&self, name: &str) -> &Machine {
        self.machines.get(name).unwrap_or_else(|| panic!("no machine is called {name}"))
    }

    /// Takes a machine's address away and gives it another, as a new router would.
    pub fn readdress(&mut self, name: &str) -> Machine {
        let old = self.machine(name).clone();
        let moved = old.at(Self::address(self.next_number));
        self.next_number += 1;
        moved.ip(&format!("addr del {}/24 dev eth0", old.address()));
        self.give(&moved);
        self.machines.insert(name.to_owned(), moved.clone());
        moved
    }

    /// Pulls a machine's cable; `up` puts it back. Both ends see it.
    pub fn plug(&self, name: &str, up: bool) {
        let state = if up { "up" } else { "down" };
        self.switch.ip(&format!("link set dev {} {state}", self.machine(name).name()));
    }

    /// How often a machine's cable was pulled or put back.
    pub fn plugged(&self, name: &str) -> u64 {
        self.machine(name).count("carrier_changes")
    }

    /// What went through a machine's interface so far.
    pub fn traffic(&self, name: &str) -> Traffic {
        let machine = self.machine(name);
        Traffic {
            received_bytes: machine.count("statistics/rx_bytes"),
            sent_bytes: machine.count("statistics/tx_bytes"),
        }
    }

    /// From now on a machine's cable carries no more than so many kilobits a second, each way, and
    /// holds what it can't carry at once for `held_ms` at most before it throws it away. `false`,
    /// said loudly, where the kernel can't do that.
    pub fn narrow(&self, name: &str, kbit_per_s: u32, held_ms: u32) -> bool {
        let machine = self.machine(name);
        // One large packet at a time; what the system sends in one piece is cut up by the queue.
        let queue = format!("root tbf rate {kbit_per_s}kbit burst 2kb latency {held_ms}ms");
        let made = machine
            .try_tc(&format!("qdisc replace dev eth0 {queue}"))
            .and_then(|()| self.switch.try_tc(&format!("qdisc replace dev {name} {queue}")));
        if let Err(why) = &made {
            not_run::say(&format!("no cable can be made narrow: {why}"));
        }
        made.is_ok()
    }

    /// A machine's cable is as wide as before. Gives how many packets the narrow one has thrown
    /// away or made wait.
    ///
    /// # Panics
    /// If there was not a single one: that fault did not fire.
    pub fn widen(&self, name: &str) -> u64 {
        let held = self.held(name);
        self.machine(name).tc("qdisc del dev eth0 root");
        self.switch.tc(&format!("qdisc del dev {name} root"));
        assert!(held > 0, "the cable of {name} was never too narrow, so the fault did not fire");
        held
    }

    /// Packets that a narrow cable has thrown away or made wait so far.
    pub fn held(&self, name: &str) -> u64 {
        let ends = [(self.machine(name), "eth0"), (&self.switch, name)];
        let counts = ends.into_iter().map(|(machine, device)| {
            let text = machine.tc(&format!("-s -j qdisc show dev {device}"));
            let said: serde_json::Value = serde_json::from_str(&text).expect("tc says it in JSON");
            let queue = said.get(0).cloned().unwrap_or_default();
            let count = |what: &str| queue.get(what).and_then(serde_json::Value::as_u64);
            count("overlimits").unwrap_or(0) + count("drops").unwrap_or(0)
        });
        counts.sum()
    }

    /// From now on the switch throws this away, and nothing else.
    pub fn cut(&self, cuts: &[Cut]) {
        self.load(&cuts::rules(cuts));
    }

    /// The switch throws nothing away any more. Gives what each cut has thrown away since it
    /// was made.
    ///
    /// # Panics
    /// If one of them has not thrown away a single packet: that fault did not fire.
    pub fn heal(&self) -> Fired {
        let fired = self.fired();
        self.load(&cuts::rules(&[]));
        fired.expect_all();
        fired
    }

    /// What each cut has thrown away so far.
    pub fn fired(&self) -> Fired {
        Fired::read(&self.nft(&self.switch, &["-j", "list", "ruleset"]))
    }

    /// From now on whatever one machine sends another by TCP is answered with a reset, as by a
    /// machine on which nobody listens; also on connections that stand.
    pub fn refuse(&self, on: &str, to: &str) {
        let rules = cuts::refusal(self.machine(to).address());
        self.nft(self.machine(on), &[&rules]);
    }

    /// Refuses nothing any more. Gives how many packets were refused.
    ///
    /// # Panics
    /// If there was not a single one: that fault did not fire.
    pub fn refuse_no_more(&self, on: &str) -> Fired {
        let machine = self.machine(on);
        let fired = Fired::read(&self.nft(machine, &["-j", "list", "ruleset"]));
        self.nft(machine, &["flush ruleset"]);
        fired.expect_all();
        fired
    }

    fn load(&self, rules: &str) {
        self.nft(&self.switch, &[rules]);
    }

    fn nft(&self, on: &Machine, arguments: &[&str]) -> String {
        let mut command = on.command(&self.tools.nft);
        command.args(arguments);
        run(command)
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for machine in self.machines.values().chain([&self.switch]) {
            machine.remove();
        }
    }
}
