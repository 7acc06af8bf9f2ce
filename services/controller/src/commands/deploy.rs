//! `app.deploy`: what is wrong with a declaration, before anything is done about it.

use std::collections::BTreeSet;

use cluster::State;
use schemas::command::{Common, Problem};
use schemas::event::AppDeployed;
use schemas::id::{AppKey, WorkloadName};
use schemas::spec::{AppSpec, Check, Mode, MountSource, RestartPolicy, WorkloadSpec};

use super::{Effect, REPLICAS_MAX, autoscale, expect, of_app, ports, rollout, routes, task};

/// The most workloads of one app.
const WORKLOADS_MAX: usize = 256;

/// The most replicas that all apps together may declare.
const CLUSTER_REPLICAS_MAX: u64 = 10_000;

/// What an engine can enforce at least: below it the kernel cannot start a process.
const MEMORY_BYTES_MIN: u64 = 6 * 1024 * 1024;

/// How long a replica that leaves may finish what is under way, at most.
const DRAIN_MS_MAX: u64 = 3_600_000;

/// More than any machine has.
const CPU_MILLIS_MAX: u64 = 1_024_000;

pub(super) fn effect(
    state: &State,
    common: &Common,
    key: AppKey,
    spec: &AppSpec,
) -> Result<Effect, Problem> {
    let known = state.apps.get(&key);
    expect(common, known.map_or(0, |app| app.changed_at))?;
    check(state, &key, spec)?;
    let revision = known.map_or(1, |app| app.revision + 1);
    let event = AppDeployed { app: key.clone(), revision, spec: normal(spec.clone()) };
    Ok(of_app(key, vec![event.into()]))
}

/// The declaration as it is recorded: a job whose restart policy nobody chose ends when it succeeds, one
/// of a rollout does not run twice, and the number of an autoscaled workload is within its bounds.
fn normal(mut spec: AppSpec) -> AppSpec {
    for workload in spec.workloads.values_mut() {
        if workload.mode == Mode::Job && workload.restart.policy == RestartPolicy::Always {
            workload.restart.policy = RestartPolicy::OnFailure;
        }
        if workload.task.is_some() {
            task::make_exclusive(workload);
        }
        if let Some(autoscale) = &workload.autoscale {
            workload.replicas = autoscale.nearest(workload.replicas);
        }
    }
    spec
}

fn check(state: &State, key: &AppKey, spec: &AppSpec) -> Result<(), Problem> {
    if spec.workloads.is_empty() || spec.workloads.len() > WORKLOADS_MAX {
        let got = format!("{} workloads", spec.workloads.len());
        let valid = format!("1 to {WORKLOADS_MAX} workloads");
        return Err(Problem::new("invalid_value", "app.workloads", &got, &valid));
    }
    for (name, workload) in &spec.workloads {
        check_workload(state, spec, name, workload)?;
    }
    check_cycles(spec)?;
    ports::check(state, key, spec)?;
    routes::check(state, key, spec)?;
    let mine = spec.workloads.values().map(|workload| workload.replicas);
    check_total(state, key, "app.workloads", mine)
}

fn check_workload(
    state: &State,
    app: &AppSpec,
    name: &WorkloadName,
    spec: &WorkloadSpec,
) -> Result<(), Problem> {
    let at = |field: &str| format!("app.workloads.{name}.{field}");
    check_image(&at("image"), &spec.image)?;
    check_replicas(&at("replicas"), spec.replicas)?;
    check_resources(&at("resources"), spec)?;
    autoscale::check(&at("autoscale"), spec)?;
    for (i, mount) in spec.mounts.iter().enumerate() {
        check_path(&at(&format!("mounts[{i}].target")), &mount.target)?;
        if let MountSource::Path(path) = &mount.source {
            check_path(&at(&format!("mounts[{i}].source.path")), path)?;
        }
    }
    for path in spec.tmpfs.keys() {
        check_path(&at("tmpfs"), path)?;
    }
    for (path, file) in &spec.configs {
        check_path(&at("configs"), path)?;
        if !state.configs.contains(&file.digest) {
            let valid = "the digest of a content that `config.put` has stored";
            return Err(Problem::new("not_found", &at("configs"), file.digest.as_str(), valid));
        }
    }
    for dependency in spec.depends_on.keys() {
        if !app.workloads.contains_key(dependency) {
            let valid = "another workload of the app";
            let field = at("depends_on");
            return Err(Problem::new("not_found", &field, dependency.as_str(), valid));
        }
    }
    check_probe(&at("probe"), spec)?;
    check_constraints(&at("placement.constraints"), spec)?;
    ports::check_numbers(&at("ports"), spec)?;
    routes::check_workload(&at(""), spec)?;
    if spec.drain_ms > DRAIN_MS_MAX {
        let (got, valid) = (format!("{} ms", spec.drain_ms), format!("0 to {DRAIN_MS_MAX} ms"));
        return Err(Problem::new("invalid_value", &at("drain_ms"), &got, &valid));
    }
    task::check(&at("task"), app, spec)?;
    rollout::check(&at("update"), spec)
}

fn check_image(field: &str, image: &str) -> Result<(), Problem> {
    let fits = !image.is_empty()
        && image.len() <= 512
        && image.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/:@".contains(&b))
        && image.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if fits {
        return Ok(());
    }
    let valid = "an image reference, as docker run takes it: nginx:1.27";
    Err(Problem::new("invalid_value", field, image, valid))
}

/// Refuses more replicas than one workload may have.
pub(super) fn check_replicas(field: &str, replicas: u32) -> Result<(), Problem> {
    if replicas <= REPLICAS_MAX {
        return Ok(());
    }
    let valid = format!("0 to {REPLICAS_MAX}");
    Err(Problem::new("invalid_value", field, &replicas.to_string(), &valid))
}

fn check_resources(field: &str, spec: &WorkloadSpec) -> Result<(), Problem> {
    let given = &spec.resources;
    let cpu = [("cpu_millis", given.cpu_millis), ("cpu_limit_millis", given.cpu_limit_millis)];
    for (name, value) in cpu {
        if value.is_some_and(|value| value == 0 || value > CPU_MILLIS_MAX) {
            let got = format!("{} millis", value.unwrap_or(0));
            let valid = format!("1 to {CPU_MILLIS_MAX} thousandths of a core");
            return Err(Problem::new("invalid_value", &format!("{field}.{name}"), &got, &valid));
        }
    }
    if let Some(limit) = given.memory_limit_bytes.filter(|limit| *limit < MEMORY_BYTES_MIN) {
        let field = format!("{field}.memory_limit_bytes");
        let valid = format!("at least {MEMORY_BYTES_MIN} bytes");
        return Err(Problem::new("invalid_value", &field, &limit.to_string(), &valid));
    }
    let over = |reserved: Option<u64>, limit: Option<u64>| {
        reserved.zip(limit).is_some_and(|(reserved, limit)| reserved > limit)
    };
    if over(given.cpu_millis, given.cpu_limit_millis)
        || over(given.memory_bytes, given.memory_limit_bytes)
    {
        let valid = "a reservation that is not above its limit";
        return Err(Problem::new("invalid_value", field, "a reservation above its limit", valid));
    }
    if given.pids_limit == Some(0) {
        let field = format!("{field}.pids_limit");
        return Err(Problem::new("invalid_value", &field, "0", "at least 1"));
    }
    Ok(())
}

fn check_path(field: &str, path: &str) -> Result<(), Problem> {
    let fits = path.starts_with('/')
        && path.len() <= 4_096
        && !path.contains('\0')
        && !path.split('/').any(|part| part == "..");
    if fits {
        return Ok(());
    }
    Err(Problem::new("invalid_value", field, path, "an absolute path without `..`"))
}

fn check_probe(field: &str, spec: &WorkloadSpec) -> Result<(), Problem> {
    let Some(probe) = &spec.probe else { return Ok(()) };
    if probe.interval_ms == 0 || probe.timeout_ms == 0 || probe.retries == 0 {
        let valid = "interval_ms, timeout_ms and retries of at least 1";
        return Err(Problem::new("invalid_value", field, "0", valid));
    }
    match &probe.check {
        Check::Http { path, .. } if !path.starts_with('/') => {
            Err(Problem::new("invalid_value", field, path, "a path beginning with /"))
        }
        Check::Exec { command } if command.is_empty() => {
            Err(Problem::new("invalid_value", field, "no command", "a program to run"))
        }
        _ => Ok(()),
    }
}

fn check_constraints(field: &str, spec: &WorkloadSpec) -> Result<(), Problem> {
    for constraint in &spec.placement.constraints {
        let name = constraint.attribute.as_str();
        if !(name == "node" || name == "arch" || name.starts_with("label.")) {
            let valid = "`node`, `arch` or `label.<key>`";
            return Err(Problem::new("invalid_value", field, name, valid));
        }
    }
    Ok(())
}

/// Follows the dependencies down; one that comes back to where it began would wait for itself.
fn check_cycles(spec: &AppSpec) -> Result<(), Problem> {
    let mut done = BTreeSet::new();
    while done.len() < spec.workloads.len() {
        let free = spec.workloads.iter().filter(|(name, workload)| {
            let before = task::before(spec, name).all(|job| done.contains(job));
            let first = workload.depends_on.keys().all(|name| done.contains(name));
            !done.contains(*name) && before && first
        });
        let free: Vec<&WorkloadName> = free.map(|(name, _)| name).collect();
        if free.is_empty() {
            let names = spec.workloads.keys().filter(|name| !done.contains(*name));
            let stuck: Vec<&str> = names.map(WorkloadName::as_str).collect();
            let field = format!("app.workloads.{}.depends_on", stuck[0]);
            let valid = "dependencies that do not come back to where they began";
            return Err(Problem::new("dependency_cycle", &field, &stuck.join(", "), valid));
        }
        done.extend(free);
    }
    Ok(())
}

/// Refuses more replicas than all apps together may declare, of which `mine` are the app's.
pub(super) fn check_total(
    state: &State,
    key: &AppKey,
    field: &str,
    mine: impl Iterator<Item = u32>,
) -> Result<(), Problem> {
    let others = state.apps.iter().filter(|(other, _)| *other != key);
    let others = others.flat_map(|(_, app)| app.workloads.values().map(|w| w.replicas));
    let total: u64 = others.chain(mine).map(u64::from).sum();
    if total <= CLUSTER_REPLICAS_MAX {
        return Ok(());
    }
    let got = format!("{total} replicas in the cluster");
    let valid = format!("at most {CLUSTER_REPLICAS_MAX} replicas of all apps together");
    Err(Problem::new("quota", field, &got, &valid))
}
