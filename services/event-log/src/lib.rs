//! The sequencer: order, fsync, hash chain, reads and snapshots.
//!
//! What anyone has ever seen is on disk: entries are stored in groups, each with one sync, and only
//! then published. The bus is transport with a bounded memory, and is repaired from the log.
//!
//! Not here: any decision about the cluster. This service knows in which order events happened and
//! who may state them, and nothing of what they are for.

pub mod archive;
pub mod disk;
pub mod packed;
pub mod start;
pub mod store;
pub mod witness;

pub mod sequencer;

pub mod config;
pub mod service;

mod audit;
mod entry;
mod fork;
mod index;
mod others;
mod proof;
mod reads;
mod rebuild;
mod room;
mod salvage;
mod scrub;
mod verify;
mod view;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use archive::restore;
pub use config::Config;
pub use fork::Fork;
pub use salvage::{Salvaged, salvage};
pub use service::run;
pub use verify::{Progress, Report, look, verify};
