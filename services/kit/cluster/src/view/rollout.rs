//! A rollout as it is told: where it is, and what it waits for.

use schemas::id::{AppKey, WorkloadName};
use schemas::read::RolloutView;
use schemas::spec::UpdateStrategy;

use crate::state::{App, Phase, State, Workload};

pub(super) fn view(
    state: &State,
    key: &AppKey,
    app: &App,
    name: &WorkloadName,
    workload: &Workload,
) -> Option<RolloutView> {
    let rollout = workload.rollout.as_ref()?;
    let strategy = &workload.conduct.update.strategy;
    let held = workload.held();
    let old = state.replicas_of(key, name).filter(|(_, r)| {
        r.spec == rollout.from
            && r.phase == Phase::Ready
            && r.retired.is_none()
            && !state.is_unknown(r)
    });
    let step = match strategy {
        UpdateStrategy::Canary { steps } => {
            let of = u32::try_from(steps.len()).unwrap_or(u32::MAX);
            held.map(|_| (rollout.step.saturating_add(1), of))
        }
        _ => None,
    };
    Some(RolloutView {
        strategy: strategy.as_str().to_owned(),
        from: app.specs.get(&rollout.from).map(|spec| spec.image.clone()).unwrap_or_default(),
        old_ready: super::count(old.count()),
        paused: rollout.paused,
        weight_percent: held.map(|held| held.weight_percent),
        wanted: held.map(|held| held.replicas),
        step,
        hold_ms: held.and_then(|held| held.hold_ms),
        since_ms: rollout.since_ms,
    })
}
