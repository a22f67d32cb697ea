//! Prints how long `apply` takes with a read view outstanding: `cargo run --release --example apply_rate`.
//!
//! A figure to look at, not a test: it depends on the machine.

use std::time::{Duration, Instant};

use fleet_state::{
    Body, Command, DeviceSpec, Entry, FleetState, FoundingMember, FoundingParams, NodeKeys, Object,
    Proposal, RequestId, Revision, SiteUid, Value,
};

const ENTITIES: u64 = 100_000;

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
        feature_level: fleet_state::limits::FEATURE_LEVEL,
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

/// Applies commands, taking a read view before every `batch` of them, and gives the mean in microseconds.
fn run(state: &mut FleetState, batch: u64, count: u64, command: &dyn Fn(u64) -> Command) -> f64 {
    let mut spent = Duration::ZERO;
    for first in (0..count).step_by(batch as usize) {
        let entries: Vec<(Revision, Entry)> =
            (first..first + batch).map(|number| entry(state, number, first, command)).collect();
        let view = state.clone();
        let start = Instant::now();
        let applied: Vec<_> =
            entries.iter().map(|(revision, entry)| state.apply(*revision, entry)).collect();
        spent += start.elapsed();
        drop((applied, view));
    }
    spent.as_secs_f64() * 1e6 / count as f64
}

fn entry(
    state: &FleetState,
    number: u64,
    first: u64,
    command: &dyn Fn(u64) -> Command,
) -> (Revision, Entry) {
    let revision = Revision::new(state.last_applied().get() + 1 + number - first);
    let proposal = Proposal {
        request_id: request_id(revision.get()),
        if_revision: None,
        actor: None,
        command: command(number),
    };
    (
        revision,
        Entry {
            log_time_ms: revision.get(),
            wall_time_ms: revision.get(),
            body: Body::Proposal(proposal),
        },
    )
}

fn report(state: &mut FleetState, what: &str, command: &dyn Fn(u64) -> Command) {
    let one = run(state, 1, ENTITIES, command);
    let many = run(state, 32, ENTITIES, &|number| command(number + 1));
    println!(
        "{what:<18} {one:>6.2} us with a view per entry, {many:>6.2} us with a view per 32 entries"
    );
}

fn main() {
    let mut state = founded();
    // A stride that is coprime to the number of entities, so that changes are spread over the maps.
    let made = std::cell::Cell::new(0);
    let text = || {
        made.set(made.get() + 1);
        Value::from(format!("{:0>126}", made.get()))
    };
    let spread = |number: u64| (number * 7_919) % ENTITIES;
    let set = |number: u64| Command::ParamSet {
        key: format!("hall.{}", spread(number)).parse().expect("a valid key"),
        value: text(),
    };
    let register = |number: u64| Command::DeviceRegister {
        id: format!("hall.lamp-{}", spread(number)).parse().expect("a valid id"),
        spec: DeviceSpec::default(),
    };
    let update = |number: u64| {
        let mut patch = Object::new();
        patch.insert("text", text());
        Command::DeviceUpdate {
            id: format!("hall.lamp-{}", spread(number)).parse().expect("a valid id"),
            patch,
            ttl_ms: None,
        }
    };
    run(&mut state, 32, ENTITIES, &set);
    run(&mut state, 32, ENTITIES, &register);
    report(&mut state, "param set", &set);
    report(&mut state, "device update", &update);
}
