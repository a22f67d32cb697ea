//! The commands, one file per noun.

pub(crate) mod batch;
pub(crate) mod bench;
pub(crate) mod command;
pub(crate) mod dev;
pub(crate) mod device;
pub(crate) mod leader;
pub(crate) mod link;
mod listed;
pub(crate) mod member;
pub(crate) mod mesh;
pub(crate) mod param;
pub(crate) mod partition;
pub(crate) mod snapshot;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod watch;
