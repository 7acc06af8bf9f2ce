//! `x-muster`: what Compose has no word for. `probe` is read with the health check.

use schemas::id::AppName;
use schemas::spec::{
    Autoscale, Mode, Open, Overlap, Step, Strategy, Update, UpdateStrategy, WorkloadSpec,
};

use crate::diagnose::{Notes, Wrong};
use crate::fields::{Fields, by, expected, list, number, text, word};
use crate::node::{Node, Value};
use crate::support::{AUTOSCALE, MUSTER, ROLLOUT, STEP};
use crate::{tasks, traffic, units};

pub(crate) fn read(
    fields: &Fields<'_>,
    spec: &mut WorkloadSpec,
    notes: &mut Notes<'_>,
) -> Result<Vec<tasks::Job>, Wrong> {
    let none = Node::new(fields.spot, Value::Null);
    let ours = Fields::of(fields.get("x-muster").unwrap_or(&none), &MUSTER, notes)?;
    let strategies = [("spread", Strategy::Spread), ("bin_pack", Strategy::BinPack)];
    if let Some(strategy) = ours.read("strategy", |node| word(node, &strategies))? {
        spec.placement.strategy = strategy;
    }
    if let Some(label) = ours.read("spread_over", text)? {
        spec.placement.spread_over = Some(label);
    }
    if let Some(priority) = ours.read("priority", priority)? {
        spec.priority = priority;
    }
    let overlaps = [("allow", Overlap::Allow), ("never", Overlap::Never)];
    if let Some(overlap) = ours.read("overlap", |node| word(node, &overlaps))? {
        spec.overlap = overlap;
    }
    if let Some(open) = ours.read("open", open)? {
        spec.open = open;
    }
    spec.resources.disk_bytes = ours.read("disk", by(units::bytes))?;
    if let Some(healthy_for) = ours.read("healthy_for", by(units::millis))? {
        spec.update.healthy_for_ms = healthy_for;
    }
    if let Some(deadline) = ours.read("deadline", by(units::millis))? {
        spec.update.deadline_ms = deadline;
    }
    if let Some(drain) = ours.read("drain", by(units::millis))? {
        spec.drain_ms = drain;
    }
    if let Some(balance) = ours.read("balance", traffic::balance)? {
        spec.balance = balance;
    }
    if let Some(node) = ours.get("routes") {
        spec.routes = traffic::routes(node, notes)?;
    }
    spec.min_ready = ours.read("min_ready", number)?;
    if let Some(node) = ours.get("update") {
        update(node, &mut spec.update, notes)?;
    }
    if let Some(node) = ours.get("autoscale") {
        let stated = fields.get("scale").is_some()
            || fields.get("deploy").is_some_and(|deploy| deploy.get("replicas").is_some());
        autoscale(node, spec, stated, notes)?;
    }
    tasks::read(&ours, notes)
}

fn update(node: &Node, update: &mut Update, notes: &mut Notes<'_>) -> Result<(), Wrong> {
    let fields = Fields::of(node, &ROLLOUT, notes)?;
    let steps = match fields.get("steps") {
        None => Vec::new(),
        Some(steps) => {
            list(steps)?.iter().map(|node| step(node, notes)).collect::<Result<_, _>>()?
        }
    };
    let promote_after_ms = fields.read("promote_after", by(units::millis))?;
    let names = [("rolling", 0), ("recreate", 1), ("canary", 2), ("blue-green", 3)];
    let chosen = fields.read("strategy", |node| word(node, &names))?.unwrap_or(0);
    let wrong = |text: &str| Err(Wrong::at(node.spot, text));
    match chosen {
        2 if steps.is_empty() => {
            return wrong("a canary needs `steps`, as [{weight: 10, hold: 1m}]");
        }
        2 => {}
        _ if !steps.is_empty() => return wrong("only a canary has `steps`"),
        _ => {}
    }
    if chosen != 3 && promote_after_ms.is_some() {
        return wrong("only blue-green has `promote_after`");
    }
    update.strategy = match chosen {
        1 => UpdateStrategy::Recreate,
        2 => UpdateStrategy::Canary { steps },
        3 => UpdateStrategy::BlueGreen { promote_after_ms },
        _ => UpdateStrategy::Rolling,
    };
    update.max_surge = fields.read("max_surge", number)?;
    if let Some(missing) = fields.read("max_unavailable", number)? {
        update.max_unavailable = missing;
    }
    if let Some(permille) = fields.read("max_error_permille", number)? {
        update.max_error_permille = permille;
    }
    Ok(())
}

fn step(node: &Node, notes: &mut Notes<'_>) -> Result<Step, Wrong> {
    let fields = Fields::of(node, &STEP, notes)?;
    let weight_percent = fields.need("weight", number)?;
    if weight_percent > 100 {
        return Err(Wrong::at(node.spot, "a weight is from 0 to 100"));
    }
    Ok(Step { weight_percent, hold_ms: fields.read("hold", by(units::millis))? })
}

fn open(node: &Node) -> Result<Open, Wrong> {
    if let Value::Text(_) = &node.value {
        return word(node, &[("all", true)]).map(|_| Open::All);
    }
    let app = |node: &Node| {
        AppName::new(&text(node)?).map_err(|bad| Wrong::at(node.spot, bad.to_string()))
    };
    Ok(Open::To(list(node)?.iter().map(app).collect::<Result<_, _>>()?))
}

fn priority(node: &Node) -> Result<i32, Wrong> {
    text(node)?.trim().parse().map_err(|_| expected(node, "a whole number"))
}

fn autoscale(
    node: &Node,
    spec: &mut WorkloadSpec,
    stated: bool,
    notes: &mut Notes<'_>,
) -> Result<(), Wrong> {
    let fields = Fields::of(node, &AUTOSCALE, notes)?;
    let (min, max) = (fields.need("min", number)?, fields.need("max", number)?);
    let mut autoscale = Autoscale::of_bounds(min, max);
    autoscale.cpu_percent = fields.read("cpu_percent", number)?;
    autoscale.memory_percent = fields.read("memory_percent", number)?;
    autoscale.requests_per_second = fields.read("requests_per_second", number)?;
    autoscale.p95_ms = fields.read("p95_ms", number)?;
    autoscale.in_flight = fields.read("in_flight", number)?;
    if let Some(window) = fields.read("up_window", by(units::millis))? {
        autoscale.up_window_ms = window;
    }
    if let Some(window) = fields.read("down_window", by(units::millis))? {
        autoscale.down_window_ms = window;
    }
    let wrong = |text: &str| Err(Wrong::at(node.spot, text));
    if min == 0 || max < min {
        return wrong("`min` must be at least 1, and `max` not below it");
    }
    let targets = autoscale.targets();
    if targets.iter().all(|(_, target)| target.is_none()) {
        let names = targets.map(|(name, _)| name).join(", ");
        return wrong(&format!("there is nothing to go by: give at least one of {names}"));
    }
    if let Some((name, _)) = targets.iter().find(|(_, target)| *target == Some(0)) {
        return wrong(&format!("`{name}` must be above 0"));
    }
    if spec.mode != Mode::Replicated {
        return wrong("only a replicated workload is scaled");
    }
    if !stated {
        spec.replicas = min;
    } else if !(min..=max).contains(&spec.replicas) {
        return wrong("the number of replicas is not from `min` to `max`");
    }
    spec.autoscale = Some(autoscale);
    Ok(())
}
