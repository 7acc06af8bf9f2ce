//! What the fold does with histories.
