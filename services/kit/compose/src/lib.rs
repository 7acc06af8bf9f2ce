//! Compose files as apps: YAML in, `schemas::spec::AppSpec` out, with every key accounted for.
//!
//! Each key of the Compose specification stands in one table ([`support`]) as honoured, ignored with
//! a warning, or refused; the code that reads a file goes through that table, so nothing is dropped
//! without a word. What is wrong is said with file, line, column and the line itself.
//!
//! Not here: any file, environment or network. The caller hands in texts, variables and a way to
//! read the files that a Compose file names.

mod app;
mod configs;
mod deploy;
mod diagnose;
mod fields;
mod health;
mod merge;
mod muster;
mod node;
mod ports;
mod service;
pub mod support;
mod tasks;
mod traffic;
mod units;
mod vars;
mod volumes;

use std::collections::BTreeMap;

use schemas::id::Digest;
use schemas::spec::AppSpec;

pub use diagnose::{Diagnostic, Invalid};
pub use vars::environment;

use diagnose::Notes;

/// A file's text, under the name that messages call it by.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// What reads a file that a Compose file names, by its absolute path.
pub type ReadFile<'a> = &'a dyn Fn(&str) -> Result<Vec<u8>, String>;

/// What an app is made from.
#[derive(Clone, Copy)]
pub struct Project<'a> {
    /// The Compose files; each is merged over those before it.
    pub files: &'a [Source],
    /// The absolute path of the folder that relative paths start from.
    pub folder: &'a str,
    /// The name of the app, if not the one in the files or the folder's.
    pub app: Option<&'a str>,
    /// The variables for interpolation and for `environment` entries without a value.
    pub variables: &'a BTreeMap<String, String>,
    /// Reads `env_file` and `configs` files.
    pub read: ReadFile<'a>,
}

/// An app as a Compose file declares it.
#[derive(Clone, Debug)]
pub struct Converted {
    /// The app.
    pub app: AppSpec,
    /// The contents its configs refer to, which `config.put` must have stored before it is deployed.
    pub contents: BTreeMap<Digest, Vec<u8>>,
    /// What was ignored or changed.
    pub warnings: Vec<Diagnostic>,
}

/// Reads Compose files as one app.
///
/// # Errors
///
/// Everything that is wrong with them, each with its place.
pub fn convert(project: &Project<'_>) -> Result<Converted, Invalid> {
    let mut notes = Notes::new(project.files);
    let converted = app::convert(project, &mut notes);
    notes.finish(converted)
}

#[cfg(test)]
mod tests;
