//! How each part of the world is wired to the others: what its outputs become, and what comes in.

mod event_log;
mod gateways;
mod nodes;
mod services;
