//! The files of a node: the one data directory that makes it the node it is.
//!
//! ```text
//! <data>/lock           held by the one process that uses the directory; its pid is in it
//! <data>/node.json      site, node id, boot counter; written last when a node comes to be
//! <data>/identity.key   the secret of this node; whoever has it is this node
//! <data>/site.key       the secret of the site, on voters
//! <data>/log/           segments of the Raft log
//! <data>/snapshots/     the newest two snapshots
//! <data>/local/         local writes, made without a majority
//! <data>/reserve        space given back when the disk runs full
//! ```
//!
//! Everything small is written to a temporary name, synced, renamed, and the directory synced;
//! everything carries a checksum; nothing that can't be read is ever replaced or removed. Secrets
//! are for their owner only, and refused when others could read them. What the files mean is
//! decided elsewhere: the log is `fleet_log`'s, the snapshots are `fleet_state`'s.
//!
//! Tests stand beside each part and use real directories.

mod data_dir;
mod disk;
mod durable;
mod identity;
mod lock;
mod node_file;
pub mod offline;
pub mod quarantine;
mod secret_file;
mod servers_file;
mod space;

pub use data_dir::{DataDir, DataDirError};
pub use disk::{DiskCounts, RealDisk, RealFile};
pub(crate) use durable::{read_small, replace};
pub use identity::Identity;
pub use lock::{DirectoryLock, LockError};
pub use node_file::{NODE_FILE, NodeFile, NodeFileError};
pub use secret_file::{SecretError, load_site_key, store_site_key};
pub use servers_file::{remember_servers, remembered_servers};
pub use space::{Space, SpaceConfig, SpaceGuard};
