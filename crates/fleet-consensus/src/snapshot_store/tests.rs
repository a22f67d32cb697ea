use ed25519_dalek::SigningKey;
use fleet_log::{DiskFault, MemoryDisk};
use fleet_state::{FoundingMember, FoundingParams, NodeId, NodeKeys, Revision};

use super::*;

const SITE: SiteUid = SiteUid::from_bytes([5; 16]);

fn state(site: SiteUid, index: u64) -> FleetState {
    let key = SigningKey::from_bytes(&[9; 32]);
    let mut state = FleetState::found(FoundingParams {
        site: "hall".parse().expect("a name"),
        uid: site,
        site_public_key: key.verifying_key().to_bytes(),
        member: FoundingMember {
            name: "one".parse().expect("a name"),
            keys: NodeKeys { sign: [1; 32], exchange: [2; 32] },
            credential: [3; 64],
        },
        voters: 3,
        feature_level: fleet_state::limits::FEATURE_LEVEL,
        token: None,
        wall_time_ms: 7,
    });
    state.skip(Revision::new(index));
    state
}

fn meta(site: SiteUid, index: u64) -> SnapshotMeta {
    SnapshotMeta {
        site: "hall".parse().expect("a name"),
        uid: site,
        index,
        term: 1,
        voters: vec![NodeId::FOUNDER],
        learners: Vec::new(),
        wall_time_ms: 7,
    }
}

fn write(disk: &MemoryDisk, site: SiteUid, index: u64) -> SnapshotFile {
    SnapshotStore::new(disk.clone())
        .write(&meta(site, index), &state(site, index))
        .expect("written")
}

fn names(disk: &MemoryDisk) -> Vec<String> {
    let mut names = disk.list().expect("listed");
    names.sort();
    names
}

/// A whole file of a version that nobody knows yet.
fn make_newer(disk: &MemoryDisk, name: &str) {
    let mut bytes = disk.contents(name).expect("there");
    bytes[8] = 200;
    let end = bytes.len() - CHECKSUM_BYTES;
    let checksum = Sha256::digest(&bytes[..end]);
    bytes[end..].copy_from_slice(&checksum);
    disk.put(name, bytes);
}

#[test]
fn what_was_written_is_loaded() {
    let disk = MemoryDisk::new();
    write(&disk, SITE, 3);
    let newest = write(&disk, SITE, 8);
    let (loaded, damaged) = SnapshotStore::new(disk).load_newest(SITE).expect("loaded");
    let loaded = loaded.expect("there");
    assert_eq!((loaded.file, loaded.meta), (newest, meta(SITE, 8)));
    assert!(damaged.is_empty());
}

#[test]
fn a_damaged_newest_gives_way_to_the_older_and_keeps_its_bytes() {
    let disk = MemoryDisk::new();
    write(&disk, SITE, 3);
    let newest = write(&disk, SITE, 8);
    // The version field: a flipped bit there must not pass for a newer version.
    assert!(disk.flip(&newest.name, 8, 0x40));
    let (loaded, damaged) = SnapshotStore::new(disk.clone()).load_newest(SITE).expect("loaded");
    assert_eq!(loaded.expect("the older").meta.index, 3);
    assert_eq!(damaged, [newest.name.as_str()]);
    assert!(names(&disk).contains(&format!("{}.damaged", newest.name)));
}

#[test]
fn a_newer_version_is_refused_and_left_alone() {
    let disk = MemoryDisk::new();
    write(&disk, SITE, 3);
    let newest = write(&disk, SITE, 8);
    make_newer(&disk, &newest.name);
    let before = names(&disk);
    let loaded = SnapshotStore::new(disk.clone()).load_newest(SITE);
    assert!(matches!(loaded, Err(LoadError::BeyondVersion { name, .. }) if name == newest.name));
    assert_eq!(names(&disk), before);
}

#[test]
fn a_foreign_snapshot_is_refused_and_left_alone() {
    let disk = MemoryDisk::new();
    write(&disk, SITE, 3);
    let other = SiteUid::from_bytes([6; 16]);
    write(&disk, other, 8);
    let before = names(&disk);
    let loaded = SnapshotStore::new(disk.clone()).load_newest(SITE);
    assert!(matches!(loaded, Err(LoadError::Foreign { found, .. }) if found == other));
    assert_eq!(names(&disk), before);
}

#[test]
fn a_write_that_fails_anywhere_leaves_nothing_unfinished() {
    for call in 0.. {
        let disk = MemoryDisk::new();
        write(&disk, SITE, 3);
        disk.plan_fault(disk.calls() + call, DiskFault::NoSpace);
        let written = SnapshotStore::new(disk.clone()).write(&meta(SITE, 8), &state(SITE, 8));
        if written.is_ok() {
            assert!(call > 3, "create, write, sync, rename and the directory were all failed");
            assert_eq!(disk.faults_fired(), 0);
            return;
        }
        assert_eq!(disk.faults_fired(), 1);
        assert!(!names(&disk).contains(&BUILDING.to_owned()));
        let (loaded, _) = SnapshotStore::new(disk).load_newest(SITE).expect("loaded");
        assert!(loaded.is_some());
    }
}

#[test]
fn what_could_not_be_read_back_is_not_written() {
    let disk = MemoryDisk::new();
    let size_bytes = write(&disk, SITE, 3).size_bytes;
    let narrow = SnapshotStore::with_limit(disk.clone(), size_bytes - 1);
    let refused = narrow.write(&meta(SITE, 8), &state(SITE, 8)).expect_err("too large");
    assert_eq!(refused.kind(), io::ErrorKind::FileTooLarge);
    assert_eq!(names(&disk).len(), 1);
    let wide = SnapshotStore::with_limit(disk, size_bytes);
    wide.write(&meta(SITE, 3), &state(SITE, 3)).expect("just fits");
}

#[test]
fn pruning_spares_the_newest_two_and_a_few_that_are_being_sent() {
    let disk = MemoryDisk::new();
    for index in 1..=8 {
        write(&disk, SITE, index);
    }
    let store = SnapshotStore::new(disk);
    store.prune(&BTreeSet::from([1, 2, 4, 7])).expect("pruned");
    let kept: Vec<u64> = store.names().expect("listed").iter().map(|(index, ..)| *index).collect();
    assert_eq!(kept, [8, 7, 4, 2]);
    assert_eq!(store.older_index().expect("listed"), Some(7));
}

fn receive(from: &MemoryDisk, file: &SnapshotFile) -> (MemoryDisk, Result<(), ReceiveError>) {
    let disk = MemoryDisk::new();
    let store = SnapshotStore::new(disk.clone());
    let mut incoming = store.begin_incoming().expect("begun");
    incoming.append(&from.contents(&file.name).expect("there")).expect("stored");
    let finished = store.finish_incoming(incoming, file, SITE).map(|_| ());
    (disk, finished)
}

#[test]
fn what_is_received_must_be_what_was_promised() {
    let sender = MemoryDisk::new();
    let file = write(&sender, SITE, 8);
    let (disk, finished) = receive(&sender, &file);
    assert!(finished.is_ok());
    assert_eq!(names(&disk), [file.name.as_str()]);

    let of_another_index = SnapshotFile { index: 9, ..file.clone() };
    let (_, finished) = receive(&sender, &of_another_index);
    assert!(matches!(finished, Err(ReceiveError::NotAsPromised(_))));

    sender.flip(&file.name, 60, 1);
    let (disk, finished) = receive(&sender, &file);
    assert!(matches!(finished, Err(ReceiveError::NotAsPromised(_))));
    assert_eq!(names(&disk), [INCOMING]);
}

#[test]
fn a_foreign_or_newer_snapshot_is_received_as_neither() {
    let sender = MemoryDisk::new();
    let other = SiteUid::from_bytes([6; 16]);
    let foreign = write(&sender, other, 8);
    let (_, finished) = receive(&sender, &foreign);
    assert!(matches!(finished, Err(ReceiveError::Foreign { found }) if found == other));

    let mut newer = write(&sender, SITE, 9);
    make_newer(&sender, &newer.name);
    newer.checksum = Sha256::digest(sender.contents(&newer.name).expect("there")).into();
    let (_, finished) = receive(&sender, &newer);
    assert!(matches!(finished, Err(ReceiveError::BeyondVersion(_))));
}
