//! Fixtures that the test layers share: where the sources are, a cluster of real processes, and
//! hosts to run it on; transcripts of documents.

pub mod bitflip;
pub mod cluster;
pub mod engines;
pub mod live_log;
pub mod load;
pub mod repair;
pub mod resolver;
pub mod takeover;
pub mod transcript;
pub mod under_load;

use std::path::{Path, PathBuf};

/// The top of the sources.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace").to_owned()
}

/// Every file below a folder with one of these endings, but what is built or fetched.
#[must_use]
pub fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be read").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !matches!(name, "target" | ".tools" | ".git") {
            found.extend(files(&path, endings));
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(path);
        }
    }
    found.sort();
    found
}
