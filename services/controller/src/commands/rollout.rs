//! Commands about what is rolled out, and what a declaration may ask of a rollout.

use cluster::State;
use cluster::state::{App, Workload, volumes_of};
use schemas::command::{Common, Problem};
use schemas::event::{Event, RolloutPaused, RolloutPromoted, RolloutResumed, RolloutStepped};
use schemas::id::{AppKey, WorkloadName};
use schemas::spec::{Mode, Overlap, UpdateStrategy, WorkloadSpec};

use super::{Effect, REPLICAS_MAX, known_app, known_workload, of_app, reason};
use crate::rollout::{Failure, back, next_step};

/// The most steps of a canary.
const STEPS_MAX: usize = 32;

/// The longest that a step may be held, in ms: a week.
const HOLD_MS_MAX: u64 = 7 * 24 * 3_600_000;

/// The workloads that a command is about: the one that it names, or each for which it means something.
fn meant<'a>(
    app: &'a App,
    named: Option<&'a WorkloadName>,
    what: &str,
    fits: impl Fn(&Workload) -> bool,
) -> Result<Vec<(&'a WorkloadName, &'a Workload)>, Problem> {
    if let Some(name) = named {
        let workload = known_workload(app, name)?;
        if fits(workload) {
            return Ok(vec![(name, workload)]);
        }
        return Err(Problem::new("nothing_to_do", "workload", name.as_str(), what));
    }
    let fitting: Vec<_> = app.workloads.iter().filter(|(_, w)| w.declared && fits(w)).collect();
    if fitting.is_empty() {
        return Err(Problem::new("nothing_to_do", "app", "no such workload", what));
    }
    Ok(fitting)
}

pub(super) fn pause(
    state: &State,
    common: &Common,
    key: AppKey,
    named: Option<&WorkloadName>,
    paused: bool,
) -> Result<Effect, Problem> {
    let app = known_app(state, common, &key)?;
    let what = match paused {
        true => "a workload that is rolled out and not paused",
        false => "a workload whose rollout is paused",
    };
    let fits = |w: &Workload| w.rollout.as_ref().is_some_and(|rollout| rollout.paused != paused);
    let revision = app.revision;
    let events = meant(app, named, what, fits)?.into_iter().map(|(name, _)| {
        let (app, workload) = (key.clone(), name.clone());
        match paused {
            true => Event::from(RolloutPaused { app, workload, revision }),
            false => RolloutResumed { app, workload, revision }.into(),
        }
    });
    let events = events.collect();
    Ok(of_app(key, events))
}

pub(super) fn promote(
    state: &State,
    common: &Common,
    key: AppKey,
    named: Option<&WorkloadName>,
    full: bool,
) -> Result<Effect, Problem> {
    let app = known_app(state, common, &key)?;
    let what = "a workload whose canary or blue-green rollout is held back";
    let revision = app.revision;
    let meant = meant(app, named, what, |w| w.held().is_some())?;
    let events = meant.into_iter().map(|(name, workload)| {
        let next = next_step(workload).filter(|_| !full);
        let (app, workload, measured) = (key.clone(), name.clone(), None);
        match next {
            None => Event::from(RolloutPromoted { app, workload, revision, measured }),
            Some((step, weight_percent)) => {
                RolloutStepped { app, workload, revision, step, weight_percent, measured }.into()
            }
        }
    });
    let events = events.collect();
    Ok(of_app(key, events))
}

pub(super) fn abort(state: &State, common: &Common, key: AppKey) -> Result<Effect, Problem> {
    let app = known_app(state, common, &key)?;
    let changed = app
        .workloads
        .iter()
        .find(|(name, workload)| workload.declared && app.is_changed(name, workload));
    let name = changed.map(|(name, _)| name).or_else(|| app.workloads.keys().next());
    let why = reason(common).map(|why| format!(": {why}")).unwrap_or_default();
    let events = name.filter(|_| app.rolled_back.is_none()).and_then(|name| {
        let failure = Failure {
            workload: name.clone(),
            reason: format!("it was aborted{why}"),
            replica: None,
            measured: None,
        };
        back(&key, app, failure)
    });
    let Some(events) = events else {
        let (got, valid) = match &app.rolled_back {
            Some(failed) => (
                format!("revision {} goes back already", failed.revision),
                "an app whose newest revision somebody declared",
            ),
            None => (
                format!("revision {}", app.revision),
                "an app that is on its way to a revision, after another one ran as declared",
            ),
        };
        return Err(Problem::new("nothing_to_do", "app", &got, valid));
    };
    Ok(of_app(key, events.into_iter().map(|(event, _)| event).collect()))
}

/// What a declaration may ask of a rollout.
pub(super) fn check(field: &str, spec: &WorkloadSpec) -> Result<(), Problem> {
    let wrong = |name: &str, got: &str, valid: &str| {
        Err(Problem::new("invalid_value", &format!("{field}.{name}"), got, valid))
    };
    let update = &spec.update;
    if update.parallelism == 0 {
        return wrong("parallelism", "0", "at least 1");
    }
    if update.max_error_permille > 1_000 {
        return wrong("max_error_permille", &update.max_error_permille.to_string(), "0 to 1000");
    }
    let rolls = update.strategy == UpdateStrategy::Rolling;
    if rolls && update.max_surge == Some(0) && update.max_unavailable == 0 && !ends_first(spec) {
        return wrong("max_surge", "0, and max_unavailable 0", "at least 1 of one of them");
    }
    let beside =
        matches!(update.strategy, UpdateStrategy::Canary { .. } | UpdateStrategy::BlueGreen { .. });
    if !rolls && spec.mode != Mode::Replicated {
        let valid = "rolling, for what is not a number of replicas that are kept running";
        return wrong("strategy", "another one", valid);
    }
    if beside && ends_first(spec) {
        let valid = "rolling or recreate, where old and new may not stand side by side: a port of the \
                     node, a volume, overlap `never`";
        return wrong("strategy", "canary or blue_green", valid);
    }
    if let UpdateStrategy::Canary { steps } = &update.strategy {
        if steps.is_empty() || steps.len() > STEPS_MAX {
            let valid = format!("1 to {STEPS_MAX} steps");
            return wrong("strategy.canary.steps", &format!("{} steps", steps.len()), &valid);
        }
        let holds = steps.iter().filter_map(|step| step.hold_ms);
        if holds.max().is_some_and(|most| most > HOLD_MS_MAX) {
            return wrong("strategy.canary.steps", "a longer hold", "a hold of at most a week");
        }
        let weights: Vec<u32> = steps.iter().map(|step| step.weight_percent).collect();
        if !weights.is_sorted() || weights.iter().any(|percent| *percent > 100) {
            let got = weights.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return wrong("strategy.canary.steps", &got, "weights from 0 to 100 that never fall");
        }
    }
    check_floor(field, spec)
}

/// A floor that a rollout could never keep would hold it for ever.
fn check_floor(field: &str, spec: &WorkloadSpec) -> Result<(), Problem> {
    let Some(least) = spec.min_ready.filter(|least| *least > 0) else { return Ok(()) };
    let field = field.replace("update", "min_ready");
    if least > REPLICAS_MAX || (spec.mode == Mode::Replicated && least > spec.replicas.max(1)) {
        let valid = "at most as many as are declared";
        return Err(Problem::new("invalid_value", &field, &least.to_string(), valid));
    }
    let all_at_once = spec.update.strategy == UpdateStrategy::Recreate;
    let one_less = ends_first(spec) || spec.update.max_surge == Some(0);
    let replicated = spec.mode == Mode::Replicated;
    if all_at_once || (replicated && one_less && least >= spec.replicas) {
        let valid = "fewer, as old replicas end before new ones begin here";
        return Err(Problem::new("invalid_value", &field, &least.to_string(), valid));
    }
    Ok(())
}

/// Whether an old replica must end before the new one can begin.
fn ends_first(spec: &WorkloadSpec) -> bool {
    spec.overlap == Overlap::Never
        || spec.ports.iter().any(|port| port.host.is_some())
        || volumes_of(spec).next().is_some()
}
