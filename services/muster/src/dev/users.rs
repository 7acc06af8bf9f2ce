//! The users of a development cluster: one a role, with passwords that are made once and kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use runtime::Failure;
use schemas::id::NodeName;
use schemas::registry::Role;

use super::USER;

/// Passwords by user.
pub(super) struct Users {
    roles: Vec<(Role, String)>,
}

impl Users {
    /// Reads the users of a folder, and makes those that are missing.
    pub(super) fn kept(folder: &Path, nodes: &[NodeName]) -> Result<Self, Failure> {
        let path = folder.join("users.json");
        let mut passwords: BTreeMap<String, String> = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| format!("{} does not decode: {error}", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(format!("cannot read {}: {error}", path.display()).into()),
        };
        let mut roles = vec![Role::EventLog, Role::User(USER.to_owned())];
        roles.extend(Role::DECIDERS.map(Role::Decider));
        for node in nodes {
            roles.extend([Role::Agent(node.clone()), Role::Gateway(node.clone())]);
        }
        let known = passwords.len();
        let roles: Vec<(Role, String)> = roles
            .into_iter()
            .map(|role| {
                let password = passwords.entry(role.user()).or_insert_with(runtime::entropy::hex);
                let password = password.clone();
                (role, password)
            })
            .collect();
        if passwords.len() > known {
            write_secret(&path, &serde_json::to_vec_pretty(&passwords)?)?;
        }
        Ok(Self { roles })
    }

    pub(super) fn password(&self, role: &Role) -> Result<String, Failure> {
        let found = self.roles.iter().find(|(known, _)| known == role);
        let (_, password) = found.ok_or_else(|| format!("there is no user for {role:?}"))?;
        Ok(password.clone())
    }

    /// Writes them for the configuration of a server that is not ours.
    pub(super) fn write_config(&self, folder: &Path) -> Result<PathBuf, Failure> {
        let path = folder.join("nats-users.conf");
        write_secret(&path, self.config().as_bytes())?;
        Ok(path)
    }

    /// As nats-server's configuration says it.
    pub(super) fn config(&self) -> String {
        schemas::registry::nats_users(&self.roles)
    }
}

/// Writes a file that only its owner may read.
pub(super) fn write_secret(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let failed = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
    Ok(runtime::files::write_secret(path, content).map_err(failed)?)
}
