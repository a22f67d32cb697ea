//! A crash at every call to the disk, with every sort of loss, also while opening: what was synced
//! is there, and nothing else but the whole batch that was on its way.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

mod support;

use fleet_log::{
    Disk, DiskFault, DiskFile, HardState, Log, LogConfig, LogError, MemoryDisk, OpenError, Position,
};
use support::model::{Call, Model};
use support::{CONFIG, Contents, IDENTITY, contents, entries, entry, new_log, reopen};

const SMALL: LogConfig = LogConfig { segment_bytes: 1024, cache_bytes: 256 };
const CUTS: u64 = 12;

fn workload() -> Vec<Call> {
    let mut calls = Vec::new();
    for round in 0..6 {
        calls.push(Call::Append { back: round % 3, count: 3, newer_term: round % 2 == 0 });
        calls.push(Call::HardState { terms: 1, vote: round % 3, commits: 2 });
        calls.push(Call::Sync);
        calls.push(Call::Append { back: 1, count: 2, newer_term: true });
        calls.push(Call::Append { back: 0, count: 6 * (round % 2), newer_term: false });
        calls.push(if round % 3 == 2 { Call::Mark } else { Call::Sync });
        calls.push(Call::Compact { ahead: if round == 3 { 9 } else { 0 } });
    }
    calls.push(Call::Reset { ahead: 7 });
    calls.push(Call::Append { back: 0, count: 3, newer_term: false });
    calls.push(Call::Sync);
    calls.push(Call::Compact { ahead: 2 });
    calls
}

const EMPTY: Contents = Contents {
    start: Position { index: 0, term: 0 },
    hard_state: HardState { term: 0, vote: 0, commit: 0 },
    entries: Vec::new(),
};

/// Runs the workload until the disk fails. `None` if even the log could not be made.
fn run(disk: &MemoryDisk) -> Option<Model> {
    let start = Position::default();
    let mut log = Log::create(disk.clone(), IDENTITY, SMALL, start, HardState::default()).ok()?;
    let mut model = Model::new(EMPTY);
    for call in workload() {
        if model.call(&mut log, &call).is_err() {
            assert!(matches!(log.sync(), Err(LogError::Poisoned)));
            break;
        }
    }
    Some(model)
}

fn open(disk: &MemoryDisk) -> Result<Contents, OpenError> {
    Log::open(disk.clone(), IDENTITY, SMALL).map(|(log, _)| contents(&log))
}

fn calls_of_workload() -> u64 {
    let disk = MemoryDisk::new();
    let model = run(&disk).unwrap();
    assert_eq!(model.now, model.synced, "the workload ends with everything synced");
    disk.calls()
}

#[test]
fn a_crash_at_any_call_loses_nothing_that_was_synced() {
    let total = calls_of_workload();
    assert!(total > 60, "{total}");
    for call in 0..total {
        for fault in [DiskFault::Stop, DiskFault::Io, DiskFault::NoSpace, DiskFault::ShortWrite] {
            let disk = MemoryDisk::new();
            disk.plan_fault(call, fault);
            let model = run(&disk);
            assert_eq!(disk.faults_fired(), 1);
            for seed in 0..CUTS {
                let disk = disk.fork();
                // The first one is a killed process: no power is cut.
                if seed > 0 {
                    disk.power_cut(seed);
                }
                match (&model, open(&disk)) {
                    (Some(model), Ok(found)) => model.clone().settle(found, true),
                    (None, Ok(found)) => assert_eq!(found, EMPTY),
                    (None, Err(OpenError::Empty)) => {}
                    (_, Err(error)) => panic!("call {call}, {fault:?}, cut {seed}: {error}"),
                }
            }
        }
    }
}

#[test]
fn a_crash_while_opening_loses_nothing_either() {
    let total = calls_of_workload();
    let mut opened_again = 0;
    for call in 10..total {
        let disk = MemoryDisk::new();
        disk.plan_fault(call, DiskFault::Stop);
        let model = run(&disk).unwrap();
        for seed in 0..CUTS {
            let crashed = disk.fork();
            crashed.power_cut(seed);
            let first = open(&crashed.fork()).unwrap();
            for step in 0.. {
                let again = crashed.fork();
                again.plan_fault(again.calls() + step, DiskFault::Stop);
                if open(&again).is_ok() {
                    break;
                }
                opened_again += 1;
                again.power_cut(seed + step);
                let found = open(&again).unwrap();
                assert_eq!(found, first, "call {call}, cut {seed}, step {step}");
                model.clone().settle(found, true);
            }
        }
    }
    assert!(opened_again > 1000, "{opened_again}");
}

#[test]
fn what_a_killed_process_wrote_is_durable_once_it_was_opened() {
    let disk = MemoryDisk::new();
    let mut log = new_log(&disk);
    log.append(&entries(1..=3, 1)).unwrap();
    log.sync().unwrap();
    log.append(&entries(4..=6, 1)).unwrap();
    // Killed between the write and the sync of the batch.
    disk.plan_fault(disk.calls() + 1, DiskFault::Stop);
    log.sync().unwrap_err();
    let disk = disk.fork();
    let (log, recovery) = reopen(&disk);
    assert_eq!((log.last_index(), recovery.cut), (6, None));
    for seed in 0..CUTS {
        let disk = disk.fork();
        disk.power_cut(seed);
        assert_eq!(reopen(&disk).0.last_index(), 6, "cut {seed}");
    }
}

#[test]
fn a_failed_sync_is_not_believed_afterwards() {
    let disk = MemoryDisk::new();
    let mut log = new_log(&disk);
    log.append(&entries(1..=3, 1)).unwrap();
    log.sync().unwrap();
    log.append(&entries(4..=6, 1)).unwrap();
    disk.plan_fault(disk.calls() + 1, DiskFault::Io);
    assert!(matches!(log.sync(), Err(LogError::Storage { action: "sync", .. })));
    assert!(matches!(log.sync(), Err(LogError::Poisoned)));
    assert!(matches!(log.append(&[entry(7, 1)]), Err(LogError::Poisoned)));
    assert!(matches!(log.entries(1, 2, 0), Err(LogError::Poisoned)));
    let (log, _) = reopen(&disk);
    assert_eq!(log.last_index(), 3, "the page cache showed what the disk never got");
}

#[test]
fn a_full_disk_keeps_what_it_has_and_goes_on_when_freed() {
    let disk = MemoryDisk::new();
    disk.set_capacity_bytes(Some(4 * CONFIG.segment_bytes));
    let mut log = new_log(&disk);
    let mut synced = 0;
    let error = loop {
        log.append(&[entry(synced + 1, 1)]).unwrap();
        match log.sync() {
            Ok(()) => synced += 1,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(&error, LogError::Storage { source, .. }
            if source.kind() == std::io::ErrorKind::StorageFull),
        "{error}"
    );
    let (log, recovery) = reopen(&disk);
    assert_eq!((log.last_index(), recovery.cut), (synced, None));
    drop(log);
    disk.set_capacity_bytes(None);
    let (mut log, _) = reopen(&disk);
    log.append(&[entry(synced + 1, 1)]).unwrap();
    log.sync().unwrap();
    assert_eq!(reopen(&disk).0.last_index(), synced + 1);
}

#[test]
fn bytes_of_a_torn_batch_never_come_alive() {
    // A long batch is torn, then shorter ones are written over its place: its end would fit on.
    let disk = MemoryDisk::new();
    let mut log = new_log(&disk);
    log.append(&entries(1..=2, 1)).unwrap();
    log.sync().unwrap();
    let end = disk.contents("0000000001.seg").unwrap();
    let end = end.iter().rposition(|byte| *byte != 0).unwrap();
    log.append(&entries(3..=12, 1)).unwrap();
    log.sync().unwrap();
    drop(log);
    // Its beginning is lost.
    disk.flip("0000000001.seg", end + 24, 0xff);
    let (mut log, recovery) = reopen(&disk);
    assert!(recovery.cut.is_some());
    assert_eq!(log.last_index(), 2);
    log.append(&entries(3..=3, 2)).unwrap();
    log.sync().unwrap();
    disk.power_cut(1);
    let (log, recovery) = reopen(&disk);
    assert_eq!((log.last_index(), recovery.cut), (3, None));
}

#[test]
fn the_lying_disk_lies() {
    let disk = MemoryDisk::new();
    let mut file = disk.create("a").unwrap();
    disk.sync_dir().unwrap();
    file.write_at(0, &[1; 4096]).unwrap();
    file.sync_data().unwrap();
    file.write_at(0, &[2; 4096]).unwrap();
    let (mut old, mut new, mut mixed) = (0, 0, 0);
    for seed in 0..40 {
        let disk = disk.fork();
        disk.power_cut(seed);
        let bytes = disk.contents("a").unwrap();
        assert!(bytes.iter().all(|byte| [1, 2].contains(byte)));
        match bytes.iter().filter(|byte| **byte == 2).count() {
            0 => old += 1,
            4096 => new += 1,
            _ => mixed += 1,
        }
    }
    assert!(old > 0 && new > 0 && mixed > 0, "{old} {new} {mixed}");
    disk.create("b").unwrap();
    let kept = (0..40).filter(|seed| {
        let disk = disk.fork();
        disk.power_cut(*seed);
        disk.contents("b").is_some()
    });
    let kept = kept.count();
    assert!(kept > 0 && kept < 40, "{kept}");
    disk.power_cut(0);
    file.size_bytes().unwrap_err();
}
