//! Which traffic leads to a workload, and to which of its replicas.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::AppName;

/// Which of the ready replicas gets the next connection or request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Balance {
    /// Of two taken at random the one that is less busy and answers faster.
    #[default]
    LeastLoaded,
    /// One after the other.
    RoundRobin,
    /// The same client address to the same replica, as long as it is there.
    ClientAddress,
    /// The same value of a request header to the same replica.
    Header(String),
    /// A cookie of this name, set by the gateway, leads back to the same replica.
    Cookie(String),
}

/// Which other apps of the tenant reach a workload by its name. Its own app always does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Open {
    /// None.
    #[default]
    No,
    /// All.
    All,
    /// These.
    To(BTreeSet<AppName>),
}

impl Open {
    /// Whether an app other than its own reaches it.
    #[must_use]
    pub fn reaches(&self, app: &AppName) -> bool {
        match self {
            Self::No => false,
            Self::All => true,
            Self::To(apps) => apps.contains(app),
        }
    }
}

/// Requests that lead to a workload, through the ports on which gateways serve HTTP and HTTPS.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The host: a name, or `*.` and a name for every name below it. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What the path begins with. The longest wins. Default `/`.
    #[serde(default = "Route::path", skip_serializing_if = "Route::is_path")]
    pub path: String,
    /// The container's port. Default: the first TCP port of the workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Serves it over TLS. Default: plain HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Answers with a redirect to this instead: a URL, in which `{host}`, `{path}` stand for the
    /// request's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<String>,
    /// How many requests a second each gateway lets through. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<u32>,
    /// After which a request without the beginning of an answer has failed. Default 60,000.
    #[serde(default = "Route::timeout_ms", skip_serializing_if = "Route::is_timeout")]
    pub timeout_ms: u64,
    /// How often a request that may be repeated is sent to another replica after it failed. Default 2.
    #[serde(default = "Route::retries", skip_serializing_if = "Route::is_retries")]
    pub retries: u32,
    /// Request headers that are set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set_headers: BTreeMap<String, String>,
}

/// Where the certificate of a route comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Tls {
    /// Files on the nodes, below the gateway's folder of certificates: `<name>.crt` and `<name>.key`.
    File {
        /// The name.
        name: String,
        /// Whether plain HTTP is redirected to HTTPS. Default true.
        #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
        redirect: bool,
    },
    /// An ACME account of the gateway.
    Acme {
        /// Whether plain HTTP is redirected to HTTPS. Default true.
        #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
        redirect: bool,
    },
}

fn yes() -> bool {
    true
}

impl Default for Route {
    fn default() -> Self {
        Self {
            host: None,
            path: Self::path(),
            port: None,
            tls: None,
            redirect: None,
            rate_limit: None,
            timeout_ms: Self::timeout_ms(),
            retries: Self::retries(),
            set_headers: BTreeMap::new(),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
impl Route {
    fn path() -> String {
        "/".to_owned()
    }

    fn is_path(path: &String) -> bool {
        path == "/"
    }

    fn timeout_ms() -> u64 {
        60_000
    }

    fn is_timeout(ms: &u64) -> bool {
        *ms == Self::timeout_ms()
    }

    fn retries() -> u32 {
        2
    }

    fn is_retries(retries: &u32) -> bool {
        *retries == Self::retries()
    }
}
