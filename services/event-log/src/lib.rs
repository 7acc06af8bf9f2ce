//! The sequencer: order, fsync, hash chain, reads and snapshots.
//!
//! What anyone has ever seen is on disk: entries are stored in groups, each with one sync, and only
//! then published. The bus is transport with a bounded memory, and is repaired from the log.
//!
//! Not here: any decision about the cluster. This service knows in which order events happened and
//! who may state them, and nothing of what they are for.

pub mod start;
pub mod store;
pub mod witness;

pub mod sequencer;

pub mod config;
pub mod service;

mod entry;
mod index;
mod others;
mod reads;
mod verify;
mod view;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use config::Config;
pub use service::run;
pub use verify::verify;
