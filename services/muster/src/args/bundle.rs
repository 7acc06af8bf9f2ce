//! What can be typed to hand history on.

use std::path::PathBuf;

use clap::ValueEnum;
use schemas::id::AppKey;

use super::Format;
use super::when::{When, when};

pub(super) const EXPORT: &str = "\
A bundle is a fork without secrets: `muster dev --fork DIR` opens it on simulated nodes, and what is at r184
there is what was at r184 here. Values of environment variables, of containers' labels and of headers, and
the contents of files become redacted-1, redacted-2 and so on, the same one for the same value; where they
stand in output, errors, reasons and notes, they are replaced too when they have 6 characters or more.
--redact all also takes out commands with their arguments, what programs printed, notes and reasons. Names,
images, addresses and people's user names stay. What a program printed in a form of its own is not known
for a secret: look before you hand it on, or take --redact all.

All of history up to --to is in it, since the state follows from it: of what was before --from, only that.
With --app, what concerns only other apps is void. DIR/manifest.json says what the bundle is of.

Examples:
  muster export --from r163 --to r191 --app shop --into incident
  muster export --from 14:00 --to 14:30 --redact all --into incident
  muster dev --fork incident";

#[derive(Debug, clap::Args)]
pub(crate) struct Bundle {
    /// From this moment on it is about: r163, -10m, 14:03. Default: the first event
    #[arg(long, value_name = "WHEN", value_parser = when, allow_hyphen_values = true)]
    pub(crate) from: Option<When>,
    /// Up to this moment. Default: now
    #[arg(long, value_name = "WHEN", value_parser = when, allow_hyphen_values = true)]
    pub(crate) to: Option<When>,
    /// Only what concerns this app, beside nodes and leaderships: NAME or TENANT/NAME
    #[arg(long, value_parser = AppKey::parse)]
    pub(crate) app: Option<AppKey>,
    /// The folder to make it in: a new or an empty one
    #[arg(long, value_name = "DIR")]
    pub(crate) into: PathBuf,
    /// How much is taken out
    #[arg(long, value_enum, default_value_t = Extent::Values)]
    pub(crate) redact: Extent,
    /// How to print what was done
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

/// How much is taken out of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Extent {
    /// Values of variables, labels and headers, and contents of files
    Values,
    /// These, and all that people and programs wrote: commands, output, notes, reasons
    All,
}

impl From<Extent> for redact::Extent {
    fn from(extent: Extent) -> Self {
        match extent {
            Extent::Values => Self::Values,
            Extent::All => Self::All,
        }
    }
}
