//! The scheduler: decides which node a replica goes to, or says everything that keeps it from one;
//! and writes the documents that tell each node what to run.
//!
//! [`filter`] holds one rule per reason why a replica does not fit a node. [`place`] chooses among
//! the nodes that fit. [`documents`] derives each node's document from the state. All pure;
//! [`rules`] makes one service of them.
//!
//! Not here: how many replicas there should be (controller), and running them (node-agent).

pub mod config;
pub mod documents;
pub mod filter;
pub mod place;
pub mod rules;
pub mod service;

pub use config::Config;
pub use rules::Scheduler;
pub use service::run;
