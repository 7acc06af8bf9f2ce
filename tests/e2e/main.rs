//! The whole of it as a user meets it: real processes, a real nats-server, a real engine.
//!
//! Without them these tests fail, and say to run `make setup`; they never skip.

mod agent;
mod autoscale;
mod bad_input;
mod cli;
mod compose;
mod dev;
mod life;
mod multi_host;
mod outages;
mod published;
mod python;
mod registry;
mod takeover;
