//! Prints how long `apply` takes with a read view outstanding: `cargo run --release --example apply_rate`.
//!
//! A figure to look at, not a test: it depends on the machine.

use std::time::{Duration, Instant};

use fleet_state::{
    Body, Command, DeviceSpec, Entry, FleetState, FoundingMember, FoundingParams, NodeKeys, Object,
    Proposal, RequestId, Revision, SiteUid, Value,
};

const ENTITIES: u64 = 100_000;
const COMMANDS: u64 = 200_000;

fn founded() -> FleetState {
    FleetState::found(FoundingParams {
        site: "home".parse().expect("a valid name"),
        uid: SiteUid::from_bytes([1; 16]),
        site_public_key: [2; 32],
        member: FoundingMember {
            name: "gw-1".parse().expect("a valid name"),
            keys: NodeKeys { sign: [3; 32], exchange: [4; 32] },
            credential: [5; 64],
        },
        voters: 5,
        token: None,
        wall_time_ms: 0,
    })
}

/// Ids like those of real clients: UUIDs of version 7, ascending.
fn request_id(number: u64) -> RequestId {
    let mut bytes = [0u8; 16];
    bytes[..8].copy_from_slice(&(number << 20).to_be_bytes());
    bytes[6] = 0x70;
    bytes[8..].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    RequestId::from_uuid_bytes(bytes)
}

fn text(number: u64) -> Value {
    Value::from(format!("{number:0>126}"))
}

/// Applies commands, taking a view before each as the worst case, and prints the mean.
fn run(state: &mut FleetState, what: &str, count: u64, mut command: impl FnMut(u64) -> Command) {
    let mut spent = Duration::ZERO;
    for number in 0..count {
        let revision = Revision::new(state.last_applied().get() + 1);
        let proposal = Proposal {
            request_id: request_id(revision.get()),
            if_revision: None,
            actor: None,
            command: command(number),
        };
        let entry = Entry {
            log_time_ms: revision.get(),
            wall_time_ms: revision.get(),
            body: Body::Proposal(proposal),
        };
        let view = state.clone();
        let start = Instant::now();
        let applied = state.apply(revision, &entry);
        spent += start.elapsed();
        drop((applied, view));
    }
    println!("{what:<24} {:>8.2} us", spent.as_secs_f64() * 1e6 / count as f64);
}

fn main() {
    let mut state = founded();
    // A stride that is coprime to the number of entities, so that changes are spread over the maps.
    let spread = |number: u64| (number * 7_919) % ENTITIES;
    run(&mut state, "param set, new", ENTITIES, |number| Command::ParamSet {
        key: format!("hall.{}", spread(number)).parse().expect("a valid key"),
        value: text(number),
    });
    run(&mut state, "param set, known", COMMANDS, |number| Command::ParamSet {
        key: format!("hall.{}", spread(number)).parse().expect("a valid key"),
        value: text(number + 1),
    });
    run(&mut state, "device register", ENTITIES, |number| Command::DeviceRegister {
        id: format!("hall.lamp-{}", spread(number)).parse().expect("a valid id"),
        spec: DeviceSpec::default(),
    });
    run(&mut state, "device update", COMMANDS, |number| {
        let mut patch = Object::new();
        patch.insert("text", text(number));
        Command::DeviceUpdate {
            id: format!("hall.lamp-{}", spread(number)).parse().expect("a valid id"),
            patch,
        }
    });
    let start = Instant::now();
    let view = state.clone();
    println!("{:<24} {:>8.2} us", "clone", start.elapsed().as_secs_f64() * 1e6);
    drop(view);
}
