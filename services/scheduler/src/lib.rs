//! Decides which node a replica goes to, or why none; writes the node documents.
