//! Typed publish and consume over JetStream.
