//! `verify`: reads a whole log that nobody serves, and says whether it is what it should be.

use std::ops::ControlFlow;
use std::path::Path;

use cluster::Fold;
use runtime::Failure;

use crate::store::{FjallStore, Store as _};
use crate::witness::Witness;

/// Checks the chain, the batches, and the log against its witness.
///
/// # Errors
///
/// At the first thing that is not as it should be, with its position.
pub fn verify(folder: &Path) -> Result<(), Failure> {
    let store = FjallStore::open(folder)?;
    let witness = Witness::open(folder)?;
    let head = store.head()?;
    let mut fold = Fold::new();
    let mut failed = None;
    store.scan(1, head.position, &mut |row| match fold.push(&row.bytes) {
        Ok(_) if fold.cursor() == row.place => ControlFlow::Continue(()),
        Ok(_) => {
            failed = Some(format!("position {} is indexed as another", row.position()));
            ControlFlow::Break(())
        }
        Err(error) => {
            failed = Some(error.to_string());
            ControlFlow::Break(())
        }
    })?;
    if let Some(failed) = failed {
        return Err(failed.into());
    }
    if fold.cursor().position != head.position {
        return Err(format!("the log ends at {} instead of {head}", fold.cursor()).into());
    }
    match witness.heads() {
        Some(seen) if seen.published.position > head.position => {
            return Err(
                format!("the log ends at {head}, and {} was published", seen.published).into()
            );
        }
        Some(seen) => {
            let row = store.row(seen.published.position)?;
            if seen.published.position > 0 && row.is_none_or(|row| row.place != seen.published) {
                return Err(format!("position {} is not what was published", seen.published).into());
            }
        }
        None => println!("there is no witness yet"),
    }
    println!(
        "{} events, the chain is whole; head {head} hash {}; state {}; {} impossible events",
        head.position,
        head.hash,
        fold.state().hash(),
        fold.state().anomalies()
    );
    Ok(())
}
