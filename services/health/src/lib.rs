//! Decides which nodes are suspected, lost and back.
