//! `mesh-peers.json`: where the others were found last, and the port that this node had.
//!
//! It is a hint for the next start and nothing depends on it: one that is missing or damaged
//! is made anew. A node that was given a free port asks for the same one again, so that what
//! the others remember of it stays true.

use std::io;
use std::path::Path;

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};

use super::book::Book;
use crate::storage::{read_small, replace};

const FILE: &str = "mesh-peers.json";
const FORMAT: u32 = 1;

/// What is kept from one run to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PeersFile {
    format: u32,
    /// Where this node listened; the first address that others can dial comes first.
    pub(super) listened: Vec<String>,
    peers: Vec<KeptPeer>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptPeer {
    peer: String,
    addresses: Vec<String>,
}

impl PeersFile {
    /// What is to be kept.
    pub(super) fn of(book: &Book, listened: &[Multiaddr]) -> Self {
        let peers = book.iter().map(|(peer, addresses)| KeptPeer {
            peer: peer.to_string(),
            addresses: addresses.map(ToString::to_string).collect(),
        });
        Self {
            format: FORMAT,
            listened: listened.iter().map(ToString::to_string).collect(),
            peers: peers.collect(),
        }
    }

    /// Reads the file of a data directory; nothing when there is none that can be used.
    pub(super) fn load(dir: &Path) -> Self {
        let bytes = match read_small(&dir.join(FILE)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::default(),
            Err(error) => {
                tracing::warn!(file = FILE, %error, "what was known of other gateways is not used");
                return Self::default();
            }
        };
        match serde_json::from_slice::<Self>(&bytes) {
            Ok(file) if file.format == FORMAT => file,
            Ok(_) => Self::default(),
            Err(error) => {
                tracing::warn!(file = FILE, %error, "what was known of other gateways is not used");
                Self::default()
            }
        }
    }

    /// Writes the file, whole or not at all.
    pub(super) fn store(&self, dir: &Path) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        text.push('\n');
        replace(dir, FILE, text.as_bytes())
    }

    /// The peers in it that make sense.
    pub(super) fn peers(&self) -> impl Iterator<Item = (PeerId, Vec<Multiaddr>)> {
        self.peers.iter().filter_map(|kept| {
            let peer = kept.peer.parse().ok()?;
            Some((peer, kept.addresses.iter().filter_map(|text| text.parse().ok()).collect()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::book::Source;
    use super::*;
    use std::fs;

    #[test]
    fn what_was_known_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(PeersFile::load(dir.path()), PeersFile::default());
        let peer = PeerId::random();
        let at: Multiaddr = "/ip4/10.0.0.1/tcp/7".parse().unwrap();
        let mut book = Book::new(PeerId::random());
        book.learn(peer, at.clone(), Source::Proven, 1);
        let file = PeersFile::of(&book, std::slice::from_ref(&at));
        file.store(dir.path()).unwrap();
        let read = PeersFile::load(dir.path());
        assert_eq!(read, file);
        assert_eq!(read.peers().collect::<Vec<_>>(), [(peer, vec![at])]);
    }

    #[test]
    fn a_bad_file_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        for bad in ["", "{", "[]", "{\"format\":9,\"listened\":[],\"peers\":[]}", "{\"format\":1}"]
        {
            fs::write(dir.path().join(FILE), bad).unwrap();
            assert_eq!(PeersFile::load(dir.path()), PeersFile::default(), "{bad}");
        }
        let odd =
            "{\"format\":1,\"listened\":[],\"peers\":[{\"peer\":\"?\",\"addresses\":[\"x\"]}]}";
        fs::write(dir.path().join(FILE), odd).unwrap();
        assert_eq!(PeersFile::load(dir.path()).peers().count(), 0);
    }
}
