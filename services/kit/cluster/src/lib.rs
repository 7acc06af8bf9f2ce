//! The fold: cluster state from events. Pure.
