//! All services in one thread from one seed.
