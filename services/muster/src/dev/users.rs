//! The users of a development cluster: one a role, with passwords that are made once and kept.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use runtime::Failure;
use schemas::id::NodeName;
use schemas::registry::Role;

use super::USER;
use crate::args::Dev;

/// How many more nodes than are run here may join from other processes.
const JOINING: u16 = 8;

/// Passwords by user.
pub(super) struct Users {
    roles: Vec<(Role, String)>,
}

/// The names of the first so many nodes.
pub(super) fn node_names(dev: &Dev, nodes: u16) -> Result<Vec<NodeName>, Failure> {
    let name = |number| NodeName::new(&format!("{}{number}", dev.node_prefix));
    Ok((1..=nodes).map(name).collect::<Result<_, _>>()?)
}

impl Users {
    /// Reads the users of a folder, and makes those that are missing.
    pub(super) fn kept(folder: &Path, dev: &Dev) -> Result<Self, Failure> {
        let path = folder.join("users.json");
        let mut passwords: BTreeMap<String, String> = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| format!("{} does not decode: {error}", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(format!("cannot read {}: {error}", path.display()).into()),
        };
        let mut roles = vec![Role::EventLog, Role::User(USER.to_owned())];
        roles.extend(Role::DECIDERS.map(Role::Decider));
        roles.extend(node_names(dev, dev.nodes + JOINING)?.into_iter().map(Role::Agent));
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

    /// As nats-server's configuration says it.
    pub(super) fn config(&self) -> String {
        schemas::registry::nats_users(&self.roles)
    }
}

/// Writes a file that only its owner may read.
pub(super) fn write_secret(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let failed = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
    let beside = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&beside).map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    Ok(std::fs::rename(&beside, path).map_err(failed)?)
}
