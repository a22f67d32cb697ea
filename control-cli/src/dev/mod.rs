//! `flotilla dev`: a whole site on this machine, for trying things out and for scripts.
//!
//! It starts what a real site has: a nats-server on a free port of the loopback, and agents as
//! processes of their own, made with `init` and `join` like any other. Nothing is simulated, so what
//! holds here holds on gateways, only closer together.
//!
//! - [`plan`] decides names, folders and voters from the arguments. Pure.
//! - [`programs`] finds nats-server and flotilla-agent.
//! - [`process`] starts and ends processes, by id and within a bound.
//! - [`nats`] starts the server on a free port, [`contact`] speaks to the site through our client.
//! - [`manifest`] is `dev.json`: what runs where, for scripts and for `dev stop`; [`recipe`] is what stays.
//! - [`raise`] starts the agents, [`running`] is what was started; [`health`] waits until the site is whole.
//! - [`report`] says what is there and what happens.
//! - [`signals`] tell it to stop; [`session`] ties these together: start, follow, stop.
//!
//! A site with `--data` keeps its files and goes on where it was. Without, it lives in a temporary
//! folder that is removed at the end. Whoever starts a site ends it: on Ctrl-C, when nobody reads what
//! it prints any more, and whatever goes wrong, everything is stopped in order, agents first; after `--detach`, `dev stop` does the same. This code never signals a
//! process that is not on record as its own.

mod contact;
mod health;
mod manifest;
mod nats;
mod plan;
mod process;
mod programs;
mod raise;
mod recipe;
mod report;
mod running;
mod session;
mod signals;

pub(crate) use plan::Wanted;
pub(crate) use session::{Start, start, stop};
