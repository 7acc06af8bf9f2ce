//! Randomness, and ids that outlive a process.
#![expect(clippy::disallowed_methods, reason = "this is where randomness comes from")]

use std::io;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::files;

/// 32 random hex digits.
#[must_use]
pub fn hex() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// A nonce: random, and never the same twice.
#[must_use]
pub fn nonce() -> [u8; 12] {
    let digest: [u8; 32] = Sha256::digest(uuid::Uuid::new_v4().as_bytes()).into();
    let mut nonce = [0; 12];
    nonce.copy_from_slice(&digest[..12]);
    nonce
}

/// The id kept in a file, made when there is none. An instance has one for as long as its folder
/// lives, so that it knows its own leadership again after a restart.
///
/// # Errors
///
/// When the file can be neither read nor written.
pub fn kept_id(folder: &Path, name: &str) -> io::Result<String> {
    let path = folder.join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
        Ok(_) => make(&path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(&path),
        Err(error) => Err(error),
    }
}

fn make(path: &Path) -> io::Result<String> {
    let id = hex();
    files::write_atomically(path, id.as_bytes())?;
    Ok(id)
}

/// The seed of a secret key kept in a file, made when there is none.
///
/// # Errors
///
/// When the file can be neither read nor written, or holds no seed.
pub fn kept_seed(folder: &Path, name: &str) -> io::Result<[u8; 32]> {
    let path = folder.join(name);
    if !path.try_exists()? {
        files::write_secret(&path, (hex() + &hex()).as_bytes())?;
    }
    seed_of(&path)
}

/// The seed of a secret key kept in a file that somebody else made.
///
/// # Errors
///
/// When the file cannot be read, or holds no seed.
pub fn seed_of(path: &Path) -> io::Result<[u8; 32]> {
    let text = std::fs::read_to_string(path)?;
    let seed = text.trim().as_bytes().try_into().map(|digits: &[u8; 64]| Sha256::digest(digits));
    let no_seed = || io::Error::other(format!("{} holds no seed of 64 hex digits", path.display()));
    seed.map(Into::into).map_err(|_| no_seed())
}
