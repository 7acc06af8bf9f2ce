//! Past-tense facts of record: the log's vocabulary.
//!
//! One event is one decision, not one replica: a round that places 500 replicas on a node is one
//! event. Each event names its writers, the subject it is published on, and the entities under
//! which history finds it again.

mod about;
#[macro_use]
mod declare;
mod all;
mod by;
mod parts;

pub use about::*;
pub use all::*;
pub use by::By;
pub use parts::{
    Called, Caller, ENTRIES_MAX, Endpoint, Evidence, Measured, Move, NodeDescription, Outcome,
    PassedOver, RequestedReplica, RetireReason, TaskFailed, Unfit, Way,
};
