//! Swarms on the loopback: real sockets, real handshakes, in one process.

mod floods;
mod gossip;
mod guests;
mod strangers;
mod swarms;
mod together;
