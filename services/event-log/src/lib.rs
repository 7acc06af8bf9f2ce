//! The sequencer: order, fsync, hash chain, reads and snapshots.
