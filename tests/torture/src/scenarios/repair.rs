//! `repair`: either store is lost, and comes back.

use runtime::Failure;
use tests::repair::{LOSSES, round};

use crate::run::{Checked, Run};

pub(crate) async fn run(run: &mut Run) -> Result<Checked, Failure> {
    let mut checked = Checked::default();
    for (_, loss) in (0..run.rounds).zip(LOSSES.into_iter().cycle()) {
        let events = round(loss, run.dice.below(u64::MAX)).await;
        checked.add("losses repaired", 1);
        checked.add("events as before", events);
    }
    Ok(checked)
}
