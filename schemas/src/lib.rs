//! The words that Muster's services say to each other, and nothing else.
//!
//! Identifiers, what a user may declare, commands, events, reports, node documents, and the subjects
//! and streams that carry them. A service depends on this crate and on `kit`, never on another
//! service: whatever two services share is here.
//!
//! Not here: how a message travels (`bus`), what an event means for the cluster's state
//! (`cluster`), or any rule (the services). There is no IO and no clock in this crate.

pub mod id;
pub mod place;

pub mod spec;

pub mod command;
pub mod event;
pub mod live;
pub mod report;

pub mod append;
pub mod document;
pub mod envelope;
pub mod proof;
pub mod read;

pub mod registry;
pub mod stream;
pub mod subject;
pub mod tls;
