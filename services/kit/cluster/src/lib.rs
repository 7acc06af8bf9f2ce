//! The fold: the cluster's state, from its events and nothing else.
//!
//! Every service that decides, and event-log when it answers reads, folds the same events with this
//! crate and so has the same state. `apply` is total and pure: an event already happened, so it
//! cannot be refused; what its writer could not have written is counted in [`State::anomalies`].
//!
//! Not here: deciding anything, reading a clock, any IO, and any way of getting at the events.

mod declared;
pub mod fold;
#[cfg(any(test, feature = "testing"))]
pub mod history;
mod mark;
pub mod near;
pub mod section;
pub mod state;
pub mod view;

mod apply;

pub use apply::At;
pub use fold::{Applied, FOLD_VERSION, Fold, FoldError, Replay};
pub use mark::Marks;
pub use state::State;
