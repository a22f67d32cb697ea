//! The southbound side against a real log and simulated devices.

mod hall;
mod life;
mod stage;
mod under_way;
