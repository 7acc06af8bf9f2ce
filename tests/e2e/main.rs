//! The whole of it as a user meets it: real processes, a real nats-server, a real engine.
//!
//! Without them these tests fail, and say to run `make setup`; they never skip.

mod bad_input;
mod life;
mod multi_host;
mod outages;
mod python;
