//! One service as a workload.

use std::collections::BTreeMap;

use schemas::id::WorkloadName;
use schemas::spec::{Condition, Constraint, Pull, RestartPolicy, Security, WorkloadSpec};

use crate::app::{Context, undeclared};
use crate::diagnose::{Notes, Spot, Wrong};
use crate::fields::{
    Fields, by, expected, flag, list, map, number, pairs, text, texts, word, words,
};
use crate::node::{Entry, Node, Value};
use crate::support::{DEPENDENCY, ENV_FILE, SERVICE};
use crate::{configs, deploy, health, muster, ports, tasks, units, vars, volumes};

/// A service, converted.
pub(crate) struct Service {
    pub(crate) spot: Spot,
    pub(crate) spec: WorkloadSpec,
    /// Whether the file says how copies are counted.
    pub(crate) mode_stated: bool,
    /// Whether the file says when runs are started again.
    pub(crate) restart_stated: bool,
    /// The jobs of its rollouts.
    pub(crate) tasks: Vec<tasks::Job>,
}

impl Service {
    /// A job of another service's rollouts.
    pub(crate) fn of_job(spot: Spot, spec: WorkloadSpec) -> Self {
        Self { spot, spec, mode_stated: true, restart_stated: true, tasks: Vec::new() }
    }
}

pub(crate) fn convert(
    entry: &Entry,
    context: &Context<'_>,
    notes: &mut Notes<'_>,
) -> Result<Service, Wrong> {
    let fields = Fields::of(&entry.node, &SERVICE, notes)?;
    let mut service = Service {
        spot: entry.spot,
        spec: WorkloadSpec::of_image(&image(entry, &fields)?),
        mode_stated: false,
        restart_stated: false,
        tasks: Vec::new(),
    };
    let spec = &mut service.spec;
    spec.entrypoint = fields.read("entrypoint", words)?;
    spec.command = fields.read("command", words)?;
    spec.env = environment(&fields, context, notes)?;
    spec.labels = fields.read("labels", labels)?.unwrap_or_default();
    spec.user = fields.read("user", text)?;
    spec.working_dir = fields.read("working_dir", text)?;
    spec.security = security(&fields)?;
    volumes::read(&fields, context, spec, notes)?;
    spec.configs = configs::used(&fields, context, notes)?;
    spec.ports = ports::read(&fields, notes)?;
    spec.stop_signal = fields.read("stop_signal", text)?;
    if let Some(grace) = fields.read("stop_grace_period", by(units::millis))? {
        spec.stop_grace_ms = grace;
    }
    spec.depends_on = depends_on(&fields, context, notes)?;
    spec.pull = fields.read("pull_policy", pull)?.unwrap_or_default();
    spec.placement.constraints = fields.read("platform", platform)?.into_iter().collect();
    if let Some(node) = fields.get("restart") {
        restart(node, spec)?;
        service.restart_stated = true;
    }
    links(&entry.node)?;
    deploy::read(&fields, &mut service, notes)?;
    service.spec.probe = health::read(&fields, notes)?;
    service.tasks = muster::read(&fields, &mut service.spec, notes)?;
    Ok(service)
}

fn image(entry: &Entry, fields: &Fields<'_>) -> Result<String, Wrong> {
    if let Some(image) = fields.read("image", text)?.filter(|image| !image.is_empty()) {
        return Ok(image);
    }
    Err(match entry.node.entry("build") {
        Some(build) => Wrong::at(
            build.spot,
            "Muster does not build images: build it, bring it to the nodes or a registry, and name it as `image`",
        ),
        None => Wrong::at(entry.spot, format!("`{}` has no `image`", entry.key)),
    })
}

fn environment(
    fields: &Fields<'_>,
    context: &Context<'_>,
    notes: &mut Notes<'_>,
) -> Result<BTreeMap<String, String>, Wrong> {
    let mut env = BTreeMap::new();
    if let Some(node) = fields.get("env_file") {
        match &node.value {
            Value::List(files) => {
                for file in files {
                    env.extend(env_file(file, context, notes)?);
                }
            }
            _ => env.extend(env_file(node, context, notes)?),
        }
    }
    let given = fields.read("environment", pairs)?.unwrap_or_default();
    for (name, (spot, value)) in given {
        if name.is_empty() {
            return Err(Wrong::at(spot, "a variable needs a name: NAME=VALUE"));
        }
        match value.or_else(|| context.project.variables.get(&name).cloned()) {
            Some(value) => {
                env.insert(name, value);
            }
            None => {
                env.remove(&name);
                notes.warn(spot, format!("{name} is not set in your environment: it is left out"));
            }
        }
    }
    Ok(env)
}

fn env_file(
    node: &Node,
    context: &Context<'_>,
    notes: &mut Notes<'_>,
) -> Result<BTreeMap<String, String>, Wrong> {
    let (path, required, raw) = match &node.value {
        Value::Map(_) => {
            let fields = Fields::of(node, &ENV_FILE, notes)?;
            let raw = fields.read("format", |node| word(node, &[("raw", true)]))?;
            let required = fields.read("required", flag)?.unwrap_or(true);
            (fields.need("path", text)?, required, raw.is_some())
        }
        _ => (text(node)?, true, false),
    };
    let content = match (context.project.read)(&resolved(&path, context)) {
        Ok(content) => content,
        Err(_) if !required => return Ok(BTreeMap::new()),
        Err(error) => return Err(Wrong::at(node.spot, format!("{path}: {error}"))),
    };
    let content = String::from_utf8(content)
        .map_err(|_| Wrong::at(node.spot, format!("{path} is not UTF-8 text")))?;
    vars::env_file(&content, context.project.variables, !raw)
        .map_err(|(line, wrong)| Wrong::at(node.spot, format!("{path}:{line}: {wrong}")))
}

/// A path of the machine, absolute and without `.` and `..`. `~` is the user's home.
pub(crate) fn resolved(path: &str, context: &Context<'_>) -> String {
    let home = context.project.variables.get("HOME").map_or("", String::as_str);
    let whole = match path.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("{home}{rest}"),
        _ if path.starts_with('/') => path.to_owned(),
        _ => format!("{}/{path}", context.project.folder),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

pub(crate) fn labels(node: &Node) -> Result<BTreeMap<String, String>, Wrong> {
    let pairs = pairs(node)?.into_iter();
    Ok(pairs.map(|(key, (_, value))| (key, value.unwrap_or_default())).collect())
}

fn security(fields: &Fields<'_>) -> Result<Security, Wrong> {
    let mut security = Security {
        cap_add: fields.read("cap_add", texts)?.unwrap_or_default(),
        cap_drop: fields.read("cap_drop", texts)?.unwrap_or_default(),
        read_only: fields.read("read_only", flag)?.unwrap_or_default(),
        init: fields.read("init", flag)?.unwrap_or_default(),
        allow_new_privileges: false,
    };
    for node in fields.read("security_opt", list)?.unwrap_or_default() {
        let option = text(node)?;
        security.allow_new_privileges = match option.replace('=', ":").as_str() {
            "no-new-privileges" | "no-new-privileges:true" => false,
            "no-new-privileges:false" => true,
            _ => {
                let text = format!(
                    "{option:?} is refused: of security options only no-new-privileges is \
                     honoured; the engine's default profiles stand"
                );
                return Err(Wrong::at(node.spot, text));
            }
        };
    }
    Ok(security)
}

fn pull(node: &Node) -> Result<Pull, Wrong> {
    let words = [
        ("missing", Pull::Missing),
        ("if_not_present", Pull::Missing),
        ("always", Pull::Always),
        ("never", Pull::Never),
    ];
    word(node, &words)
}

/// `os/arch[/variant]`: the architecture, which the node must have.
fn platform(node: &Node) -> Result<Constraint, Wrong> {
    let given = text(node)?;
    let mut parts = given.split('/');
    match (parts.next(), parts.next()) {
        (Some("linux"), Some(arch)) if !arch.is_empty() => Ok(Constraint {
            attribute: "arch".to_owned(),
            equal: true,
            value: deploy::arch(arch).to_owned(),
        }),
        _ => Err(expected(node, "linux/amd64 or linux/arm64")),
    }
}

fn restart(node: &Node, spec: &mut WorkloadSpec) -> Result<(), Wrong> {
    let given = text(node)?;
    let (policy, attempts) = given.split_once(':').unwrap_or((&given, ""));
    spec.restart.policy = match policy {
        "always" | "unless-stopped" => RestartPolicy::Always,
        "no" | "false" => RestartPolicy::No,
        "on-failure" => RestartPolicy::OnFailure,
        _ => return Err(expected(node, "no, always, unless-stopped or on-failure[:N]")),
    };
    if !attempts.is_empty() {
        let attempts = attempts.parse().ok().filter(|_| policy == "on-failure");
        let attempts = attempts.ok_or_else(|| expected(node, "on-failure:N"))?;
        spec.restart.attempts = Some(attempts);
    }
    Ok(())
}

fn depends_on(
    fields: &Fields<'_>,
    context: &Context<'_>,
    notes: &mut Notes<'_>,
) -> Result<BTreeMap<WorkloadName, Condition>, Wrong> {
    let mut depends = BTreeMap::new();
    let Some(node) = fields.get("depends_on") else { return Ok(depends) };
    let mut add = |name: &str, spot, condition, required: bool| {
        match context.services.get(name) {
            Some(workload) => {
                depends.insert(workload.clone(), condition);
            }
            None if !required => {}
            None => {
                let known = context.services.keys().map(String::as_str);
                return Err(undeclared(spot, "service", name, known));
            }
        }
        Ok(())
    };
    if let Value::List(names) = &node.value {
        for name in names {
            add(&text(name)?, name.spot, Condition::Started, true)?;
        }
        return Ok(depends);
    }
    let conditions = [
        ("service_started", Condition::Started),
        ("service_healthy", Condition::Healthy),
        ("service_completed_successfully", Condition::Completed),
    ];
    for entry in map(node)? {
        let fields = Fields::of(&entry.node, &DEPENDENCY, notes)?;
        let condition = fields.read("condition", |node| word(node, &conditions))?;
        let required = fields.read("required", flag)?.unwrap_or(true);
        add(&entry.key, entry.spot, condition.unwrap_or(Condition::Started), required)?;
    }
    Ok(depends)
}

/// Links are ignored, because names are found anyway; not so names of one's own.
fn links(service: &Node) -> Result<(), Wrong> {
    let Some(Value::List(links)) = service.get("links").map(|node| &node.value) else {
        return Ok(());
    };
    for link in links {
        let link_text = text(link)?;
        if link_text.split_once(':').is_some_and(|(service, alias)| service != alias) {
            let wrong = format!("the alias in {link_text:?} is refused: use the service's name");
            return Err(Wrong::at(link.spot, wrong));
        }
    }
    Ok(())
}

/// A limit above 0; a number alone.
pub(crate) fn pids(node: &Node) -> Result<u64, Wrong> {
    match number(node) {
        Ok(pids) if pids > 0 => Ok(u64::from(pids)),
        _ => Err(expected(node, "a number of processes from 1 on (there always is a limit)")),
    }
}
