//! Snapshot files: round trips, equal bytes, and every kind of damage.

use std::io::{self, Read, Write};

use fleet_state::{
    AgentCommand, ClaimItem, Command, Mode, Revision, SnapshotError, SnapshotMeta, Stage,
    StageFailure, StageItem, decode_snapshot, encode_snapshot, read_snapshot_meta,
};

use crate::site::{
    LIMIT_BYTES, Site, create_token, device_on, join, meta_of, object, register_link, restored,
    set, snapshot_of, unset, update,
};

/// A little of everything.
pub(crate) fn small_site() -> Site {
    let mut site = Site::default();
    site.accept(create_token(1, 60_000, 2));
    site.accept(join(1, "gw-2", 2));
    site.accept(register_link("hall.bus"));
    site.accept(Command::DeviceRegister {
        id: "hall.lamp-1".parse().unwrap(),
        spec: device_on("hall.bus"),
    });
    site.accept(update(
        "hall.lamp-1",
        r#"{"on":true,"level":0.5,"name":"ä","list":[1,null,18446744073709551615]}"#,
    ));
    site.accept(set("hall.temp", "-20"));
    site.accept(set("gone", "1"));
    site.accept(unset("gone"));
    site.reject(unset("gone"), fleet_state::RejectCode::NotFound);
    put_to_work(&mut site);
    site
}

/// An owner, wishes with and without a limit, an invocation under way and one that ended.
fn put_to_work(site: &mut Site) {
    let lamp = || "hall.lamp-1".parse().unwrap();
    let link = || "hall.bus".parse().unwrap();
    site.accept(Command::DeviceMode { id: lamp(), mode: Mode::Auto });
    let expect_epoch = site.state.link(&link()).unwrap().epoch;
    let owner = Some(fleet_state::NodeId::FOUNDER);
    site.accept(Command::Agents(AgentCommand::LinkAssign { link: link(), expect_epoch, owner }));
    let epoch = expect_epoch + 1;
    let limited = |patch: &str, ttl_ms| Command::DeviceUpdate {
        id: lamp(),
        patch: object(patch),
        ttl_ms: Some(ttl_ms),
    };
    let claimed = site.accept(limited(r#"{"on":false}"#, 5_000));
    site.accept(limited(r#"{"level":1}"#, 100));
    for (id, action) in [("open", "open"), ("shut", "shut")] {
        let (action, args) = (action.into(), object(r#"{"n":1}"#));
        let invoke = Command::DeviceInvoke { id: lamp(), action, args, ttl_ms: Some(30_000) };
        site.propose(id.parse().unwrap(), None, invoke);
    }
    let items = vec![
        ClaimItem::Wish { device: lamp(), revision: Revision::new(claimed) },
        ClaimItem::Invocation("open".parse().unwrap()),
    ];
    site.accept(Command::Agents(AgentCommand::Claim { link: link(), epoch, items }));
    let revision = Revision::new(claimed);
    let failure = StageFailure {
        revision,
        stage: Stage::Failed,
        code: "timeout".into(),
        message: "no answer in 3 s".into(),
    };
    let item = StageItem {
        device: lamp(),
        sent: revision,
        acknowledged: Revision::NONE,
        verified: Revision::NONE,
        failures: vec![failure],
        overcome: Vec::new(),
    };
    site.accept(Command::Agents(AgentCommand::Stages { link: link(), epoch, items: vec![item] }));
    site.tick(100);
    site.accept(limited(r#"{"level":2}"#, 100_000));
    let cancel = Command::CommandCancel { request: "shut".parse().unwrap() };
    site.accept(cancel);
    site.accept(Command::DeviceHold { id: lamp(), reason: "cleaning".into() });
}

fn decode(bytes: &[u8]) -> Result<SnapshotMeta, SnapshotError> {
    decode_snapshot(&mut &bytes[..], LIMIT_BYTES).map(|(meta, _)| meta)
}

#[test]
fn a_snapshot_reads_back_and_goes_on_alike() {
    let mut site = small_site();
    let bytes = snapshot_of(&site.state);
    assert_eq!(snapshot_of(&site.state), bytes);
    let mut input = bytes.as_slice();
    assert_eq!(read_snapshot_meta(&mut input).unwrap(), meta_of(&site.state));
    let mut copy = Site { state: restored(&bytes), ..site };
    assert_eq!(copy.state.digests(), site.state.digests());
    assert_eq!(copy.state.link_uses(&"hall.bus".parse().unwrap()), 1);
    assert_eq!(copy.state.next_deadline_log_ms(), site.state.next_deadline_log_ms());
    assert_eq!(snapshot_of(&copy.state), bytes);
    for site in [&mut site, &mut copy] {
        site.accept(set("x", "1"));
        site.tick(100_000_000);
    }
    assert_eq!(snapshot_of(&copy.state), snapshot_of(&site.state));
}

#[test]
fn every_flipped_byte_is_refused() {
    let bytes = snapshot_of(&small_site().state);
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            assert!(decode(&damaged).is_err(), "byte {at} ^ {flip:#x}");
            assert!(read_snapshot_meta(&mut damaged.as_slice()).is_err(), "byte {at} ^ {flip:#x}");
        }
    }
}

#[test]
fn every_truncation_and_addition_is_refused() {
    let bytes = snapshot_of(&small_site().state);
    for length in 0..bytes.len() {
        assert!(decode(&bytes[..length]).is_err(), "{length} bytes");
        assert!(read_snapshot_meta(&mut &bytes[..length]).is_err(), "{length} bytes");
    }
    for more in [1, 32, 100_000] {
        let mut longer = bytes.clone();
        longer.resize(bytes.len() + more, 0);
        assert!(decode(&longer).is_err());
    }
    let twice = [bytes.as_slice(), bytes.as_slice()].concat();
    assert!(decode(&twice).is_err());
}

#[test]
fn errors_say_what_is_wrong() {
    let bytes = snapshot_of(&small_site().state);
    assert!(matches!(decode(b""), Err(SnapshotError::NotASnapshot)));
    assert!(matches!(decode(&[b'x'; 100]), Err(SnapshotError::NotASnapshot)));
    assert!(matches!(decode(&bytes[..41]), Err(SnapshotError::Truncated)));
    let mut newer = bytes.clone();
    newer[8] = 2;
    assert!(matches!(decode(&newer), Err(SnapshotError::UnknownVersion { found: 2, known: 1 })));
    let mut damaged = bytes.clone();
    let middle = bytes.len() / 2;
    damaged[middle] ^= 1;
    assert!(matches!(decode(&damaged), Err(SnapshotError::Checksum)));
    let small = decode_snapshot(&mut bytes.as_slice(), 100);
    assert!(matches!(small, Err(SnapshotError::TooLarge { limit_bytes: 100 })));
}

/// With a right checksum, the content must still make sense.
#[test]
fn edited_content_with_a_right_checksum_never_panics() {
    use fleet_state::Writer;
    let bytes = snapshot_of(&small_site().state);
    let content = &bytes[..bytes.len() - 32];
    let mut refused = 0;
    for at in 0..content.len() {
        let mut edited = content.to_vec();
        edited[at] ^= 0x01;
        let mut writer = Writer::new();
        writer.fixed(&edited);
        writer.fixed(&sha256(&edited));
        let edited = writer.into_vec();
        refused += usize::from(decode(&edited).is_err());
    }
    // All but the fields that only the header has: the term, the voters, the wall time. The combined digest inside
    // finds the rest.
    assert!(refused + 24 >= content.len(), "{refused} of {}", content.len());
}

#[test]
fn nothing_may_follow_the_state_even_with_a_right_checksum() {
    let bytes = snapshot_of(&small_site().state);
    let content = &bytes[..bytes.len() - 32];
    // Rubbish, and a second whole frame.
    let frame = content.windows(4).position(|window| window == [0x04, 0x22, 0x4d, 0x18]).unwrap();
    for more in [&b"x"[..], &[0; 64], &content[frame..]] {
        let mut edited = [content, more].concat();
        let checksum = sha256(&edited);
        edited.extend(checksum);
        assert!(decode(&edited).is_err(), "{} bytes more", more.len());
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).into()
}

#[test]
fn a_header_that_is_not_of_the_state_is_not_written() {
    let site = small_site();
    let meta = meta_of(&site.state);
    let mut out = Vec::new();
    for wrong in [
        SnapshotMeta { index: meta.index + 1, ..meta.clone() },
        SnapshotMeta { site: "other".parse().unwrap(), ..meta.clone() },
        SnapshotMeta { uid: fleet_state::SiteUid::from_bytes([0; 16]), ..meta },
    ] {
        let error = encode_snapshot(&site.state, &wrong, &mut out).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    assert!(out.is_empty());
}

/// Gives a few bytes at a time, and fails after so many.
struct Slow<'a>(&'a [u8], usize);

impl Read for Slow<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.1 == 0 {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        let count = out.len().min(self.0.len()).min(self.1).min(7);
        out[..count].copy_from_slice(&self.0[..count]);
        (self.0, self.1) = (&self.0[count..], self.1 - count);
        Ok(count)
    }
}

struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.0);
        self.0 -= count;
        if count == 0 { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(count) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn errors_of_the_disk_stay_what_they_are() {
    let site = small_site();
    let bytes = snapshot_of(&site.state);
    let (meta, _) = decode_snapshot(&mut Slow(&bytes, usize::MAX), LIMIT_BYTES).unwrap();
    assert_eq!(meta, meta_of(&site.state));
    for limit in [0, 5, 50, bytes.len() / 2, bytes.len() - 1] {
        match decode_snapshot(&mut Slow(&bytes, limit), LIMIT_BYTES) {
            Err(SnapshotError::Io(error)) => assert_eq!(error.kind(), io::ErrorKind::TimedOut),
            other => panic!("{limit}: {other:?}"),
        }
    }
    for limit in [0, 10, bytes.len() / 2, bytes.len() - 1] {
        assert!(encode_snapshot(&site.state, &meta, &mut Full(limit)).is_err(), "{limit}");
    }
}

#[test]
fn a_large_state_round_trips_within_its_limit() {
    let mut site = Site::default();
    for number in 0..3_000 {
        site.accept(set(&format!("k.{number}"), &format!("\"{number:0>200}\"")));
    }
    let bytes = snapshot_of(&site.state);
    assert_eq!(restored(&bytes).digests(), site.state.digests());
    assert!(matches!(
        decode_snapshot(&mut bytes.as_slice(), 300_000),
        Err(SnapshotError::TooLarge { limit_bytes: 300_000 })
    ));
}

/// Fails after so many bytes, with an error that carries a message as a disk's does.
struct FullDisk(usize);

impl Write for FullDisk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "snapshots/building.tmp"));
        }
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_disk_that_is_full_at_any_byte_is_an_error_and_no_panic() {
    let site = small_site();
    let meta = meta_of(&site.state);
    let whole = snapshot_of(&site.state).len();
    for room in 0..whole {
        let error = encode_snapshot(&site.state, &meta, &mut FullDisk(room)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{room} of {whole}");
    }
    encode_snapshot(&site.state, &meta, &mut FullDisk(whole)).unwrap();
}
