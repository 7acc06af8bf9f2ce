//! `healthcheck` and `x-muster.probe`: what the agent tries, and how often.

use schemas::spec::{Check, Probe};

use crate::diagnose::{Notes, Wrong};
use crate::fields::{Fields, by, expected, flag, list, number, port, text, words};
use crate::node::{Node, Value};
use crate::support::{HEALTHCHECK, MUSTER, PROBE, PROBE_EXEC, PROBE_HTTP, PROBE_TCP};
use crate::units;

pub(crate) fn read(fields: &Fields<'_>, notes: &mut Notes<'_>) -> Result<Option<Probe>, Wrong> {
    let healthcheck = fields.read("healthcheck", |node| Fields::of(node, &HEALTHCHECK, notes))?;
    // Its own keys are looked up where the rest of x-muster is read.
    debug_assert!(MUSTER.row("probe").is_some());
    let ours = fields.get("x-muster").and_then(|node| node.get("probe"));
    let ours = ours.map(|node| Fields::of(node, &PROBE, notes)).transpose()?;
    if let Some(healthcheck) = &healthcheck
        && healthcheck.read("disable", flag)? == Some(true)
    {
        return Ok(Some(Probe::of_check(Check::None)));
    }
    let test = healthcheck.as_ref().and_then(|healthcheck| healthcheck.get("test"));
    let check = match (test, &ours) {
        (Some(node), Some(_)) => {
            return Err(Wrong::at(
                node.spot,
                "`test` and `x-muster.probe` both say what to try: leave one out",
            ));
        }
        (Some(node), None) => exec(node)?,
        (None, Some(ours)) => probe(ours, notes)?,
        (None, None) => {
            return match &healthcheck {
                Some(healthcheck) => Err(Wrong::at(
                    healthcheck.spot,
                    "there is nothing to try: give a `test`, or an x-muster.probe",
                )),
                None => Ok(None),
            };
        }
    };
    let mut probe = Probe::of_check(check);
    for timings in healthcheck.iter().chain(&ours) {
        time(timings, &mut probe)?;
    }
    Ok(Some(probe))
}

fn time(fields: &Fields<'_>, probe: &mut Probe) -> Result<(), Wrong> {
    for (key, value) in [
        ("interval", &mut probe.interval_ms),
        ("timeout", &mut probe.timeout_ms),
        ("start_period", &mut probe.start_period_ms),
    ] {
        if let Some(node) = fields.get(key) {
            *value = by(units::millis)(node)?;
            if *value == 0 && key != "start_period" {
                return Err(expected(node, "a duration above 0"));
            }
        }
    }
    if let Some(node) = fields.get("retries") {
        probe.retries = number(node)?;
        if probe.retries == 0 {
            return Err(expected(node, "a number from 1 on"));
        }
    }
    Ok(())
}

/// `[CMD, …]`, `[CMD-SHELL, …]`, `[NONE]`, or a text for the shell.
fn exec(node: &Node) -> Result<Check, Wrong> {
    let shell =
        |line: String| Check::Exec { command: vec!["/bin/sh".to_owned(), "-c".to_owned(), line] };
    if let Value::Text(line) = &node.value {
        return Ok(shell(line.clone()));
    }
    let words: Vec<String> = list(node)?.iter().map(text).collect::<Result<_, _>>()?;
    match words.split_first() {
        Some((first, [])) if first == "NONE" => Ok(Check::None),
        Some((first, rest)) if first == "CMD" && !rest.is_empty() => {
            Ok(Check::Exec { command: rest.to_vec() })
        }
        Some((first, [line])) if first == "CMD-SHELL" => Ok(shell(line.clone())),
        _ => Err(expected(node, "[CMD, PROGRAM, …], [CMD-SHELL, LINE], [NONE] or a text")),
    }
}

fn probe(fields: &Fields<'_>, notes: &mut Notes<'_>) -> Result<Check, Wrong> {
    let given = ["http", "tcp", "exec"].map(|kind| fields.get(kind));
    match given {
        [Some(node), None, None] => {
            let http = Fields::of(node, &PROBE_HTTP, notes)?;
            let path = http.read("path", text)?.unwrap_or_else(|| "/".to_owned());
            if !path.starts_with('/') {
                return Err(expected(node, "a path that begins with /"));
            }
            Ok(Check::Http { port: http.need("port", port)?, path })
        }
        [None, Some(node), None] => {
            Ok(Check::Tcp { port: Fields::of(node, &PROBE_TCP, notes)?.need("port", port)? })
        }
        [None, None, Some(node)] => {
            let command = Fields::of(node, &PROBE_EXEC, notes)?.need("command", words)?;
            if command.is_empty() {
                return Err(expected(node, "a command"));
            }
            Ok(Check::Exec { command })
        }
        _ => Err(Wrong::at(fields.spot, "give one of http, tcp and exec")),
    }
}
