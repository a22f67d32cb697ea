//! The clear part of a frame. All of it is associated data of the seal.
//!
//! | bytes | field |
//! |---|---|
//! | 4 | `FLF` and the version, 1 |
//! | 16 | site uid |
//! | 8, 8 | from, to |
//! | 8, 8 | the sender's boot counter; the receiver's, as far as the sender knows it, else 0 |
//! | 8 | salt of the sender's start |
//! | 1, 1 | path, and in the upper half the way on which the receiver is not heard, plus one; class |
//! | 8 | sequence |
//! | 2, 2 | which fragment, of how many |
//! | 4 | size of the whole payload |
//! | 1 | 1 when a credential follows |
//!
//! A credential is a name (a length byte first), two public keys and the site's signature. Integers are big-endian.
//! After the header comes the sealed part of the payload and a tag of 16 bytes.

use fleet_state::{
    NodeId, NodeKeys, SiteUid,
    codec::{DecodeError, Reader},
};

use super::{
    credential::Credential,
    limits::{BOOT_MAX, FRAGMENTS_MAX, NODE_NAME_BYTES_MAX, PAYLOAD_BYTES_MAX, SEQUENCE_MAX},
    refused::Refused,
    route::{Class, Path},
};

const MAGIC: [u8; 4] = *b"FLF\x01";
/// Bytes of a header without a credential.
const PLAIN_BYTES: usize = 4 + 16 + 8 + 8 + 8 + 8 + 8 + 1 + 1 + 8 + 2 + 2 + 4 + 1;

/// The clear part of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) site: SiteUid,
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) boot: u64,
    pub(super) to_boot: u64,
    pub(super) salt: [u8; 8],
    pub(super) path: Path,
    pub(super) unheard: Option<Path>,
    pub(super) class: Class,
    pub(super) sequence: u64,
    pub(super) fragment: u16,
    pub(super) fragments: u16,
    pub(super) total: u32,
    pub(super) credential: Option<Credential>,
}

impl Header {
    /// Bytes that the header takes.
    pub(super) fn len(credential: Option<&Credential>) -> usize {
        PLAIN_BYTES + credential.map_or(0, |shown| 1 + shown.name.as_ref().len() + 32 + 32 + 64)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::len(self.credential.as_ref()));
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(self.site.as_bytes());
        for value in [self.from.get(), self.to.get(), self.boot, self.to_boot] {
            out.extend_from_slice(&value.to_be_bytes());
        }
        out.extend_from_slice(&self.salt);
        out.push(ways_code(self.path, self.unheard));
        out.push(self.class.code());
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.fragment.to_be_bytes());
        out.extend_from_slice(&self.fragments.to_be_bytes());
        out.extend_from_slice(&self.total.to_be_bytes());
        match &self.credential {
            None => out.push(0),
            Some(credential) => {
                out.push(1);
                let name: &str = credential.name.as_ref();
                out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(&credential.keys.sign);
                out.extend_from_slice(&credential.keys.exchange);
                out.extend_from_slice(&credential.signature);
            }
        }
        out
    }

    /// Reads the header of a frame, and says how long it is.
    pub(super) fn parse(bytes: &[u8]) -> Result<(Self, usize), Refused> {
        let mut reader = Reader::new(bytes);
        if reader.fixed::<4>().map_err(|_| Refused::Truncated)? != MAGIC {
            return Err(Refused::NotAFrame);
        }
        let header = Self::read(&mut reader).map_err(|error| {
            if error == DecodeError::Truncated { Refused::Truncated } else { Refused::BadHeader }
        })?;
        let plausible = header.fragments > 0
            && header.fragment < header.fragments
            && usize::from(header.fragments) <= FRAGMENTS_MAX
            && header.boot > 0
            && header.boot <= BOOT_MAX
            && header.sequence > 0
            && header.sequence <= SEQUENCE_MAX;
        if !plausible {
            return Err(Refused::BadHeader);
        }
        if usize::try_from(header.total).map_or(true, |total| total > PAYLOAD_BYTES_MAX) {
            return Err(Refused::TooLarge);
        }
        Ok((header, bytes.len() - reader.remaining()))
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        const INVALID: DecodeError = DecodeError::Invalid { what: "a frame header" };
        let site = SiteUid::from_bytes(reader.fixed()?);
        let from = NodeId::new(read_u64(reader)?).ok_or(INVALID)?;
        let to = NodeId::new(read_u64(reader)?).ok_or(INVALID)?;
        let (boot, to_boot, salt) = (read_u64(reader)?, read_u64(reader)?, reader.fixed()?);
        let (path, unheard) = ways_from_code(reader.u8()?).ok_or(INVALID)?;
        let mut header = Self {
            site,
            from,
            to,
            boot,
            to_boot,
            salt,
            path,
            unheard,
            class: Class::from_code(reader.u8()?).ok_or(INVALID)?,
            sequence: read_u64(reader)?,
            fragment: u16::from_be_bytes(reader.fixed()?),
            fragments: u16::from_be_bytes(reader.fixed()?),
            total: u32::from_be_bytes(reader.fixed()?),
            credential: None,
        };
        if reader.bool()? {
            header.credential = Some(read_credential(reader, from)?);
        }
        Ok(header)
    }
}

const fn ways_code(path: Path, unheard: Option<Path>) -> u8 {
    let unheard = match unheard {
        None => 0,
        Some(unheard) => unheard.code() + 1,
    };
    path.code() | (unheard << 4)
}

fn ways_from_code(code: u8) -> Option<(Path, Option<Path>)> {
    let unheard = match (code >> 4).checked_sub(1) {
        None => None,
        Some(unheard) => Some(Path::from_code(unheard)?),
    };
    Some((Path::from_code(code & 0x0f)?, unheard))
}

fn read_u64(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    Ok(u64::from_be_bytes(reader.fixed()?))
}

fn read_credential(reader: &mut Reader<'_>, node: NodeId) -> Result<Credential, DecodeError> {
    let name = reader.text(NODE_NAME_BYTES_MAX)?;
    let name = name.parse().map_err(|_| DecodeError::Invalid { what: "a node name" })?;
    let keys = NodeKeys { sign: reader.fixed()?, exchange: reader.fixed()? };
    Ok(Credential { node, name, keys, signature: reader.fixed()? })
}
