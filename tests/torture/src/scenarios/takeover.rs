//! `takeover`: of two event-logs the leader is killed, paused or asked to end, and the other takes over.

use runtime::Failure;
use tests::takeover::takeover;

use crate::run::{Checked, Run};

pub(crate) async fn run(run: &mut Run) -> Result<Checked, Failure> {
    let rounds = usize::try_from(run.rounds)?;
    let report = tokio::task::spawn_blocking(move || takeover(rounds)).await?;
    eprintln!("{report}");
    let mut checked = Checked::default();
    checked.add("take-overs", u64::from(run.rounds));
    checked.add("answered batches there once, whole and in order", u64::try_from(report.answered)?);
    Ok(checked)
}
