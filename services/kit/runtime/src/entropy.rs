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
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = hex() + &hex();
            files::write_secret(&path, text.as_bytes())?;
            text
        }
        Err(error) => return Err(error),
    };
    let seed = text.trim().as_bytes().try_into().map(|digits: &[u8; 64]| Sha256::digest(digits));
    let no_seed = || io::Error::other(format!("{} holds no seed of 64 hex digits", path.display()));
    seed.map(Into::into).map_err(|_| no_seed())
}
