//! The southbound side against a real log and simulated devices.

mod hall;
mod life;
mod panics;
mod stage;
mod under_way;
