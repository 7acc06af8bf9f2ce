//! `salvage`: makes a store of everything that is whole in a damaged one, from its beginning on.
//!
//! The damaged store is only read, and without the engine, which would cut off more than is damaged.

use std::fmt;
use std::path::Path;

use runtime::Failure;
use schemas::place::Place;

use crate::rebuild::Rebuild;
use crate::store;
use crate::witness::Witness;

/// Where the tables are linked to while they are read.
const COPY: &str = "salvage.copy";

/// What came of it.
#[derive(Clone, Debug)]
pub struct Salvaged {
    /// Where the new log ends.
    pub place: Place,
    /// What the old one's witness saw published.
    pub published: Option<Place>,
    /// The first position of the old one that is there and not taken, and the last, when there is.
    pub behind: Option<(u64, u64)>,
    /// Why the new log ends where it does, when there was more.
    pub why: Option<String>,
    /// What could not be read.
    pub unreadable: Vec<String>,
    /// Whether what is missing is given up.
    pub given_up: bool,
}

impl fmt::Display for Salvaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for what in &self.unreadable {
            writeln!(f, "unreadable: {what}")?;
        }
        let Self { place, .. } = self;
        write!(
            f,
            "salvaged everything up to position {} ({place}, hash {})",
            place.position, place.hash
        )?;
        if let Some(why) = &self.why {
            write!(f, "\nit ends there because {why}")?;
        }
        if let Some((first, last)) = self.behind {
            write!(f, "\nnot taken: what is left of positions {first} to {last}")?;
        }
        let Some(published) = self.published.filter(|seen| seen.position > place.position) else {
            return write!(f, "\nnothing that the witness saw published is missing");
        };
        let (from, to) = (place.position + 1, published.position);
        write!(f, "\nmissing: positions {from} to {to}, which were published")?;
        if self.given_up {
            write!(f, "; given up: what the events stream does not have is lost")
        } else {
            write!(
                f,
                "; start event-log on the new store: it takes them from the events stream, as far \
                 as that has them, and does not start without them"
            )
        }
    }
}

/// Makes a store in `into` of what is whole in the one in `folder`.
///
/// # Errors
///
/// When `into` holds a log, nothing can be salvaged, or a disk fails.
pub fn salvage(folder: &Path, into: &Path, accept_loss: bool) -> Result<Salvaged, Failure> {
    if !folder.join(store::FOLDER).exists() {
        return Err(format!("there is no log in {}", folder.display()).into());
    }
    let mut rebuild = Rebuild::begin(into)?;
    let copy = into.join(COPY);
    let read = store::readable(folder, &copy);
    if copy.exists() {
        std::fs::remove_dir_all(&copy)?;
    }
    let (mut rows, mut unreadable) = read?;
    let mut why = None;
    loop {
        let next = rebuild.place().position + 1;
        let Some(written) = rows.remove(&next) else {
            if !rows.is_empty() {
                why = Some(format!("position {next} is nowhere in it"));
            }
            break;
        };
        let mut failed = None;
        // Of what was written there more than once, the newest that follows.
        let taken = written.into_iter().rev().any(|row| match rebuild.take(row.bytes) {
            Ok(()) => true,
            Err(error) => {
                failed = Some(error);
                false
            }
        });
        if !taken {
            why = failed.map(|error| error.to_string());
            break;
        }
    }
    let behind = rows.first_key_value().zip(rows.last_key_value());
    let behind = behind.map(|((first, _), (last, _))| (*first, *last));
    let heads = match Witness::open_if_there(folder) {
        Ok(witness) => witness.and_then(|witness| witness.heads().cloned()),
        Err(error) => {
            unreadable.push(error.to_string());
            None
        }
    };
    let published = heads.as_ref().map(|heads| heads.published);
    let place = rebuild.finish(heads.filter(|_| !accept_loss))?;
    Ok(Salvaged { place, published, behind, why, unreadable, given_up: accept_loss })
}

#[cfg(test)]
mod tests;
