//! Certificates that gateways order, and what they tell each other on the way there: newest per subject, not of
//! record. Private keys are sealed by a key that gateways have and nobody on the bus.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::NodeName;

/// How often who orders says that it still does, in ms.
pub const ORDERING_MS: u64 = 10_000;

/// What a CA asks to be answered under `/.well-known/acme-challenge/` of a host. Both parts are public.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Challenge {
    /// The host.
    pub host: String,
    /// What is asked for.
    pub token: String,
    /// What is answered.
    pub key_authorization: String,
}

/// How an order of a host's certificate goes: who writes it, against the one before it, has the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Order {
    /// The host.
    pub host: String,
    /// The node of the gateway that orders, or did.
    pub node: NodeName,
    /// Its instance.
    pub instance: String,
    /// How it stands.
    pub phase: Phase,
    /// Since when, by its gateway's clock, in ms since 1970 UTC.
    #[serde(default)]
    pub since_ms: u64,
    /// How often in a row it failed.
    #[serde(default)]
    pub failures: u32,
    /// Why it failed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Not tried again before this, in ms since 1970 UTC.
    #[serde(default)]
    pub next_ms: u64,
}

/// How an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It is under way.
    Ordering,
    /// It failed.
    Failed,
    /// The certificate is there.
    Done,
}

/// A host's certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Certificate {
    /// The host.
    pub host: String,
    /// From when on it is valid, in ms since 1970 UTC.
    pub not_before_ms: u64,
    /// Until when.
    pub not_after_ms: u64,
    /// The node of the gateway that got it.
    pub node: NodeName,
    /// The chain and the key, sealed under the message's subject, in base64.
    pub sealed_base64: String,
}

/// What a certificate's seal holds.
#[derive(Clone, Serialize, Deserialize)]
pub struct Bundle {
    /// The chain, as PEM.
    pub chain: String,
    /// The key, as PEM.
    pub key: String,
}

/// An account with a CA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Account {
    /// The CA's directory.
    pub directory: String,
    /// The credentials, sealed under the message's subject, in base64.
    pub sealed_base64: String,
}

/// A message of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// What a CA asks for.
    Challenge(Challenge),
    /// How an order goes.
    Order(Order),
    /// A certificate.
    Certificate(Certificate),
    /// An account.
    Account(Account),
}

impl Told {
    /// Where it is published: there is one of each for a host, and one account for a directory.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::Challenge(told) => format!("muster.v1.tls.challenge.{}", told.host),
            Self::Order(told) => order_subject(&told.host),
            Self::Certificate(told) => format!("muster.v1.tls.certificate.{}", told.host),
            Self::Account(told) => account_subject(&told.directory),
        }
    }
}

/// Where an order of a host is told.
#[must_use]
pub fn order_subject(host: &str) -> String {
    format!("muster.v1.tls.order.{host}")
}

/// Where the account with a CA is.
#[must_use]
pub fn account_subject(directory: &str) -> String {
    format!("muster.v1.tls.account.{}", &crate::id::Digest::of(directory.as_bytes()).as_str()[..16])
}
