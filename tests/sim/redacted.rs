//! The history of a run, written without what is secret in it: it must fold, and to the same shape.

use cluster::Fold;
use redact::{Extent, Policy, Shape, Survey};
use schemas::id::AppKey;

use crate::checks::{Failure, failure};
use crate::world::World;

/// What every value begins with that an app of a scenario declares and nobody else may see.
pub(crate) const CANARY: &str = "c4nary-";

impl World {
    /// By turns all of it, and what concerns one app.
    pub(crate) fn check_redacted(&self) -> Result<(), Failure> {
        let state = self.checks.replayed.state();
        let apps: Vec<&AppKey> = state.apps.iter().map(|(key, _)| key).collect();
        let turn = usize::try_from(self.seed).unwrap_or_default();
        let app = apps.get(turn % (apps.len() + 1)).copied();
        let extent = if self.seed.is_multiple_of(2) { Extent::Values } else { Extent::All };
        let to = self.checks.replayed.cursor().position;
        let from = if self.seed.is_multiple_of(3) { to / 2 } else { 1 };
        let policy = Policy { extent, app: app.cloned(), from, to };
        let fold = self.written(&policy).or_else(|what| failure("redacted-folds", what))?;
        let anomalies = &fold.state().cluster.anomalous;
        if !anomalies.is_empty() {
            return failure("redacted-folds", format!("{policy:?}: {anomalies:?}"));
        }
        if fold.place().basis() != self.checks.replayed.place().basis() {
            return failure("redacted-folds", format!("{policy:?}: it ends at {}", fold.place()));
        }
        let [is, was] = [fold.state(), state].map(|state| Shape::of(state, app));
        if is != was {
            return failure("redacted-is-alike", format!("{policy:?}: {is:?} and not {was:?}"));
        }
        Ok(())
    }

    fn written(&self, policy: &Policy) -> Result<Fold, String> {
        let Some(log) = self.logs.first() else { return Err("there is no log".to_owned()) };
        let rows = event_log::store::rows(&log.store, 1, policy.to);
        let rows = rows.map_err(|error| error.to_string())?;
        let mut survey = Survey::new(policy.clone());
        for row in &rows {
            survey.read(&row.bytes).map_err(|error| error.to_string())?;
        }
        let mut redactor = survey.done();
        let mut fold = Fold::new();
        for row in &rows {
            for entry in redactor.take(&row.bytes).map_err(|error| error.to_string())? {
                fold.push(&entry).map_err(|error| error.to_string())?;
                let text = String::from_utf8_lossy(&entry);
                if text.contains(CANARY) {
                    return Err(format!("{policy:?}: a secret is left in {text}"));
                }
            }
        }
        Ok(fold)
    }
}
