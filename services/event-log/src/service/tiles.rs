//! Keeps the tiles of the tree over all events as far as events are published.

use std::time::Duration;

use runtime::{Failure, Shutdown};

use crate::proof::{ProofError, Prover};
use crate::store::FjallStore;
use crate::view::View;

/// How often tiles are computed that were filled since.
const EVERY: Duration = Duration::from_secs(5);

/// How long until the next ones are computed where there are more.
const NEXT: Duration = Duration::from_millis(20);

/// Computes the tree's tiles as events are published.
pub(super) async fn keep(
    store: FjallStore,
    prover: Prover<FjallStore>,
    view: View,
    shutdown: Shutdown,
) -> Result<(), Failure> {
    let mut wait = Duration::ZERO;
    loop {
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            () = tokio::time::sleep(wait) => {}
        }
        let rollbacks = store.rollbacks();
        let published = || view.fold().place();
        let caught_up = tokio::task::block_in_place(|| prover.catch_up(published));
        let more = judged(caught_up, store.rollbacks() != rollbacks)?;
        wait = if more { NEXT } else { EVERY };
    }
}

/// Whether there is more to do. What cannot be read while entries are moved aside is no damage, and is
/// looked at again.
fn judged(caught_up: Result<bool, ProofError>, went_back: bool) -> Result<bool, ProofError> {
    match caught_up {
        Err(error) if went_back => {
            tracing::info!(%error, "computing tiles again: entries were moved aside");
            Ok(true)
        }
        caught_up => caught_up,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreError;

    #[test]
    fn only_what_fails_while_nothing_is_moved_aside_ends_the_process() {
        let what = "it is not there".to_owned();
        let failed = || Err(StoreError::Damaged { position: 7, what: what.clone() }.into());
        assert!(judged(failed(), false).is_err());
        assert!(matches!(judged(failed(), true), Ok(true)));
        for more in [true, false] {
            assert!(matches!(judged(Ok(more), true), Ok(same) if same == more));
        }
    }
}
