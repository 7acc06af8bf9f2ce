//! The life of a process: configuration, telemetry, signals, clock, drain; pumps the machines.
