//! Workloads by name, for the containers of this machine: each has an address in a range that is
//! private to the machine, and a name that a name server answers for.
//!
//! [`map`] says who is where and who may go there; it follows from the state. [`names`] answers
//! questions and [`resolver`] hands on those about the outside. [`host`] makes the machine send what
//! is for the range to this process, by the [`rules`] of its packet filter; [`streams`] and
//! [`datagrams`] carry it on to the replicas. [`serve`] holds it together.
//!
//! Where the machine does not let us, names are not served, which is told as a trouble; published
//! ports are.

pub mod map;
pub mod names;
pub mod rules;

mod datagrams;
mod doors;
mod host;
mod resolver;
mod serve;
mod server;
mod streams;

pub use doors::Inside;
