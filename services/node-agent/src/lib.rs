//! The node-agent: makes its node match its document, probes its containers, and states what
//! happened.
//!
//! [`agent`] is a synchronous machine: documents, listings and outcomes in; operations and facts
//! out. [`engine`] carries the operations out. [`service`] is the pump between the two, the bus and
//! the disk. With the bus away the agent goes on: containers run, runs restart, facts wait.
//!
//! Not here: any decision about the cluster. What runs here was decided elsewhere.

pub mod agent;
pub mod config;
pub mod engine;
pub mod service;

mod credentials;
mod live;
mod probe;

pub use config::Config;
pub use service::run;
