//! What every deciding service does alike: follow the events, claim the leadership, decide, append.
//!
//! A [`Decider`] is a synchronous machine around a service's [`Rules`]. It is handed what arrived
//! and the time, and returns what to send. It has at most one batch in flight, decides next on a
//! fold that includes that batch, and gets its ids from a seed: so a run replays exactly.
//!
//! Not here: any rule of a service, any IO, any clock or entropy, and how messages travel.

mod draft;
mod machine;
mod offer;

pub use draft::{Decision, draft};
pub use machine::{Decider, Input, Now, Output, Role};

use cluster::State;
use schemas::id::Writer;
use schemas::place::Place;

/// What a service decides. Pure: no clock, no entropy, no IO; ties break on ids.
pub trait Rules {
    /// What it listens to beside events: commands, reports.
    type Input;
    /// What it sends beside events: documents.
    type Output;

    /// Whose decisions these are.
    fn writer(&self) -> Writer;

    /// Takes note of something that arrived. Called whether this instance leads or not.
    fn input(&mut self, input: Self::Input, state: &State, now: Now);

    /// What follows from the state and from what arrived. Level-triggered: called again and again,
    /// it must say the same until what it said is in the state, and then nothing.
    fn decide(&mut self, state: &mut State, now: Now) -> Decision;

    /// What to send that follows from the state alone, whether or not a batch is in flight.
    fn reflect(&mut self, state: &mut State, place: Place, now: Now) -> Vec<Self::Output>;

    /// An entity that had to be absent is there: whoever put it there was first.
    fn exists(&mut self, entity: &str);

    /// The connection is there (again): whatever was not heard before says nothing.
    fn connected(&mut self, _now: Now) {}

    /// This instance has begun to lead; everything in the state counts as touched.
    fn lead(&mut self, state: &State, now: Now);

    /// What to show of it beside what every service shows.
    fn levels(&self) -> Vec<Level> {
        Vec::new()
    }
}

/// A number of a service, as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// What it is called.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// The number.
    pub value: u64,
}
