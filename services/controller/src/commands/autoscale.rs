//! `autoscale` of a declaration: bounds that hold a number, and targets that can be measured.

use schemas::command::Problem;
use schemas::spec::{Autoscale, Mode, WorkloadSpec};

use super::REPLICAS_MAX;

pub(super) fn check(field: &str, spec: &WorkloadSpec) -> Result<(), Problem> {
    let Some(given) = &spec.autoscale else { return Ok(()) };
    let wrong = |name: &str, got: &str, valid: &str| {
        let field = if name.is_empty() { field.to_owned() } else { format!("{field}.{name}") };
        Err(Problem::new("invalid_value", &field, got, valid))
    };
    if spec.mode != Mode::Replicated {
        let got = format!("a workload of mode {}", mode(spec.mode));
        return wrong("", &got, "a replicated workload: of another, nobody chooses the number");
    }
    if given.min == 0 || given.min > REPLICAS_MAX {
        let valid = format!("1 to {REPLICAS_MAX}: nothing is measured where nothing runs");
        return wrong("min", &given.min.to_string(), &valid);
    }
    if given.max < given.min || given.max > REPLICAS_MAX {
        let valid = format!("{} to {REPLICAS_MAX}: at least min", given.min);
        return wrong("max", &given.max.to_string(), &valid);
    }
    if given.targets().iter().all(|(_, target)| target.is_none()) {
        let names = given.targets().map(|(name, _)| name).join(", ");
        return wrong("", "no target", &format!("at least one of {names}"));
    }
    for target in targets(given, spec) {
        let Some(percent) = target.percent else { continue };
        if percent == 0 || percent > Autoscale::PERCENT_MAX {
            let valid = format!("1 to {} percent of what is reserved", Autoscale::PERCENT_MAX);
            return wrong(target.name, &percent.to_string(), &valid);
        }
        if target.reserved == 0 {
            let got = format!("{percent} percent of nothing");
            let valid = format!("a target of what is reserved: give resources.{}", target.reserve);
            return wrong(target.name, &got, &valid);
        }
    }
    let counts = [
        ("requests_per_second", given.requests_per_second, Autoscale::COUNT_MAX, "requests"),
        ("p95_ms", given.p95_ms, Autoscale::P95_MS_MAX, "ms"),
        ("in_flight", given.in_flight, Autoscale::COUNT_MAX, "requests"),
    ];
    for (name, target, most, unit) in counts {
        if let Some(target) = target.filter(|target| *target == 0 || *target > most) {
            return wrong(name, &target.to_string(), &format!("1 to {most} {unit}"));
        }
    }
    let windows = [("up_window_ms", given.up_window_ms), ("down_window_ms", given.down_window_ms)];
    for (name, window) in windows {
        if window > Autoscale::WINDOW_MS_MAX {
            let valid = format!("0 to {} ms", Autoscale::WINDOW_MS_MAX);
            return wrong(name, &format!("{window} ms"), &valid);
        }
    }
    Ok(())
}

/// A target, and what it is a percentage of.
struct Target {
    name: &'static str,
    percent: Option<u32>,
    reserve: &'static str,
    reserved: u64,
}

fn targets(given: &Autoscale, spec: &WorkloadSpec) -> [Target; 2] {
    [
        Target {
            name: "cpu_percent",
            percent: given.cpu_percent,
            reserve: "cpu_millis",
            reserved: spec.resources.reserved_cpu_millis(),
        },
        Target {
            name: "memory_percent",
            percent: given.memory_percent,
            reserve: "memory_bytes",
            reserved: spec.resources.reserved_memory_bytes(),
        },
    ]
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Replicated => "replicated",
        Mode::Global => "global",
        Mode::Job => "job",
    }
}
