//! `bitflip`: one flipped bit at many places of a log on disk.

use event_log::testing::flip::Target;
use runtime::Failure;
use tests::bitflip::{Flips, TARGETS};

use crate::run::{Checked, Run};

pub(crate) async fn run(run: &mut Run) -> Result<Checked, Failure> {
    let flips = Flips::default();
    let mut checked = Checked::default();
    for target in TARGETS {
        let seed = run.dice.below(u64::MAX);
        let rounds = u64::from(run.rounds);
        let tally = tokio::task::block_in_place(|| flips.rounds(target, rounds, seed));
        if !tally.silent.is_empty() || !tally.unplaced.is_empty() {
            return Err(format!("{target:?}: {tally:?}").into());
        }
        let (flipped, named, unused) = words(target);
        checked.add(flipped, rounds);
        checked.add(named, tally.named);
        checked.add(unused, tally.unused);
    }
    Ok(checked)
}

/// How each count is told.
fn words(target: Target) -> (&'static str, &'static str, &'static str) {
    match target {
        Target::Store => ("flips in the store", "named there", "in unused bytes there"),
        Target::Journal => ("in journals", "named in journals", "unused in journals"),
        Target::Snapshot => ("in snapshots", "named in snapshots", "unused in snapshots"),
        Target::Witness => ("in the witness", "named in the witness", "unused in the witness"),
    }
}
