//! A log in memory that goes on where the cluster's own ends: it numbers events and forgets them.

use cluster::{Fold, FoldError};
use schemas::append::Draft;
use schemas::envelope::{Batch, Envelope, Header, SCHEMA};
use schemas::id::{Series, Writer};

/// The log, as those who decide see it.
pub(super) struct Ledger {
    pub(super) fold: Fold,
    /// What was recorded since.
    pub(super) recorded: Vec<Envelope>,
    series: Series,
    n: u64,
}

impl Ledger {
    pub(super) fn new(fold: Fold) -> Self {
        Self { fold, recorded: Vec::new(), series: Series::derive("plan", 0), n: 0 }
    }

    /// Records one batch. Says how many events it had.
    pub(super) fn record(
        &mut self,
        writer: &Writer,
        drafts: Vec<Draft>,
        now_ms: u64,
    ) -> Result<usize, FoldError> {
        self.n += 1;
        let (basis, count) = (self.fold.place().basis(), drafts.len());
        let of = u32::try_from(count).unwrap_or(u32::MAX);
        for (i, draft) in (0..of).zip(drafts) {
            let at = self.fold.cursor();
            let header = Header {
                id: format!("{}-{}-{i}", self.series, self.n),
                epoch: at.epoch,
                position: at.position + 1,
                time_ms: draft.time_ms,
                recorded_ms: now_ms,
                tenant: draft.tenant,
                actor: draft.actor,
                writer: writer.clone(),
                term: self.fold.state().term(writer),
                basis: Some(basis),
                batch: Batch { series: self.series.clone(), n: self.n, i, of },
                correlation: draft.correlation,
                causation: draft.causation,
                schema: SCHEMA,
                ignorable: false,
                prev_hash: at.hash,
            };
            let bytes = header.encode(&draft.kind, &draft.data);
            if let Some(applied) = self.fold.push(&bytes)? {
                self.recorded.extend(applied.events);
            }
        }
        Ok(count)
    }
}
