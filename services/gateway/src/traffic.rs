//! What goes through a published port, in numbers.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use runtime::Metrics;

/// The numbers of one port. They are counted without a lock, and told from time to time.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    open: AtomicU64,
    connections: AtomicU64,
    refused: AtomicU64,
    unserved: AtomicU64,
    failures: AtomicU64,
    dropped: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

impl Traffic {
    pub(crate) fn opened(&self) {
        self.open.fetch_add(1, Relaxed);
        self.connections.fetch_add(1, Relaxed);
    }

    pub(crate) fn closed(&self) {
        self.open.fetch_sub(1, Relaxed);
    }

    /// A client found that there are as many as there may be.
    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// A client found no endpoint that could be reached.
    pub(crate) fn unserved(&self) {
        self.unserved.fetch_add(1, Relaxed);
    }

    /// An endpoint could not be reached.
    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    /// A datagram went nowhere.
    pub(crate) fn dropped(&self) {
        self.dropped.fetch_add(1, Relaxed);
    }

    /// Bytes of a client went to its endpoint.
    pub(crate) fn received(&self, bytes: usize) {
        self.received.fetch_add(u64::try_from(bytes).unwrap_or(0), Relaxed);
    }

    /// Bytes of an endpoint went to its client.
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(u64::try_from(bytes).unwrap_or(0), Relaxed);
    }

    /// Adds what was counted since it was last told.
    pub(crate) fn tell(&self, metrics: &Metrics, labels: &[(&str, &str)]) {
        let open = self.open.load(Relaxed);
        metrics.set("muster_gateway_open", "Connections that are open.", labels, open);
        let count = |name, help, number: &AtomicU64| {
            metrics.count(name, help, labels, number.swap(0, Relaxed));
        };
        count("muster_gateway_connections", "Connections so far.", &self.connections);
        count("muster_gateway_refused", "Clients beyond the bound of a port.", &self.refused);
        count("muster_gateway_unserved", "Clients that no replica could take.", &self.unserved);
        count(
            "muster_gateway_connect_failures",
            "Endpoints that were not reached.",
            &self.failures,
        );
        count("muster_gateway_dropped", "Datagrams that went nowhere.", &self.dropped);
        count("muster_gateway_received_bytes", "From clients to replicas.", &self.received);
        count("muster_gateway_sent_bytes", "From replicas to clients.", &self.sent);
    }
}
