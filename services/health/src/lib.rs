//! Health: decides which nodes are suspected, lost and back, from their silence alone.
//!
//! Silence is counted by this process's own monotonic clock, and from its own connection: what was
//! not heard while nobody listened says nothing.
//!
//! Not here: whether a container is healthy (its node's agent probes it), and what follows from a
//! lost node (the controller replaces its replicas).

pub mod config;
pub mod rules;
pub mod service;

pub use config::Config;
pub use rules::Health;
pub use service::run;
