//! Autoscaler: decides how many replicas a workload should have, from what they use
//! and what gateways send them.
//!
//! It writes no events but those of its leadership. It sends `workload.scale` commands, like any
//! other client: the controller judges them, and their receipts carry the rule, what was measured
//! and for how long.
//!
//! Not here: measuring (agents and gateways do), which replica begins or ends (the controller), and where
//! (the scheduler).

pub mod config;
pub mod rules;
pub mod service;

pub use config::Config;
pub use rules::{Autoscaler, Heard};
pub use service::run;
