//! The whole of it as a user meets it: real processes, a real nats-server, a real engine.
//!
//! Without them these tests fail, and say to run `make setup`; they never skip.

mod acme;
mod agent;
mod autoscale;
mod autoscale_traffic;
mod back;
mod bad_input;
mod bundle;
mod cli;
mod compose;
mod compose_hosts;
mod dev;
mod drain;
mod fork;
mod history;
mod http;
mod inside;
mod inside_hosts;
mod jobs;
mod leaving;
mod life;
mod metrics;
mod multi_host;
mod near;
mod outages;
mod output;
mod published;
mod python;
mod rebalance;
mod registry;
mod rollouts;
mod runbooks;
mod states;
mod streams;
mod takeover;
mod terminal;
