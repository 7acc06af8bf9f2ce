//! Accepts or rejects commands; decides which replicas must exist.
