//! The byte codec: round trips, one encoding per value, and hostile bytes.

use fleet_state::{DecodeError, Entry, Proposal, Reader, Writer};
use proptest::prelude::*;

use crate::generate;

#[test]
fn varints_have_one_form() {
    for (bytes, error) in [
        (vec![], DecodeError::Truncated),
        (vec![0x80], DecodeError::Truncated),
        (vec![0x80, 0x00], DecodeError::Integer),
        (vec![0xff, 0x80, 0x00], DecodeError::Integer),
        (vec![0xff; 10], DecodeError::Integer),
        (vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], DecodeError::Integer),
    ] {
        assert_eq!(Reader::new(&bytes).u64(), Err(error), "{bytes:?}");
    }
    assert_eq!(Reader::new(&[0x80, 0x80, 0x04]).u16(), Err(DecodeError::Integer));
    assert_eq!(Reader::new(&[2]).bool(), Err(DecodeError::Invalid { what: "a boolean" }));
}

#[test]
fn lengths_are_checked_before_use() {
    let mut writer = Writer::new();
    writer.u64(u64::MAX);
    let bytes = writer.into_vec();
    assert!(matches!(Reader::new(&bytes).bytes(10), Err(DecodeError::TooLong { limit: 10, .. })));
    assert_eq!(Reader::new(&[5, 1, 2]).bytes(10), Err(DecodeError::Truncated));
    assert_eq!(Reader::new(&[5, 1, 2]).count(10), Err(DecodeError::Truncated));
    assert_eq!(Reader::new(&[1, 0xff]).text(10), Err(DecodeError::Text));
    assert_eq!(Reader::new(&[1]).finish(), Err(DecodeError::TrailingBytes { count: 1 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn numbers_and_bytes_round_trip(a: u64, b: i64, c: u32, d: u16, e: u8, f: bool, g: Vec<u8>, h: String) {
        let mut writer = Writer::new();
        writer.u64(a);
        writer.i64(b);
        writer.u32(c);
        writer.u16(d);
        writer.u8(e);
        writer.bool(f);
        writer.bytes(&g);
        writer.text(&h);
        writer.fixed(&[1, 2, 3]);
        let bytes = writer.into_vec();
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(reader.u64(), Ok(a));
        prop_assert_eq!(reader.i64(), Ok(b));
        prop_assert_eq!(reader.u32(), Ok(c));
        prop_assert_eq!(reader.u16(), Ok(d));
        prop_assert_eq!(reader.u8(), Ok(e));
        prop_assert_eq!(reader.bool(), Ok(f));
        prop_assert_eq!(reader.bytes(1 << 20), Ok(g.as_slice()));
        prop_assert_eq!(reader.text(1 << 20), Ok(h.as_str()));
        prop_assert_eq!(reader.fixed::<3>(), Ok([1, 2, 3]));
        prop_assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn entries_round_trip(entry in generate::entry()) {
        let bytes = entry.encode();
        prop_assert_eq!(Entry::decode(&bytes), Ok(entry));
    }

    #[test]
    fn a_changed_entry_is_refused_or_reads_as_it_is_written(
        entry in generate::entry(), at: prop::sample::Index, flip in 1u8..=255, cut: prop::sample::Index,
    ) {
        let mut bytes = entry.encode();
        let cut = cut.index(bytes.len());
        prop_assert!(Entry::decode(&bytes[..cut]).is_err());
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(other) = Entry::decode(&bytes) {
            prop_assert_eq!(other.encode(), bytes);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes: Vec<u8>) {
        if let Ok(proposal) = Proposal::decode(&bytes) {
            prop_assert_eq!(proposal.encode(), bytes.clone());
        }
        let mut entry = vec![1, 1, 0, 0];
        entry.extend(&bytes);
        let _ = Entry::decode(&entry);
        let _ = Entry::decode(&bytes);
        let _ = fleet_state::decode_snapshot(&mut bytes.as_slice(), 1 << 20);
    }
}
