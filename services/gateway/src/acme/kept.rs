//! Certificates in the gateway's folder, sealed as they are on the bus: one that starts while that is away serves
//! them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use runtime::{Failure, clock, files};
use schemas::id::NodeName;
use schemas::tls::Certificate;

use super::shelf::Shelf;
use super::{Acme, serve};

/// The file of certificates.
#[derive(Debug)]
pub(crate) struct Kept {
    path: PathBuf,
    certificates: BTreeMap<String, Certificate>,
    /// Whether they differ from those in the file.
    due: bool,
}

impl Kept {
    /// Has a shelf open what is sealed, and serve what is in the file. A bad one is named and left out.
    ///
    /// # Errors
    ///
    /// When the seal key will not do.
    pub(crate) fn open(
        folder: &Path,
        node: &NodeName,
        acme: &Acme,
        shelf: &Shelf,
    ) -> Result<Self, Failure> {
        let path = folder.join(format!("gateway-{node}-certificates.json"));
        if let Some(file) = &acme.seal_key_file {
            shelf.open_by(serve::seal(file)?.into());
        }
        let certificates = read(&path).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %error, "certificates that were kept are left out: the file is bad");
            }
            BTreeMap::new()
        });
        for certificate in certificates.values() {
            shelf.recall(certificate.clone());
        }
        Ok(Self { path, certificates, due: false })
    }

    /// This is the certificate of its host from now on.
    pub(crate) fn add(&mut self, certificate: &Certificate) {
        let before = self.certificates.insert(certificate.host.clone(), certificate.clone());
        self.due |= before.as_ref() != Some(certificate);
    }

    /// Writes what is not written yet.
    pub(crate) async fn keep(&mut self) {
        if !std::mem::take(&mut self.due) {
            return;
        }
        self.certificates.retain(|_, certificate| certificate.not_after_ms > clock::utc_ms());
        let content = serde_json::to_vec(&self.certificates).expect("it has string keys only");
        let path = self.path.clone();
        let write = move || files::write_secret(&path, &content);
        let written = tokio::task::spawn_blocking(write).await;
        if let Err(error) = written.map_err(io::Error::other).flatten() {
            tracing::warn!(path = %self.path.display(), %error, "certificates are not kept");
        }
    }
}

fn read(path: &Path) -> io::Result<BTreeMap<String, Certificate>> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}
