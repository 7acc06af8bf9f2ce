//! `deploy`, and the keys beside it that say the same: how many, with what, where, and how replaced.

use schemas::spec::{Constraint, Mode, Overlap, Resources, RestartPolicy, WorkloadSpec};

use crate::diagnose::{Notes, Wrong};
use crate::fields::{Fields, by, expected, list, number, text, word};
use crate::node::{Node, Value};
use crate::service::{Service, labels, pids};
use crate::support::{
    DEPLOY, LIMITS, PLACEMENT, PREFERENCE, RESERVATIONS, RESOURCES, RESTART_POLICY, UPDATE,
};
use crate::units;

/// How many replicas are replaced at a time when a file says all: the most that there can be.
const ALL_AT_ONCE: u32 = 1_000;

pub(crate) fn read(
    fields: &Fields<'_>,
    service: &mut Service,
    notes: &mut Notes<'_>,
) -> Result<(), Wrong> {
    let none = Node::new(fields.spot, Value::Null);
    let deploy = Fields::of(fields.get("deploy").unwrap_or(&none), &DEPLOY, notes)?;
    let spec = &mut service.spec;
    if let Some(mode) = deploy.read("mode", mode)? {
        spec.mode = mode;
        service.mode_stated = true;
    }
    let replicas = agreed(fields, "scale", number, &deploy, "replicas", number, "deploy.replicas")?;
    spec.replicas = replicas.unwrap_or(spec.replicas);
    for (key, value) in deploy.read("labels", labels)?.unwrap_or_default() {
        spec.labels.entry(key).or_insert(value);
    }
    resources(fields, &deploy, &mut spec.resources, notes)?;
    if let Some(node) = deploy.get("restart_policy") {
        restart(node, spec, notes)?;
        service.restart_stated = true;
    }
    if let Some(node) = deploy.get("placement") {
        placement(node, spec, notes)?;
    }
    if let Some(node) = deploy.get("update_config") {
        update(node, spec, notes)?;
    }
    Ok(())
}

fn mode(node: &Node) -> Result<Mode, Wrong> {
    if text(node)? == "global-job" {
        return Err(Wrong::at(node.spot, "global-job is refused: use replicated-job"));
    }
    let modes =
        [("replicated", Mode::Replicated), ("global", Mode::Global), ("replicated-job", Mode::Job)];
    word(node, &modes)
}

/// A value that may be given in two places, and must then be the same.
fn agreed<T: PartialEq>(
    one: &Fields<'_>,
    key: &str,
    read: impl Fn(&Node) -> Result<T, Wrong>,
    other: &Fields<'_>,
    other_key: &str,
    read_other: impl Fn(&Node) -> Result<T, Wrong>,
    path: &str,
) -> Result<Option<T>, Wrong> {
    let here = one.read(key, read)?;
    let there = other.read(other_key, read_other)?;
    match (here, there) {
        (Some(here), Some(there)) if here != there => {
            let spot = one.get(key).map_or(one.spot, |node| node.spot);
            Err(Wrong::at(spot, format!("`{key}` and `{path}` differ: leave one of them out")))
        }
        (here, there) => Ok(there.or(here)),
    }
}

fn resources(
    fields: &Fields<'_>,
    deploy: &Fields<'_>,
    given: &mut Resources,
    notes: &mut Notes<'_>,
) -> Result<(), Wrong> {
    let none = Node::new(fields.spot, Value::Null);
    let resources = Fields::of(deploy.get("resources").unwrap_or(&none), &RESOURCES, notes)?;
    let limits = Fields::of(resources.get("limits").unwrap_or(&none), &LIMITS, notes)?;
    let node = resources.get("reservations").unwrap_or(&none);
    let reserved = Fields::of(node, &RESERVATIONS, notes)?;
    let (cores, bytes) = (by(units::cores), by(units::bytes));
    let at = "deploy.resources.limits";
    let some = |value: Option<u64>| value.filter(|value| *value > 0);
    given.cpu_limit_millis =
        some(agreed(fields, "cpus", &cores, &limits, "cpus", &cores, &format!("{at}.cpus"))?);
    let path = format!("{at}.memory");
    given.memory_limit_bytes =
        some(agreed(fields, "mem_limit", &bytes, &limits, "memory", &bytes, &path)?);
    let path = format!("{at}.pids");
    given.pids_limit = agreed(fields, "pids_limit", pids, &limits, "pids", pids, &path)?;
    given.cpu_millis = some(reserved.read("cpus", &cores)?);
    let path = "deploy.resources.reservations.memory";
    given.memory_bytes =
        some(agreed(fields, "mem_reservation", &bytes, &reserved, "memory", &bytes, path)?);
    Ok(())
}

fn restart(node: &Node, spec: &mut WorkloadSpec, notes: &mut Notes<'_>) -> Result<(), Wrong> {
    let fields = Fields::of(node, &RESTART_POLICY, notes)?;
    let conditions = [
        ("any", RestartPolicy::Always),
        ("on-failure", RestartPolicy::OnFailure),
        ("none", RestartPolicy::No),
    ];
    let restart = &mut spec.restart;
    let policy = fields.read("condition", |node| word(node, &conditions))?;
    restart.policy = policy.unwrap_or(RestartPolicy::Always);
    if let Some(attempts) = fields.read("max_attempts", number)? {
        restart.attempts = Some(attempts);
    }
    if let Some(delay) = fields.read("delay", by(units::millis))? {
        restart.delay_ms = delay;
        restart.delay_max_ms = restart.delay_max_ms.max(delay);
    }
    if let Some(window) = fields.read("window", by(units::millis))? {
        restart.reset_ms = window;
    }
    Ok(())
}

fn placement(node: &Node, spec: &mut WorkloadSpec, notes: &mut Notes<'_>) -> Result<(), Wrong> {
    let fields = Fields::of(node, &PLACEMENT, notes)?;
    for node in fields.read("constraints", list)?.unwrap_or_default() {
        spec.placement.constraints.extend(constraint(node)?);
    }
    spec.placement.max_per_node =
        fields.read("max_replicas_per_node", number)?.filter(|most| *most > 0);
    let preferences = fields.read("preferences", list)?.unwrap_or_default();
    if let [_, second, ..] = preferences {
        return Err(Wrong::at(
            second.spot,
            "replicas are spread over one label: leave this one out",
        ));
    }
    for node in preferences {
        let spread = Fields::of(node, &PREFERENCE, notes)?.need("spread", text)?;
        let label = spread.strip_prefix("node.labels.").filter(|label| !label.is_empty());
        let label = label.ok_or_else(|| expected(node, "spread: node.labels.KEY"))?;
        spec.placement.spread_over = Some(label.to_owned());
    }
    Ok(())
}

/// `node.labels.disk == ssd`. What is true of every node constrains nothing.
fn constraint(node: &Node) -> Result<Option<Constraint>, Wrong> {
    let given = text(node)?;
    let (left, equal, value) = match (given.split_once("=="), given.split_once("!=")) {
        (Some((left, value)), None) => (left.trim(), true, value.trim()),
        (None, Some((left, value))) => (left.trim(), false, value.trim()),
        _ => return Err(expected(node, "ATTRIBUTE==VALUE or ATTRIBUTE!=VALUE")),
    };
    let attribute = match left {
        "node.hostname" => "node".to_owned(),
        "node.platform.arch" => "arch".to_owned(),
        "node.platform.os" if equal && value == "linux" => return Ok(None),
        _ => match left.strip_prefix("node.labels.").filter(|label| !label.is_empty()) {
            Some(label) => format!("label.{label}"),
            None => {
                let hint = if left == "node.role" {
                    "Muster has no manager nodes: leave it out"
                } else {
                    "use node.hostname, node.labels.KEY or node.platform.arch"
                };
                return Err(Wrong::at(node.spot, format!("`{left}` is refused: {hint}")));
            }
        },
    };
    let value = if attribute == "arch" { arch(value) } else { value };
    if value.is_empty() {
        return Err(expected(node, "ATTRIBUTE==VALUE or ATTRIBUTE!=VALUE"));
    }
    Ok(Some(Constraint { attribute, equal, value: value.to_owned() }))
}

/// An architecture as nodes name theirs.
pub(crate) fn arch(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn update(node: &Node, spec: &mut WorkloadSpec, notes: &mut Notes<'_>) -> Result<(), Wrong> {
    let fields = Fields::of(node, &UPDATE, notes)?;
    if let Some(parallelism) = fields.read("parallelism", number)? {
        spec.update.parallelism = if parallelism == 0 { ALL_AT_ONCE } else { parallelism };
    }
    if let Some(monitor) = fields.read("monitor", by(units::millis))? {
        spec.update.healthy_for_ms = monitor;
    }
    let actions = [("rollback", Some(true)), ("pause", Some(false)), ("continue", None)];
    if let Some(action) = fields.get("failure_action") {
        let Some(rollback) = word(action, &actions)? else {
            let hint = "what fails does not go on: use rollback or pause";
            return Err(Wrong::at(action.spot, format!("`continue` is refused: {hint}")));
        };
        spec.update.rollback = rollback;
    }
    let orders = [("start-first", Overlap::Allow), ("stop-first", Overlap::Never)];
    if let Some(overlap) = fields.read("order", |node| word(node, &orders))? {
        spec.overlap = overlap;
    }
    Ok(())
}
