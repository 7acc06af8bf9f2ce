//! The life of a process: settings, telemetry, signals, clock, health page; and the pumps that carry
//! messages between the bus and the machines.
//!
//! The only crate that reads the clock, the environment, signals or entropy, and that spawns tasks.
//!
//! Not here: any rule, and anything that only one service needs.

pub mod admin;
pub mod clock;
pub mod entropy;
pub mod files;
pub mod history;
pub mod inside;
pub mod manager;
pub mod metrics;
pub mod process;
pub mod pump;
pub mod reader;
pub mod settings;
pub mod tasks;

pub use admin::{Admin, Readiness};
pub use metrics::Metrics;
pub use process::Shutdown;
pub use settings::Settings;

/// Why a service ended that was not asked to.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
