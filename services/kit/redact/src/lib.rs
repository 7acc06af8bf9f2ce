//! A history without its secrets, which means the same otherwise.
//!
//! A history is read twice: once for what is secret in it ([`Survey`]), once to write every entry
//! anew ([`Redactor`]). Positions, times, names and who decided what stay. Values become numbered
//! placeholders, the same one wherever a value stands; the digests that follow from them are those of
//! the placeholders; what is left out becomes a void position; and the hash chain is made anew. What
//! comes out is lawful: it folds, and to a state of the same [`Shape`].
//!
//! Not here: any IO.

mod redactor;
mod scope;
mod shape;
mod spec;
mod survey;
mod values;
mod words;

use schemas::id::AppKey;
use serde::{Deserialize, Serialize};

pub use redactor::{Redacted, Redactor};
pub use shape::Shape;
pub use survey::Survey;

/// What is to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// How much is taken out.
    pub extent: Extent,
    /// Only what concerns this app, beside nodes and leaderships.
    pub app: Option<AppKey>,
    /// From which position on it is about. Of what was before, only what the state follows from is kept.
    pub from: u64,
    /// Its last position.
    pub to: u64,
}

/// How much is taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// Values of environment variables, labels of containers and headers, and contents of files.
    /// Everywhere else they are looked for.
    #[default]
    Values,
    /// These, and everything that people or their programs wrote: commands and arguments, output,
    /// notes and reasons.
    All,
}

/// Why a history cannot be written without its secrets.
#[derive(Debug, thiserror::Error)]
pub enum RedactError {
    /// Not an event that this release can read.
    #[error(transparent)]
    Decode(#[from] schemas::envelope::DecodeError),
}

#[cfg(test)]
mod tests;
