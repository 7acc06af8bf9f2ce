//! The gateway: serves the published ports of workloads on its machine, and forwards them to the
//! replicas that are ready, wherever they run.
//!
//! [`follow`] reads history and says what is to be served: a [`table`] of endpoints by published
//! port, which follows from the state and from nothing else. [`ports`] listens as the table says;
//! [`balance`] chooses an endpoint; `tcp` and `udp` carry bytes. Who replaces the forwarding keeps
//! the table. [`inside`] serves workloads by name to the containers of its machine.
//!
//! Not here: any decision, and any event. With the bus away the last table is served on.

pub mod balance;
pub mod config;
pub mod follow;
pub mod inside;
pub mod ports;
pub mod service;
pub mod table;

mod pool;
mod tcp;
mod traffic;
mod udp;

pub use config::Config;
pub use service::run;
