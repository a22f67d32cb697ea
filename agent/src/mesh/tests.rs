//! Swarms on the loopback: real sockets, real handshakes, in one process.

mod strangers;
mod swarms;
mod together;
