//! `x-muster.pre_deploy` and `post_deploy`: jobs of a service's rollouts, made from the service.

use std::collections::BTreeMap;

use schemas::id::WorkloadName;
use schemas::spec::{
    Balance, Mode, Open, Placement, Restart, RestartPolicy, Task, When, WorkloadSpec,
};

use crate::diagnose::{Notes, Spot, Wrong};
use crate::fields::{Fields, by, flag, text, words};
use crate::node::{Node, Value};
use crate::service::Service;
use crate::support::{POST_DEPLOY, PRE_DEPLOY};
use crate::units;

/// A job of a service's rollouts, before it has a name.
pub(crate) struct Job {
    spot: Spot,
    when: When,
    rollback: bool,
    image: Option<String>,
    command: Option<Vec<String>>,
    deadline_ms: Option<u64>,
}

/// The jobs that a service asks for in its `x-muster`.
pub(crate) fn read(ours: &Fields<'_>, notes: &mut Notes<'_>) -> Result<Vec<Job>, Wrong> {
    let mut jobs = Vec::new();
    for (key, when) in [("pre_deploy", When::Before), ("post_deploy", When::After)] {
        if let Some(node) = ours.get(key) {
            jobs.push(job(node, when, notes)?);
        }
    }
    Ok(jobs)
}

fn job(node: &Node, when: When, notes: &mut Notes<'_>) -> Result<Job, Wrong> {
    let spot = node.spot;
    if !matches!(node.value, Value::Map(_)) {
        let command = Some(words(node)?);
        return Ok(Job { spot, when, rollback: false, image: None, command, deadline_ms: None });
    }
    let scope = if when == When::Before { &PRE_DEPLOY } else { &POST_DEPLOY };
    let fields = Fields::of(node, scope, notes)?;
    let rollback = match when {
        When::Before => false,
        When::After => fields.read("rollback", flag)?.unwrap_or(false),
    };
    let (image, command) = (fields.read("image", text)?, fields.read("command", words)?);
    if image.is_none() && command.is_none() {
        return Err(Wrong::at(spot, "what it runs is missing: give `command`, `image` or both"));
    }
    let deadline_ms = fields.read("deadline", by(units::millis))?;
    Ok(Job { spot, when, rollback, image, command, deadline_ms })
}

/// The workloads of all jobs, beside their services.
pub(crate) fn add(services: &mut BTreeMap<WorkloadName, Service>, notes: &mut Notes<'_>) {
    let mut made: Vec<(WorkloadName, Spot, WorkloadSpec)> = Vec::new();
    for (name, service) in services.iter_mut() {
        for job in std::mem::take(&mut service.tasks) {
            let suffix = if job.when == When::Before { "pre-deploy" } else { "post-deploy" };
            match WorkloadName::new(&format!("{name}-{suffix}")) {
                Ok(own) => made.push((own, job.spot, spec(name, &service.spec, job))),
                Err(wrong) => notes.error(Wrong::at(job.spot, wrong.to_string())),
            }
        }
    }
    for (name, spot, spec) in made {
        if services.contains_key(&name) {
            let text = format!("its job would be named `{name}`, which is another service");
            notes.error(Wrong::at(spot, text));
            continue;
        }
        services.insert(name, Service::of_job(spot, spec));
    }
}

/// What a job is made from: all that is in the service's containers, and nothing of what they serve.
fn spec(of: &WorkloadName, service: &WorkloadSpec, job: Job) -> WorkloadSpec {
    let mut update = service.update.clone();
    update.strategy = Default::default();
    update.deadline_ms = job.deadline_ms.unwrap_or(update.deadline_ms);
    let own_image = job.image.is_some();
    WorkloadSpec {
        image: job.image.unwrap_or_else(|| service.image.clone()),
        mode: Mode::Job,
        replicas: 1,
        entrypoint: service.entrypoint.clone().filter(|_| !own_image),
        command: job.command,
        ports: Vec::new(),
        probe: None,
        restart: Restart { policy: RestartPolicy::No, ..Restart::default() },
        placement: Placement {
            constraints: service.placement.constraints.clone(),
            ..Placement::default()
        },
        update,
        min_ready: None,
        routes: Vec::new(),
        balance: Balance::default(),
        open: Open::default(),
        autoscale: None,
        depends_on: if job.when == When::Before {
            service.depends_on.clone()
        } else {
            BTreeMap::new()
        },
        task: Some(Task { of: of.clone(), when: job.when, rollback: job.rollback }),
        ..service.clone()
    }
}
