//! The gateway: serves the published ports of workloads on its machine, and forwards them to the
//! replicas that are ready, wherever they run.
//!
//! [`follow`] reads history and says what is to be served: a [`table`] of endpoints by published
//! port, which follows from the state and from nothing else. [`ports`] listens as the table says;
//! [`balance`] chooses an endpoint; `tcp` and `udp` carry bytes, and `http` requests; [`open`] counts what is
//! under way on each replica, [`numbers`] what went there. [`inside`] serves workloads by name to the
//! containers of its machine; [`callers`] counts who of them calls whom, and [`ways`] says how far it is.
//!
//! [`handover`] lets the next process take over without a gap, and `last` keeps what was known for one
//! that starts alone (`meanwhile`). [`acme`] orders certificates.
//!
//! [`report`] says which table is served by, and what is under way where it does not lead any more.
//!
//! Not here: any decision, and any event. With the bus away the last table is served on.

pub mod acme;
pub mod balance;
pub mod callers;
pub mod config;
pub mod follow;
pub mod handover;
pub mod inside;
pub mod numbers;
pub mod open;
pub mod ports;
pub mod report;
pub mod service;
pub mod table;
pub mod ways;

mod certificates;
mod detect;
mod http;
mod last;
mod meanwhile;
mod pool;
mod proxy;
mod relay;
mod site;
mod stream;
mod tcp;
mod traffic;
mod udp;
mod web;

pub use config::Config;
pub use pool::Shared;
pub use service::{run, run_in_turn};
