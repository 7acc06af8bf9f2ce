//! What gateways said of the certificates that they order.

use schemas::event::{CertificateFailed, CertificateIssued, CertificateOrdered};
use schemas::id::NodeName;
use schemas::tls::Phase;

use crate::state::{CERTIFICATES_MAX, Certificate, State};

impl State {
    pub(super) fn certificate_ordered(&mut self, e: &CertificateOrdered) {
        self.certificate(&e.host, &e.node, Phase::Ordering, e.since_ms, None);
    }

    pub(super) fn certificate_issued(&mut self, e: &CertificateIssued) {
        self.certificate(&e.host, &e.node, Phase::Done, e.since_ms, Some(e.not_after_ms));
    }

    pub(super) fn certificate_failed(&mut self, e: &CertificateFailed) {
        self.certificate(&e.host, &e.node, Phase::Failed, e.since_ms, None);
    }

    /// Notes how an order stands. What was issued before stays where nothing new is.
    fn certificate(
        &mut self,
        host: &str,
        node: &NodeName,
        phase: Phase,
        since_ms: u64,
        not_after_ms: Option<u64>,
    ) {
        let before = self.certificates.get(host).map_or(0, |known| known.not_after_ms);
        let not_after_ms = not_after_ms.unwrap_or(before);
        let now = Certificate { node: node.clone(), phase, since_ms, not_after_ms };
        self.certificates.insert(host.to_owned(), now);
        if self.certificates.len() > CERTIFICATES_MAX {
            let oldest = self.certificates.iter().min_by_key(|(host, c)| (c.since_ms, *host));
            if let Some(oldest) = oldest.map(|(host, _)| host.clone()) {
                self.certificates.remove(&oldest);
            }
        }
    }
}
