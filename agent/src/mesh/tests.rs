//! Swarms on the loopback.
