//! `load-...`: replicas are replaced, moved, killed and cut off while requests come in.

use runtime::Failure;
use tests::under_load::{Scene, play};

use crate::run::{Checked, Run};

pub(crate) async fn run(run: &mut Run, scene: Scene) -> Result<Checked, Failure> {
    let rounds = usize::try_from(run.rounds)?;
    let report = tokio::task::spawn_blocking(move || play(scene, rounds)).await?;
    eprintln!("{report}");
    let mut checked = Checked::default();
    checked.add("rounds", u64::from(run.rounds));
    checked.add("requests of which none failed that may not", report.requests);
    checked.add("that failed and may", report.excused);
    Ok(checked)
}
