//! `node.json`: which node of which site a data directory is.
//!
//! It is written last when a node comes to be, so a directory that has it is complete. Afterwards
//! only the boot counter changes, once per start, before the first frame is sent: peers tell an
//! old frame from a new one by it. A checksum over the contents finds an edited or rotten file:
//! taking another node id or an old boot counter for true could break the promise to vote once.

use std::io;
use std::path::{Path, PathBuf};

use fleet_state::{NodeId, NodeName, SiteName, SiteUid};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::durable::{read_small, replace};
use super::secret_file::{hex, unhex};

/// The name of the file in the data directory.
pub const NODE_FILE: &str = "node.json";
const FORMAT: u32 = 1;

/// Which node of which site a data directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFile {
    /// The site's name.
    pub site: SiteName,
    /// The site's uid, which is what counts.
    pub uid: SiteUid,
    /// The site's public key.
    pub site_public_key: [u8; 32],
    /// The node's id, given by the site.
    pub node: NodeId,
    /// The node's name.
    pub name: NodeName,
    /// The site's signature over this member: peers believe it before they have its record.
    pub credential: [u8; 64],
    /// How often this node was started.
    pub boot: u64,
}

/// Why the node file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum NodeFileError {
    /// There is none: the directory belongs to no site yet.
    #[error(
        "{} does not exist: this gateway belongs to no site yet; found one with \
         `flotilla-agent init`, or join one with `flotilla-agent join`",
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It is not what a node writes.
    #[error("{} is damaged: {what}; put back a copy, or let this node join anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A newer program wrote it.
    #[error(
        "{} has format {found}, this program reads up to {FORMAT}: update it",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// The system refused.
    #[error("{} can't be used", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The contents as they stand in the file, in this order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    format: u32,
    site: String,
    site_uid: String,
    site_public_key: String,
    node: u64,
    name: String,
    credential: String,
    boot: u64,
    /// SHA-256 of all the above as compact JSON with an empty checksum.
    checksum: String,
}

impl Contents {
    fn checksum(&self) -> String {
        let bare = Self {
            site: self.site.clone(),
            site_uid: self.site_uid.clone(),
            site_public_key: self.site_public_key.clone(),
            name: self.name.clone(),
            credential: self.credential.clone(),
            checksum: String::new(),
            ..*self
        };
        let text = serde_json::to_string(&bare).expect("strings and numbers are always JSON");
        hex(&Sha256::digest(text))
    }
}

/// Just enough to tell a file of a newer program from a damaged one.
#[derive(Deserialize)]
struct FormatOnly {
    format: u64,
}

impl NodeFile {
    /// Reads the node file of a data directory.
    ///
    /// # Errors
    /// When there is none, or it is damaged or of a newer program.
    pub fn load(data_dir: &Path) -> Result<Self, NodeFileError> {
        let path = data_dir.join(NODE_FILE);
        let bytes = match read_small(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(NodeFileError::Missing { path });
            }
            Err(source) => return Err(NodeFileError::Io { path, source }),
        };
        if let Ok(FormatOnly { format: found }) = serde_json::from_slice(&bytes)
            && found > u64::from(FORMAT)
        {
            return Err(NodeFileError::Format { path, found });
        }
        parse(&bytes).map_err(|what| NodeFileError::Damaged { path, what })
    }

    /// Writes the node file of a data directory, durably, in place of the one that is there.
    ///
    /// # Errors
    /// When it can't be written; the old one is then still there.
    pub fn store(&self, data_dir: &Path) -> Result<(), NodeFileError> {
        let mut contents = Contents {
            format: FORMAT,
            site: self.site.to_string(),
            site_uid: self.uid.to_string(),
            site_public_key: hex(&self.site_public_key),
            node: self.node.get(),
            name: self.name.to_string(),
            credential: hex(&self.credential),
            boot: self.boot,
            checksum: String::new(),
        };
        contents.checksum = contents.checksum();
        let mut text =
            serde_json::to_string_pretty(&contents).expect("strings and numbers are always JSON");
        text.push('\n');
        replace(data_dir, NODE_FILE, text.as_bytes())
            .map_err(|source| NodeFileError::Io { path: data_dir.join(NODE_FILE), source })
    }
}

fn parse(bytes: &[u8]) -> Result<NodeFile, String> {
    let contents: Contents = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if contents.format != FORMAT {
        return Err(format!("format {} does not exist", contents.format));
    }
    if contents.checksum != contents.checksum() {
        return Err("its contents do not match its checksum".to_owned());
    }
    let bad = |what: &str| format!("{what} is not valid");
    Ok(NodeFile {
        site: contents.site.parse().map_err(|_| bad("site"))?,
        uid: contents.site_uid.parse().map_err(|_| bad("site_uid"))?,
        site_public_key: unhex(&contents.site_public_key).ok_or_else(|| bad("site_public_key"))?,
        node: NodeId::new(contents.node).ok_or_else(|| bad("node"))?,
        name: contents.name.parse().map_err(|_| bad("name"))?,
        credential: unhex(&contents.credential).ok_or_else(|| bad("credential"))?,
        boot: contents.boot,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn node() -> NodeFile {
        NodeFile {
            site: "home".parse().unwrap(),
            uid: "00112233445566778899aabbccddeeff".parse().unwrap(),
            site_public_key: [7; 32],
            node: NodeId::new(3).unwrap(),
            name: "gw-3".parse().unwrap(),
            credential: [9; 64],
            boot: 0,
        }
    }

    #[test]
    fn a_node_file_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(NodeFile::load(dir.path()), Err(NodeFileError::Missing { .. })));
        for boot in 0..3 {
            let written = NodeFile { boot, ..node() };
            written.store(dir.path()).unwrap();
            assert_eq!(NodeFile::load(dir.path()).unwrap(), written);
        }
        assert!(node().store(&dir.path().join("gone")).is_err());
    }

    #[test]
    fn every_changed_byte_is_found_or_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        node().store(dir.path()).unwrap();
        let good = fs::read(dir.path().join(NODE_FILE)).unwrap();
        let mut found = 0;
        for at in 0..good.len() {
            for mask in [1, 4, 0x20, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] ^= mask;
                match parse(&bad) {
                    // White space turned into other white space.
                    Ok(read) => assert_eq!(read, node(), "byte {at}, mask {mask}"),
                    Err(_) => found += 1,
                }
            }
            // Only the last byte, a line feed, can be missed.
            assert_eq!(parse(&good[..at]).is_ok(), at == good.len() - 1, "cut at {at}");
        }
        assert!(found > 1000, "{found}");
    }

    #[test]
    fn an_edited_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        node().store(dir.path()).unwrap();
        let path = dir.path().join(NODE_FILE);
        let good = fs::read_to_string(&path).unwrap();
        for (from, to, expected) in [
            ("\"node\": 3", "\"node\": 4", "checksum"),
            ("\"boot\": 0", "\"boot\": 1", "checksum"),
            ("\"boot\": 0", "\"boot\": 0, \"extra\": 1", "extra"),
            ("\"format\": 1", "\"format\": 2", "update it"),
            ("\"format\": 1", "\"format\": 0", "does not exist"),
        ] {
            assert!(good.contains(from));
            fs::write(&path, good.replace(from, to)).unwrap();
            let error = NodeFile::load(dir.path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
