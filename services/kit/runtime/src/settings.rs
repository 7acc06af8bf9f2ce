//! The settings that every service has.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use bus::{Bus, BusError, Connect};
use schemas::registry::Role;

use crate::Shutdown;

/// Where the bus is, who this service is on it, and where it keeps what must outlive it.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// The NATS server.
    #[arg(long, env = "MUSTER_NATS_URL", default_value = "nats://127.0.0.1:4222")]
    pub nats_url: String,
    /// The user to be on it. Default: the service's own name.
    #[arg(long, env = "MUSTER_NATS_USER")]
    pub nats_user: Option<String>,
    /// The user's password. Without one no user is named, which only loopback allows.
    #[arg(long, env = "MUSTER_NATS_PASSWORD", hide_env_values = true)]
    pub nats_password: Option<String>,
    /// The folder for what must outlive the process.
    #[arg(long, env = "MUSTER_STATE_DIR", default_value = "/var/lib/muster")]
    pub state_dir: PathBuf,
    /// The loopback address of /livez, /readyz and /metrics; port 0 takes a free one.
    #[arg(long, env = "MUSTER_ADMIN_ADDRESS", default_value = "127.0.0.1:0")]
    pub admin_address: std::net::SocketAddr,
}

/// How long to wait before the server is tried again.
const RETRY: std::time::Duration = std::time::Duration::from_millis(500);

impl Settings {
    /// Connects as a role, waiting for the server for as long as it takes. `None`: asked to stop.
    ///
    /// # Errors
    ///
    /// When the server is there and will not do.
    pub async fn connect(&self, role: &Role, shutdown: &Shutdown) -> Result<Option<Bus>, BusError> {
        self.connect_or(role, || {}, shutdown).await
    }

    /// The same, and says when the server is not reached.
    ///
    /// # Errors
    ///
    /// When the server is there and will not do.
    pub async fn connect_or(
        &self,
        role: &Role,
        unreached: impl Fn(),
        shutdown: &Shutdown,
    ) -> Result<Option<Bus>, BusError> {
        let user = self.nats_user.clone().unwrap_or_else(|| role.user());
        let to = Connect {
            url: self.nats_url.clone(),
            name: format!("muster {}", role.user()),
            credentials: self.nats_password.clone().map(|password| (user, password)),
            inbox_prefix: role.inbox_prefix(),
        };
        let mut told = false;
        loop {
            match Bus::connect(&to).await {
                Ok(bus) => return Ok(Some(bus)),
                Err(error @ BusError::Unreachable { .. }) => {
                    if !told {
                        tracing::info!(%error, "waiting for NATS");
                        told = true;
                        unreached();
                    }
                }
                Err(error) => return Err(error),
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = shutdown.requested() => return Ok(None),
            }
        }
    }
}

/// The folder that `MUSTER_DEV_DIR` names, if it does.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "settings are read here")]
pub fn dev_dir() -> Option<PathBuf> {
    std::env::var("MUSTER_DEV_DIR").ok().map(PathBuf::from)
}

/// The variables of this process, but those that are not text.
#[must_use]
pub fn environment() -> BTreeMap<String, String> {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

/// The folder for what a user's programs keep, by the XDG convention.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "settings are read here")]
pub fn user_state_dir() -> PathBuf {
    let home = || PathBuf::from(std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned()));
    match std::env::var("XDG_STATE_HOME") {
        Ok(folder) if !folder.is_empty() => PathBuf::from(folder),
        _ => home().join(".local").join("state"),
    }
}

/// The folder for what a user configures, by the XDG convention.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "settings are read here")]
pub fn user_config_dir() -> PathBuf {
    let home = || PathBuf::from(std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned()));
    match std::env::var("XDG_CONFIG_HOME") {
        Ok(folder) if !folder.is_empty() => PathBuf::from(folder),
        _ => home().join(".config"),
    }
}

/// Whether colours are wanted, where the environment says so: by `NO_COLOR`, `CLICOLOR_FORCE`,
/// `CLICOLOR` or a terminal that is `dumb`.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "settings are read here")]
pub fn colour() -> Option<bool> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if set("NO_COLOR").is_some() {
        return Some(false);
    }
    if set("CLICOLOR_FORCE").is_some_and(|value| value != "0") {
        return Some(true);
    }
    let off = set("CLICOLOR").is_some_and(|value| value == "0");
    (off || set("TERM").is_some_and(|term| term == "dumb")).then_some(false)
}

/// The places where programs are looked for.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "settings are read here")]
pub fn search_path() -> Vec<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    std::env::split_paths(&path).collect()
}

/// The file in which the Docker client keeps its credentials.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "settings are read here")]
pub fn docker_config() -> PathBuf {
    let home = std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned());
    let folder = std::env::var("DOCKER_CONFIG").unwrap_or_else(|_| format!("{home}/.docker"));
    PathBuf::from(folder).join("config.json")
}
