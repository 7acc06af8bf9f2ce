//! What gateways told each other of certificates, as far as this one can use it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use runtime::Metrics;
use schemas::command::printable;
use schemas::id::NodeName;
use schemas::report::Ordered;
use schemas::tls::{Account, Bundle, Certificate, Challenge, Phase, Told};
use tokio::sync::watch;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::schedule::Heard;
use super::seal::Seal;

/// What is shared between the ports and who follows the bus.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    known: RwLock<Known>,
    /// Whether all that had been told was heard.
    read: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Known {
    seal: Option<Arc<Seal>>,
    /// The hosts of routes that want a certificate.
    wanted: BTreeSet<String>,
    challenges: BTreeMap<String, Challenge>,
    certificates: BTreeMap<String, Shown>,
    orders: BTreeMap<String, Heard>,
    accounts: BTreeMap<String, Account>,
    /// Why the newest certificate of a host could not be used, and from when until when it is valid.
    unusable: BTreeMap<String, (String, (u64, u64))>,
}

/// How many orders a report tells of, and how much of why one failed.
const ORDERED_MAX: usize = 200;
const ERROR_MAX: usize = 500;

impl Known {
    fn validity(&self, host: &str) -> Option<(u64, u64)> {
        let unusable = self.unusable.get(host).map(|(_, validity)| *validity);
        unusable.or_else(|| Some(self.certificates.get(host)?.validity))
    }
}

/// A certificate as it is served.
#[derive(Debug)]
struct Shown {
    validity: (u64, u64),
    key: Arc<CertifiedKey>,
}

impl Shelf {
    /// Opens what is sealed by this from now on.
    pub(crate) fn open_by(&self, seal: Arc<Seal>) {
        self.write().seal = Some(seal);
    }

    /// All that had been told was heard.
    pub(crate) fn all_read(&self) {
        self.read.send_replace(true);
    }

    /// Whether that is so.
    pub(crate) fn is_read(&self) -> watch::Receiver<bool> {
        self.read.subscribe()
    }

    /// What opens what is sealed.
    pub(crate) fn seal(&self) -> Option<Arc<Seal>> {
        self.read().seal.clone()
    }

    /// Serves a certificate that was heard by a process before this one. Where it cannot be used, it is as if it
    /// had not been: what is so now is heard from the bus.
    pub(crate) fn recall(&self, certificate: Certificate) {
        let mut known = self.write();
        let host = certificate.host.clone();
        match shown(known.seal.as_deref(), certificate) {
            Ok(shown) => {
                known.certificates.insert(host, shown);
            }
            Err(why) => tracing::info!(host, why, "a certificate that was kept is left out"),
        }
    }

    pub(crate) fn want(&self, hosts: BTreeSet<String>) {
        self.write().wanted = hosts;
    }

    pub(crate) fn wanted(&self) -> BTreeSet<String> {
        self.read().wanted.clone()
    }

    /// Takes in what a gateway told.
    pub(crate) fn hear(&self, told: Told, sequence: u64, at_ms: u64) {
        let mut known = self.write();
        match told {
            Told::Challenge(challenge) => {
                known.challenges.insert(challenge.host.clone(), challenge);
            }
            Told::Order(order) => {
                known.orders.insert(order.host.clone(), Heard { order, sequence, at_ms });
            }
            Told::Account(account) => {
                known.accounts.insert(account.directory.clone(), account);
            }
            Told::Certificate(certificate) => {
                let host = certificate.host.clone();
                let validity = (certificate.not_before_ms, certificate.not_after_ms);
                match shown(known.seal.as_deref(), certificate) {
                    Ok(shown) => {
                        tracing::info!(host, "a certificate is served");
                        known.unusable.remove(&host);
                        known.certificates.insert(host, shown);
                    }
                    Err(why) => {
                        tracing::error!(host, why, "a certificate is not served");
                        known.unusable.insert(host, (why, validity));
                    }
                }
            }
        }
    }

    /// All that is told will be heard again. Certificates are served on.
    pub(crate) fn begin_anew(&self) {
        let mut known = self.write();
        known.orders.clear();
        known.accounts.clear();
        known.challenges.clear();
    }

    /// The answer to what a CA asks for under a host.
    pub(crate) fn answer(&self, host: &str, token: &str) -> Option<String> {
        let known = self.read();
        let challenge = known.challenges.get(&host.to_ascii_lowercase())?;
        (challenge.token == token).then(|| challenge.key_authorization.clone())
    }

    /// The certificate of a host.
    pub(crate) fn get(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        Some(self.read().certificates.get(&host.to_ascii_lowercase())?.key.clone())
    }

    /// From when until when the newest certificate of a host is valid, also where others alone can use it: another
    /// seal key is nothing that an order mends.
    pub(crate) fn validity(&self, host: &str) -> Option<(u64, u64)> {
        self.read().validity(host)
    }

    pub(crate) fn order(&self, host: &str) -> Option<Heard> {
        self.read().orders.get(host).cloned()
    }

    pub(crate) fn account(&self, directory: &str) -> Option<Account> {
        self.read().accounts.get(directory).cloned()
    }

    /// How the orders stand that are a node's, or were last: the newest, where there are too many for a report.
    pub(crate) fn ordered(&self, node: &NodeName) -> Vec<Ordered> {
        let known = self.read();
        let own = known.orders.values().map(|heard| &heard.order);
        // What was told without a time cannot be put in order.
        let mut own: Vec<_> = own.filter(|o| o.node == *node && o.since_ms > 0).collect();
        own.sort_by_key(|order| std::cmp::Reverse(order.since_ms));
        own.truncate(ORDERED_MAX);
        let ordered = own.into_iter().map(|order| Ordered {
            host: order.host.clone(),
            phase: order.phase,
            since_ms: order.since_ms,
            failures: order.failures,
            error: order.error.as_deref().map(|why| printable(why, ERROR_MAX)),
            next_ms: order.next_ms,
            valid_ms: known.validity(&order.host),
        });
        // A certificate that this one has not heard of yet has an end all the same: soon.
        ordered.filter(|one| one.phase != Phase::Done || one.valid_ms.is_some()).collect()
    }

    /// What is wrong with certificates that are wanted. The old one serves on meanwhile, where there is one.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let known = self.read();
        let trouble = |host: &String| {
            if let Some((why, _)) = known.unusable.get(host) {
                return Some(format!("certificate of {host}: {why}"));
            }
            let heard = known.orders.get(host);
            let failed = heard.filter(|heard| heard.order.phase == Phase::Failed);
            if let Some(Heard { order, .. }) = failed {
                let why = order.error.as_deref().unwrap_or("it failed");
                return Some(format!("certificate of {host} by ACME, from {}: {why}", order.node));
            }
            let missing = !known.certificates.contains_key(host);
            missing.then(|| match &known.seal {
                Some(_) => format!("certificate of {host} by ACME: not there yet"),
                None => format!("certificate of {host} by ACME: give --seal-key-file"),
            })
        };
        known.wanted.iter().filter_map(trouble).collect()
    }

    /// Adds its numbers to those of the process.
    pub(crate) fn tell(&self, metrics: &Metrics) {
        let known = self.read();
        for host in &known.wanted {
            let labels = [("host", host.as_str())];
            let help = "Until when a certificate of ACME is valid, in seconds since 1970 UTC; 0 without one.";
            let until = known.certificates.get(host).map_or(0, |shown| shown.validity.1 / 1_000);
            metrics.set("muster_gateway_certificate_expires_seconds", help, &labels, until);
            let help = "How often in a row the order of a certificate failed.";
            let failures = known.orders.get(host).map_or(0, |heard| heard.order.failures);
            metrics.set("muster_gateway_acme_failures", help, &labels, failures.into());
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shown(seal: Option<&Seal>, certificate: Certificate) -> Result<Shown, String> {
    let validity = (certificate.not_before_ms, certificate.not_after_ms);
    let seal = seal.ok_or("it is sealed: give --seal-key-file")?;
    let sealed = certificate.sealed_base64.clone();
    let plain = seal.open(&Told::Certificate(certificate).subject(), &sealed);
    let plain = plain.ok_or("it was sealed by another key: give all gateways the same")?;
    let wrong = |why: &dyn std::fmt::Display| format!("it does not decode: {why}");
    let bundle: Bundle = serde_json::from_slice(&plain).map_err(|why| wrong(&why))?;
    let key = certified(&bundle).map_err(|why| wrong(&why))?;
    Ok(Shown { validity, key: Arc::new(key) })
}

fn certified(bundle: &Bundle) -> Result<CertifiedKey, String> {
    let chain = CertificateDer::pem_slice_iter(bundle.chain.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|why| why.to_string())?;
    let key =
        PrivateKeyDer::from_pem_slice(bundle.key.as_bytes()).map_err(|why| why.to_string())?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use schemas::id::NodeName;

    use super::*;
    use crate::acme::kept::Kept;

    fn certificate(seal: &Seal, host: &str, plain: &[u8]) -> Told {
        let node = NodeName::new("n1").expect("a name");
        let (host, sealed_base64) = (host.to_owned(), String::new());
        let (not_before_ms, not_after_ms) = (1_000, 9_000);
        let mut told = Certificate { host, not_before_ms, not_after_ms, node, sealed_base64 };
        let subject = Told::Certificate(told.clone()).subject();
        told.sealed_base64 = seal.close(&subject, plain);
        Told::Certificate(told)
    }

    #[test]
    fn a_challenge_is_answered_for_its_host_and_token_only() {
        let shelf = Shelf::default();
        let told = |token: &str| {
            let (host, token) = ("shop.example".to_owned(), token.to_owned());
            let key_authorization = format!("{token}.key");
            Told::Challenge(Challenge { host, token, key_authorization })
        };
        shelf.hear(told("one"), 1, 0);
        assert_eq!(shelf.answer("Shop.example", "one").as_deref(), Some("one.key"));
        assert_eq!(
            (shelf.answer("shop.example", "two"), shelf.answer("other", "one")),
            (None, None)
        );
        shelf.hear(told("two"), 2, 0);
        assert_eq!(shelf.answer("shop.example", "one"), None, "the newest holds");
    }

    #[test]
    fn what_cannot_be_opened_is_told_of_and_is_no_reason_to_order() {
        let shelf = Shelf::default();
        shelf.want(["shop.example".to_owned()].into());
        assert!(shelf.troubles()[0].contains("--seal-key-file"), "{:?}", shelf.troubles());
        shelf.open_by(Arc::new(Seal::new(&[1; 32])));
        assert!(shelf.troubles()[0].contains("not there yet"), "{:?}", shelf.troubles());
        shelf.hear(certificate(&Seal::new(&[2; 32]), "shop.example", b"{}"), 1, 0);
        assert!(shelf.troubles()[0].contains("sealed by another key"), "{:?}", shelf.troubles());
        assert_eq!(shelf.validity("shop.example"), Some((1_000, 9_000)));
        shelf.hear(certificate(&Seal::new(&[1; 32]), "shop.example", b"{}"), 2, 0);
        assert!(shelf.troubles()[0].contains("does not decode"), "{:?}", shelf.troubles());
        assert!(shelf.get("shop.example").is_none());
    }

    #[tokio::test]
    async fn what_was_kept_is_served_where_it_can_be_opened_and_is_else_as_if_it_had_not_been() {
        let folder = std::env::temp_dir().join(format!("muster-shelf-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder takes folders");
        let key = folder.join("seal-key");
        std::fs::write(&key, "01".repeat(32)).expect("the folder takes files");
        let ours = crate::acme::serve::seal(&key).expect("it is one");
        let acme = crate::acme::Acme { seal_key_file: Some(key), ..Default::default() };
        let node = NodeName::new("n1").expect("a name");
        let open =
            |shelf: &Shelf| Kept::open(&folder, &node, &acme, shelf).expect("the key will do");
        let (pem, secret) = (folder.join("pem"), folder.join("secret"));
        let made = std::process::Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-nodes", "-days", "2", "-subj", "/CN=shop.example"])
            .args(["-keyout", &secret.display().to_string(), "-out", &pem.display().to_string()])
            .output()
            .expect("openssl is there: run `make setup`");
        assert!(made.status.success(), "{made:?}");
        let read = |path| std::fs::read_to_string(path).expect("it is made");
        let bundle = Bundle { chain: read(pem), key: read(secret) };
        let plain = serde_json::to_vec(&bundle).expect("it has string keys only");
        let mut kept = open(&Shelf::default());
        let others = Seal::new(&[2; 32]);
        for (seal, host) in [(&ours, "shop.example"), (&others, "other.example")] {
            if let Told::Certificate(one) = certificate(seal, host, &plain) {
                kept.add(&Certificate { not_after_ms: u64::MAX, ..one });
            }
        }
        kept.keep().await;
        let shelf = Shelf::default();
        let _kept = open(&shelf);
        assert!(shelf.get("shop.example").is_some());
        assert_eq!(
            (shelf.get("other.example").is_some(), shelf.validity("other.example")),
            (false, None)
        );
        std::fs::write(folder.join("gateway-n1-certificates.json"), "{")
            .expect("the folder takes files");
        let shelf = Shelf::default();
        let _kept = open(&shelf);
        assert!(shelf.get("shop.example").is_none());
        std::fs::remove_dir_all(&folder).expect("it is ours");
    }
}
