//! The Rust client of a Flotilla site, over NATS or through the door of one agent.
//!
//! ```no_run
//! # async fn example() -> Result<(), fleet_client::ClientError> {
//! use fleet_client::{Client, CommandOptions, ConnectConfig, Outcome};
//! use fleet_protocol::CommandTarget;
//!
//! let client = Client::connect(&ConnectConfig::default(), None).await?;
//! let lamp = CommandTarget::DeviceUpdate("hall2.lamp-1".parse().expect("an id"));
//! match client.command(&lamp, br#"{"on":true}"#.to_vec(), &CommandOptions::default()).await? {
//!     Outcome::Committed(done) => println!("revision {}", done.revision),
//!     Outcome::Rejected(failed) => println!("no: {}", failed.error.message),
//!     Outcome::Unknown(unknown) => println!("send it again with id {}", unknown.request_id),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What it takes care of:
//! - a command keeps its request id through all its attempts, and is sent again until it is answered
//!   or its deadline is over; the end is committed, rejected or *unknown*, and a timeout is never
//!   called a failure ([`Outcome`]);
//! - lists are read page by page ([`Client::list`]), changes are followed without a gap
//!   ([`Follower`]), snapshots come in pieces ([`Client::download_snapshot`]);
//! - links are looked along for devices ([`Client::look`]);
//! - the secret of a join token is made here ([`Client::invite`]);
//! - both ways to a site behind one set of calls (`transport`);
//! - connections with all that NATS offers to log in, and the contexts of the `nats` command
//!   ([`ConnectConfig`]).

mod bench;
mod client;
mod connect;
mod context;
mod door;
mod error;
mod exchange;
mod follow;
mod invite;
mod leader_way;
mod local;
mod look;
mod node;
mod outcome;
mod request_ids;
mod site;
mod snapshot;
mod transport;

pub use bench::{BenchPlan, BenchReport, BenchTarget, WriteEnd, run_bench, run_load};
pub use client::{Client, CommandOptions, is_code};
pub use connect::{Auth, ConnectConfig, SERVER_DEFAULT, Tls};
pub use door::is_door;
pub use error::{ClientError, ConnectError};
pub use follow::{Followed, Follower, News};
pub use invite::{Invitation, Invited};
pub use local::LocalOutcome;
pub use outcome::{Outcome, Unknown};
pub use request_ids::RequestIds;
pub use snapshot::Downloaded;
