//! Certificates from files, read again when they change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;

/// The certificates of a folder: `<name>.crt` with the chain, `<name>.key` with the key, both PEM.
#[derive(Debug)]
pub(crate) struct Certificates {
    folder: PathBuf,
    known: RwLock<BTreeMap<String, Known>>,
}

#[derive(Debug)]
struct Known {
    stamp: Stamp,
    key: Option<Arc<CertifiedKey>>,
    trouble: Option<String>,
}

/// What of two files shows that one of them changed.
type Stamp = [Option<(SystemTime, u64)>; 2];

impl Certificates {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, known: RwLock::default() }
    }

    /// The certificate of a name.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(name)?.key.clone()
    }

    /// Reads those that are wanted and changed. What is wrong with any of them. A bad file does not
    /// take the place of a good one.
    pub(crate) fn refresh(&self, wanted: &BTreeSet<String>) -> Vec<String> {
        let mut troubles = Vec::new();
        for name in wanted {
            let stamp = stamp(&self.folder, name);
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            let before = known.remove(name);
            let now = match before {
                Some(before) if before.stamp == stamp => before,
                before => match read(&self.folder, name) {
                    Ok(key) => {
                        tracing::info!(name, "a certificate was read");
                        Known { stamp, key: Some(Arc::new(key)), trouble: None }
                    }
                    Err(why) => {
                        tracing::error!(name, why, "a certificate is not served");
                        let key = before.and_then(|before| before.key);
                        Known { stamp, key, trouble: Some(format!("certificate {name}: {why}")) }
                    }
                },
            };
            troubles.extend(now.trouble.clone());
            known.insert(name.clone(), now);
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|name, _| wanted.contains(name));
        troubles
    }
}

fn files(folder: &Path, name: &str) -> [PathBuf; 2] {
    ["crt", "key"].map(|ending| folder.join(format!("{name}.{ending}")))
}

fn stamp(folder: &Path, name: &str) -> Stamp {
    files(folder, name).map(|file| {
        let about = std::fs::metadata(file).ok()?;
        Some((about.modified().ok()?, about.len()))
    })
}

fn read(folder: &Path, name: &str) -> Result<CertifiedKey, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        return Err("a name is made of letters, digits, `-`, `_` and `.`".to_owned());
    }
    let [chain_file, key_file] = files(folder, name);
    let wrong = |file: &Path, why: &dyn std::fmt::Display| format!("{}: {why}", file.display());
    let chain = CertificateDer::pem_file_iter(&chain_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|why| wrong(&chain_file, &why))?;
    if chain.is_empty() {
        return Err(wrong(&chain_file, &"there is no certificate in it"));
    }
    let key = PrivateKeyDer::from_pem_file(&key_file).map_err(|why| wrong(&key_file, &why))?;
    let key = CertifiedKey::from_der(chain, key, &ring::default_provider())
        .map_err(|why| wrong(&key_file, &why))?;
    Ok(key)
}
