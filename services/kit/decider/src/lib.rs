//! What every deciding service does alike: follow, claim, decide, append. Pure.
