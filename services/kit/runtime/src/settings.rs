//! The settings that every service has.

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

/// Whether whoever runs this wants no colours, by the convention of `NO_COLOR`.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "settings are read here")]
pub fn no_color() -> bool {
    std::env::var("NO_COLOR").is_ok_and(|value| !value.is_empty())
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
