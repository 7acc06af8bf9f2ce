//! The wiring: follows what gateways tell each other, and orders what is due, one host at a time.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, Expect, PublishError};
use instant_acme::Account;
use runtime::{Failure, Shutdown, clock, entropy};
use schemas::id::{Digest, NodeName};
use schemas::stream;
use schemas::tls::{self, Certificate, Challenge, Order, Phase, Told};
use tokio::sync::watch;

use super::Acme;
use super::kept::Kept;
use super::order::{self, Failed, Issued};
use super::schedule::{self, Now};
use super::seal::Seal;
use super::shelf::Shelf;

/// How often it is looked whether something is due.
const LOOK: Duration = Duration::from_secs(1);

/// How long gateways get to hear of a challenge before the CA is told to ask.
const SPREAD: Duration = Duration::from_secs(1);

/// How many messages are taken in at once.
const AT_ONCE: usize = 256;

/// The seal that an operator gave the gateways.
///
/// # Errors
///
/// When the file cannot be read, or holds no key.
pub(crate) fn seal(file: &Path) -> Result<Seal, Failure> {
    let key = entropy::seed_of(file);
    key.map(|key| Seal::new(&key))
        .map_err(|error| format!("the seal key {}: {error}", file.display()).into())
}

/// Follows until asked to stop, and orders until `no_orders`: from then on another process of this node does.
///
/// # Errors
///
/// When the connection is gone for good.
pub(crate) async fn serve(
    bus: &Bus,
    node: &NodeName,
    acme: &Acme,
    shelf: &Shelf,
    kept: Kept,
    no_orders: &Shutdown,
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    let (Some(directory), Some(seal)) = (&acme.acme_directory, shelf.seal()) else {
        return follow(bus, shelf, kept, shutdown).await;
    };
    let (instance, node) = (entropy::hex(), node.clone());
    let (directory, account) = (directory.clone(), tokio::sync::Mutex::default());
    let orders = Orders { bus, node, instance, acme, directory, seal, shelf, account };
    tokio::try_join!(follow(bus, shelf, kept, shutdown), orders.run(shelf.is_read(), no_orders))
        .map(|_| ())
}

/// Reads what gateways told and tell.
async fn follow(
    bus: &Bus,
    shelf: &Shelf,
    mut kept: Kept,
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    let mut follow = bus.follow(stream::TLS.name, 0, None);
    loop {
        let batch = tokio::select! {
            () = shutdown.requested() => return Ok(()),
            batch = follow.next_batch(AT_ONCE) => batch,
        };
        match batch {
            Ok(batch) => {
                for message in batch {
                    match serde_json::from_slice::<Told>(&message.payload) {
                        Ok(told) if told.subject() == message.subject => {
                            if let Told::Certificate(certificate) = &told {
                                kept.add(certificate);
                            }
                            shelf.hear(told, message.sequence, clock::mono_ms());
                        }
                        _ => tracing::warn!(
                            subject = message.subject,
                            "what is told of TLS is not understood"
                        ),
                    }
                }
                if follow.caught_up() {
                    kept.keep().await;
                    shelf.all_read();
                }
            }
            Err(bus::FollowError::Bus(error)) => return Err(error.into()),
            // What was let go of there is newer by now; or the stream was made anew, and what is written there
            // is written against nothing that was read.
            Err(_) => {
                shelf.begin_anew();
                follow = bus.follow(stream::TLS.name, 0, None);
            }
        }
    }
}

struct Orders<'a> {
    bus: &'a Bus,
    node: NodeName,
    instance: String,
    acme: &'a Acme,
    directory: String,
    seal: Arc<Seal>,
    shelf: &'a Shelf,
    account: tokio::sync::Mutex<Option<Account>>,
}

impl Orders<'_> {
    async fn run(
        self,
        mut read: watch::Receiver<bool>,
        shutdown: &Shutdown,
    ) -> Result<(), Failure> {
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            read = read.wait_for(|read| *read) => { let _ = read?; }
        }
        loop {
            tokio::select! {
                () = shutdown.requested() => return Ok(()),
                () = tokio::time::sleep(LOOK) => {}
            }
            for host in self.shelf.wanted() {
                let (heard, validity) = (self.shelf.order(&host), self.shelf.validity(&host));
                let now = Now { utc_ms: clock::utc_ms(), mono_ms: clock::mono_ms() };
                let jitter = self.jitter(&host);
                if !schedule::orders(now, validity, heard.as_ref(), &self.instance, jitter) {
                    continue;
                }
                let sequence = heard.as_ref().map_or(0, |heard| heard.sequence);
                let failures = heard.map_or(0, |heard| heard.order.failures);
                tokio::select! {
                    () = shutdown.requested() => return Ok(()),
                    () = self.order(&host, sequence, failures) => {}
                }
            }
        }
    }

    /// Orders a host's certificate, if nobody else wrote its order meanwhile, and says how it went. The old
    /// certificate serves until the new one is there.
    async fn order(&self, host: &str, sequence: u64, failures: u32) {
        let ordering = self.told(host, Phase::Ordering, failures, None);
        let mut sequence = match self.publish(&ordering, Some(sequence)).await {
            Ok(sequence) => sequence,
            Err(PublishError::WrongLast(_)) => return,
            Err(error) => {
                tracing::warn!(host, %error, "a certificate is not ordered: the bus did not take that");
                return;
            }
        };
        tracing::info!(host, directory = self.directory, "ordering a certificate");
        let mut issue = std::pin::pin!(self.issue(host));
        let mut tick = tokio::time::interval(Duration::from_millis(tls::ORDERING_MS));
        tick.tick().await;
        let outcome = loop {
            tokio::select! {
                outcome = &mut issue => break outcome,
                _ = tick.tick() => match self.publish(&ordering, Some(sequence)).await {
                    Ok(next) => sequence = next,
                    // Another took it over: what comes of ours is as good, but it is not ours to tell.
                    Err(PublishError::WrongLast(_)) => return,
                    Err(_) => {}
                },
            };
        };
        let done = match outcome {
            Ok(()) => self.told(host, Phase::Done, 0, None),
            Err(failed) => {
                tracing::error!(host, why = failed.why, "a certificate was not ordered");
                self.told(host, Phase::Failed, failures.saturating_add(1), Some(failed))
            }
        };
        // What is not told counts as abandoned after a while.
        if let Err(error) = self.publish(&done, Some(sequence)).await {
            tracing::warn!(host, %error, "how an order went was not told");
        }
    }

    /// Has a certificate issued, and hands it to all gateways.
    async fn issue(&self, host: &str) -> Result<(), Failed> {
        let account = self.account().await?;
        let announce = async |challenge: Challenge| {
            self.publish(&Told::Challenge(challenge), None)
                .await
                .map_err(|error| not_told(&error))?;
            tokio::time::sleep(SPREAD).await;
            Ok(())
        };
        let Issued { bundle, validity } = order::certificate(&account, host, announce).await?;
        let (not_before_ms, not_after_ms) = validity;
        let mut certificate = Certificate {
            host: host.to_owned(),
            not_before_ms,
            not_after_ms,
            node: self.node.clone(),
            sealed_base64: String::new(),
        };
        let plain = serde_json::to_vec(&bundle).map_err(|why| Failed::of(why.to_string()))?;
        let subject = Told::Certificate(certificate.clone()).subject();
        certificate.sealed_base64 = self.seal.close(&subject, &plain);
        let told = Told::Certificate(certificate);
        self.publish(&told, None).await.map(|_| ()).map_err(|error| not_told(&error))
    }

    /// The cluster's account with the CA, made when there is none.
    async fn account(&self) -> Result<Account, Failed> {
        let mut known = self.account.lock().await;
        if let Some(account) = known.as_ref() {
            return Ok(account.clone());
        }
        let subject = tls::account_subject(&self.directory);
        let account = match self.shelf.account(&self.directory) {
            Some(kept) => {
                let plain = self.seal.open(&subject, &kept.sealed_base64).ok_or_else(|| {
                    Failed::of("the account was sealed by another key: give all gateways the same")
                })?;
                order::known_account(self.acme, &plain).await?
            }
            None => {
                let (account, credentials) = order::new_account(self.acme, &self.directory).await?;
                let sealed_base64 = self.seal.close(&subject, &credentials);
                let directory = self.directory.clone();
                let told = Told::Account(tls::Account { directory, sealed_base64 });
                // Whoever was first has the account; the other one is used once.
                match self.publish(&told, Some(0)).await {
                    Err(PublishError::WrongLast(_)) => return Ok(account),
                    outcome => outcome.map_err(|error| not_told(&error))?,
                };
                account
            }
        };
        Ok(known.insert(account).clone())
    }

    fn told(&self, host: &str, phase: Phase, failures: u32, failed: Option<Failed>) -> Told {
        let limited = failed.as_ref().is_some_and(|failed| failed.limited);
        let wait_ms = schedule::wait_ms(failures, limited, self.jitter(host));
        let next_ms = match phase {
            Phase::Ordering => 0,
            Phase::Failed => clock::utc_ms() + wait_ms,
            Phase::Done => clock::utc_ms() + schedule::REST_MS,
        };
        Told::Order(Order {
            host: host.to_owned(),
            node: self.node.clone(),
            instance: self.instance.clone(),
            phase,
            since_ms: clock::utc_ms(),
            failures,
            error: failed.map(|failed| failed.why),
            next_ms,
        })
    }

    /// Publishes what is told, if nothing else was told there since `last`. Returns its sequence.
    async fn publish(&self, told: &Told, last: Option<u64>) -> Result<u64, PublishError> {
        let subject = told.subject();
        let payload = serde_json::to_vec(told).expect("what is told has string keys only");
        let last_on = last.map(|last| (subject.clone(), last));
        let expect = Expect { last: None, last_on };
        self.bus.publish_checked(&subject, payload, &expect).await?.outcome().await
    }

    /// A number of this host here that is the same at every look.
    fn jitter(&self, host: &str) -> u64 {
        let digest = Digest::of(format!("{host}/{}", self.instance).as_bytes());
        u64::from_str_radix(&digest.as_str()[..8], 16).unwrap_or(0)
    }
}

fn not_told(error: &PublishError) -> Failed {
    Failed::of(format!("the bus did not take it: {error}"))
}
