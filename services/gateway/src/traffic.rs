//! What goes through a published port, in numbers.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

use hyper::StatusCode;
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
    /// Answers by the first digit of their status, from 1 to 5.
    answers: [AtomicU64; 5],
    retries: AtomicU64,
    broken: AtomicU64,
    /// Whether any answer was ever told of.
    told: AtomicBool,
    times: [AtomicU64; TIMES_US.len() + 1],
    time_us: AtomicU64,
}

/// The upper ends of the spread of times that is told, in microseconds.
const TIMES_US: [u64; 12] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    5_000_000,
];

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

    /// A replica answered a request, after so long.
    pub(crate) fn answered(&self, status: StatusCode, after_us: u64) {
        self.unanswered(status);
        let size = TIMES_US.partition_point(|end| *end < after_us);
        self.times[size].fetch_add(1, Relaxed);
        self.time_us.fetch_add(after_us, Relaxed);
    }

    /// A request got an answer of our own.
    pub(crate) fn unanswered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.answers[class].fetch_add(1, Relaxed);
    }

    /// A request was sent again.
    pub(crate) fn retried(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    /// A replica broke off.
    pub(crate) fn broken(&self) {
        self.broken.fetch_add(1, Relaxed);
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
        if self.answers.iter().all(|class| class.load(Relaxed) == 0) && !self.told.load(Relaxed) {
            return;
        }
        self.told.store(true, Relaxed);
        count("muster_gateway_retries", "Requests that were sent again.", &self.retries);
        count(
            "muster_gateway_broken",
            "Requests that a replica did not answer to the end.",
            &self.broken,
        );
        self.tell_answers(metrics, labels);
    }

    fn tell_answers(&self, metrics: &Metrics, labels: &[(&str, &str)]) {
        for (class, number) in ["1xx", "2xx", "3xx", "4xx", "5xx"].iter().zip(&self.answers) {
            let mut labels = labels.to_vec();
            labels.push(("code", class));
            let number = number.swap(0, Relaxed);
            metrics.count("muster_gateway_requests", "Answers, by their status.", &labels, number);
        }
        let ends = TIMES_US.iter().map(|end| Some(*end)).chain([None]);
        let spread: Vec<_> =
            ends.zip(&self.times).map(|(end, count)| (end, count.load(Relaxed))).collect();
        let sum_us = self.time_us.load(Relaxed);
        let help = "How long replicas took to begin their answers.";
        metrics.spread("muster_gateway_answer_seconds", help, labels, &spread, sum_us);
    }
}
