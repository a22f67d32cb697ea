//! Swarms on the loopback: real sockets, real handshakes, in one process.

mod guests;
mod strangers;
mod swarms;
mod together;
