//! The controller: accepts or rejects commands, and decides which replicas must exist.
//!
//! [`commands`] answers a command with the events that should follow, or says why none should.
//! [`reconcile`] compares what an app declares with the replicas it has, and requests and retires
//! replicas until they agree. [`rollout`] is what the way from one revision to the next needs beside
//! that: the way back, the steps, and what gateways measure. [`leaving`] says when a replica that must
//! go has finished what is under way, by what gateways report, and [`certificates`] what of their orders
//! is of record. [`calls`] is who calls whom and how far that is, by the same reports, and [`rebalance`] when
//! replicas move by themselves. All are pure; [`rules`] makes one service of them.
//!
//! Not here: which node a replica goes to (scheduler), starting anything (node-agent).

pub mod calls;
pub mod certificates;
pub mod commands;
pub mod config;
pub mod leaving;
pub mod rebalance;
pub mod reconcile;
pub mod rollout;
pub mod rules;
pub mod service;

pub use config::Config;
pub use rules::{Controller, Heard};
pub use service::run;
