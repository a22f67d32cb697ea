//! Every byte of a small log flipped, every file truncated anywhere, sectors zeroed and swapped:
//! what opens afterwards holds the truth, or lacks the last batch and says so.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

mod support;

use fleet_log::{Disk, Log, MemoryDisk, OpenError, check};
use support::{CONFIG, Contents, IDENTITY, Small, contents, entry, small_log};

/// What became of a damaged log.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Refused,
    /// Opened with all its contents; says whether something was cut.
    Whole {
        cut: bool,
    },
    /// Opened without its last batch, and said so.
    LastBatchCut,
}

/// Opens a damaged log, checks that it tells the truth and can be used, and says what became of it.
fn open_damaged(small: &Small, disk: &MemoryDisk, what: &str) -> Fate {
    let names = disk.list().unwrap();
    let looked_at = check(disk, IDENTITY);
    let opened = Log::open(disk.clone(), IDENTITY, CONFIG);
    assert_eq!(looked_at.is_ok(), opened.is_ok(), "{what}: check and open disagree");
    let (mut log, recovery) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            assert_eq!(disk.list().unwrap(), names, "{what}: a file was removed");
            assert!(!matches!(error, OpenError::Storage { .. }), "{what}: {error}");
            return Fate::Refused;
        }
    };
    let found = contents(&log);
    let cut = recovery.cut.is_some();
    let fate = if found == small.whole {
        Fate::Whole { cut }
    } else if found == small.before_last && cut {
        Fate::LastBatchCut
    } else {
        panic!("{what}: wrong data after {recovery:?}: {found:#?}");
    };
    // It goes on from there, and nothing of what was cut comes back.
    let next = entry(log.last_index() + 1, 12);
    log.append(std::slice::from_ref(&next)).unwrap();
    log.sync().unwrap();
    let after = contents(&log);
    let expected = Contents { entries: [found.entries, vec![next]].concat(), ..found };
    assert_eq!(after, expected, "{what}");
    drop(log);
    disk.power_cut(0);
    let (log, recovery) = Log::open(disk.clone(), IDENTITY, CONFIG)
        .unwrap_or_else(|error| panic!("{what}: does not open again: {error}"));
    assert_eq!(recovery.cut, None, "{what}");
    assert_eq!(contents(&log), expected, "{what}");
    fate
}

fn newest(disk: &MemoryDisk) -> String {
    disk.list().unwrap().pop().unwrap()
}

#[test]
fn every_flipped_byte_is_found_or_harmless() {
    let small = small_log();
    let names = small.disk.list().unwrap();
    assert!(names.len() >= 3, "{names:?}");
    let newest = newest(&small.disk);
    let (mut refused, mut cut, mut whole) = (0, 0, 0);
    for name in &names {
        let size = small.disk.contents(name).unwrap().len();
        for offset in 0..size {
            for mask in [0x01, 0x80, 0xff] {
                let what = format!("{name} byte {offset} mask {mask:#x}");
                let disk = small.disk.fork();
                assert!(disk.flip(name, offset, mask));
                match open_damaged(&small, &disk, &what) {
                    Fate::Refused => refused += 1,
                    Fate::LastBatchCut => {
                        assert_eq!(*name, newest, "{what}: only the newest may be cut");
                        cut += 1;
                    }
                    Fate::Whole { .. } => whole += 1,
                }
            }
        }
    }
    assert!(refused > 1000 && cut > 100 && whole > 100, "{refused} {cut} {whole}");
}

#[test]
fn with_a_mark_behind_it_the_last_batch_is_never_cut() {
    let mut small = small_log();
    let (mut log, _) = Log::open(small.disk.clone(), IDENTITY, CONFIG).unwrap();
    log.mark().unwrap();
    small.before_last = small.whole.clone();
    drop(log);
    let newest = newest(&small.disk);
    let size = small.disk.contents(&newest).unwrap().len();
    for offset in 0..size {
        let disk = small.disk.fork();
        assert!(disk.flip(&newest, offset, 0x10));
        open_damaged(&small, &disk, &format!("byte {offset}"));
    }
}

#[test]
fn every_truncation_is_refused() {
    let small = small_log();
    for name in small.disk.list().unwrap() {
        let bytes = small.disk.contents(&name).unwrap();
        for length in 0..bytes.len() {
            let disk = small.disk.fork();
            disk.put(&name, bytes[..length].to_vec());
            let what = format!("{name} cut to {length}");
            assert_eq!(open_damaged(&small, &disk, &what), Fate::Refused, "{what}");
        }
        let disk = small.disk.fork();
        disk.put(&name, [&bytes[..], &[0; 8]].concat());
        assert_eq!(open_damaged(&small, &disk, &name), Fate::Refused);
    }
}

#[test]
fn zeros_over_the_end_are_never_taken_for_the_end() {
    let small = small_log();
    let newest = newest(&small.disk);
    let bytes = small.disk.contents(&newest).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for from in 0..used {
        let disk = small.disk.fork();
        let mut zeroed = bytes.clone();
        zeroed[from..].fill(0);
        disk.put(&newest, zeroed);
        // More than the last batch may be gone, as after a write torn earlier, but never unsaid.
        if let Ok((_, recovery)) = Log::open(disk, IDENTITY, CONFIG) {
            assert!(recovery.cut.is_some(), "zeros from {from} on were not noticed");
        }
    }
}

#[test]
fn zeroed_swapped_and_stale_sectors_are_found() {
    const SECTOR: usize = 512;
    let small = small_log();
    let names = small.disk.list().unwrap();
    let sectors: Vec<(String, usize, Vec<u8>)> = names
        .iter()
        .flat_map(|name| {
            let bytes = small.disk.contents(name).unwrap();
            let chunks = bytes.chunks(SECTOR).map(<[u8]>::to_vec).enumerate().collect::<Vec<_>>();
            chunks.into_iter().map(|(at, bytes)| (name.clone(), at, bytes))
        })
        .collect();
    let zeros = (String::new(), 0, vec![0; SECTOR]);
    for (name, at, original) in &sectors {
        for (from, from_at, foreign) in sectors.iter().chain([&zeros]) {
            if foreign == original {
                continue;
            }
            let disk = small.disk.fork();
            let mut bytes = disk.contents(name).unwrap();
            bytes[at * SECTOR..(at + 1) * SECTOR].copy_from_slice(foreign);
            disk.put(name, bytes);
            let what = format!("sector {at} of {name} overwritten by {from_at} of {from:?}");
            open_damaged(&small, &disk, &what);
        }
    }
}

#[test]
fn any_missing_or_doubled_segment_is_found() {
    let small = small_log();
    let names = small.disk.list().unwrap();
    for name in &names {
        let disk = small.disk.fork();
        disk.remove(name).unwrap();
        disk.sync_dir().unwrap();
        let what = format!("without {name}");
        assert_eq!(open_damaged(&small, &disk, &what), Fate::Refused, "{what}");
        for other in names.iter().filter(|other| *other != name) {
            let disk = small.disk.fork();
            disk.put(name, disk.contents(other).unwrap());
            let what = format!("{other} in place of {name}");
            assert_eq!(open_damaged(&small, &disk, &what), Fate::Refused, "{what}");
        }
    }
}

#[test]
fn an_entry_that_rots_while_the_log_is_open_is_not_returned() {
    let small = small_log();
    let (log, _) = Log::open(small.disk.clone(), IDENTITY, CONFIG).unwrap();
    let name = newest(&small.disk);
    let bytes = small.disk.contents(&name).unwrap();
    let text = b"entry 119 of term 9";
    let at = bytes.windows(text.len()).position(|window| window == text).unwrap();
    small.disk.flip(&name, at, 0x20);
    assert!(log.entries(118, 119, 0).is_ok());
    let error = log.entries(118, 120, u64::MAX).unwrap_err();
    assert!(matches!(error, fleet_log::LogError::Damaged { .. }), "{error}");
    assert!(matches!(log.entries(118, 119, 0), Err(fleet_log::LogError::Poisoned)));
}

#[test]
fn a_dump_goes_on_behind_damage() {
    use fleet_log::{DumpItem, dump};
    let small = small_log();
    let all = dump(small.disk.clone()).unwrap().count();
    let name = small.disk.list().unwrap().swap_remove(0);
    small.disk.flip(&name, 520, 0xff);
    let items: Vec<DumpItem> = dump(small.disk.clone()).unwrap().collect();
    assert_eq!(items.len(), all, "one record became one piece of damage");
    assert_eq!(items.iter().filter(|item| matches!(item, DumpItem::Damage { .. })).count(), 1);
}

/// Logs in the field have this format: another one needs another version, and a reader for this.
#[test]
fn the_format_stays_as_it_is() {
    let small = small_log();
    let names = small.disk.list().unwrap();
    let checksums = names.iter().map(|name| crc32fast::hash(&small.disk.contents(name).unwrap()));
    assert_eq!(names.len(), 5);
    assert_eq!(
        checksums.collect::<Vec<_>>(),
        [332_801_222, 1_744_816_401, 3_538_059_462, 487_539_477, 2_620_183_521]
    );
}
