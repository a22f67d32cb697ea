//! Replicas of one small site, driven by hand: opening, and snapshots on every way.

mod answering;
mod crash;
mod hall;
mod levels;
mod lost_time;
mod opening;
mod poison;
mod resting;
mod sending;
mod stepping_down;
mod syncing;
mod taking;
