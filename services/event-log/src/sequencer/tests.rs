//! The sequencer against a fake store and a fake stream.

mod ahead;
mod diverge;
mod joins;
mod refuses;
mod room;
mod several;
mod storm;
mod stream;
mod world;
