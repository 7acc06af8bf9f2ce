//! Damage and loss of what is stored: it is never silent, and it can be repaired.
//!
//! A short slice of what `muster-torture` runs at length.

mod bitflip;
mod refill;
mod repair;
mod versions;
