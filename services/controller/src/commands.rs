//! Commands: what follows from one, or why nothing does.
//!
//! The checks go from cheap to dear, and the first that fails answers: size, encoding, depth,
//! version and fields when it is decoded, then what it is about, its expected position, its bounds.

mod autoscale;
mod deploy;
mod node;
mod ports;
mod rollout;
mod routes;
mod task;

use cluster::State;
use cluster::state::Cause;
use decider::{Now, draft};
use schemas::append::Draft;
use schemas::command::{Command, Common, Problem, printable};
use schemas::event::{
    AppDeleteStarted, CommandAccepted, CommandRejected, ConfigStored, Event, NoteAdded,
    WorkloadRestarted, WorkloadScaled,
};
use schemas::id::{AppKey, AppName, CommandId, DEFAULT_TENANT, Digest, Tenant, WorkloadName};
use schemas::spec::Mode;
use schemas::{command, subject};

/// The most replicas of one workload.
pub const REPLICAS_MAX: u32 = 1_000;

/// A command as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandMessage {
    id: CommandId,
    /// Its sequence in the commands stream.
    pub sequence: u64,
    /// The `noun.verb` it was published on.
    pub verb: String,
    /// The actor that the broker proved, or that the message claims.
    pub actor: String,
    /// Whether the broker proved it.
    pub proved: bool,
    /// What was published.
    pub payload: Vec<u8>,
}

impl CommandMessage {
    /// A message of the commands stream. Its id is the header `Nats-Msg-Id`, else the field `id`,
    /// else follows from where it stands and what it says.
    #[must_use]
    pub fn new(
        sequence: u64,
        subject: &str,
        id_header: Option<&str>,
        actor_header: Option<&str>,
        time_ms: u64,
        payload: Vec<u8>,
    ) -> Self {
        let parsed = subject::parse_command(subject);
        let verb = parsed.as_ref().map_or(subject, |parsed| parsed.verb).to_owned();
        let proved = parsed.as_ref().and_then(|parsed| parsed.actor);
        let claimed = proved.or(actor_header).unwrap_or("anonymous");
        let id = id_header
            .and_then(|id| CommandId::new(id).ok())
            .or_else(|| id_in_body(&payload))
            .unwrap_or_else(|| derived_id(sequence, time_ms, &payload));
        Self {
            id,
            sequence,
            verb,
            actor: printable(claimed, 64),
            proved: proved.is_some(),
            payload,
        }
    }

    /// Its id, by which a repeat is known.
    #[must_use]
    pub fn id(&self) -> &CommandId {
        &self.id
    }
}

fn id_in_body(payload: &[u8]) -> Option<CommandId> {
    #[derive(serde::Deserialize)]
    struct Id {
        id: CommandId,
    }
    if payload.len() > command::CONFIG_COMMAND_BYTES_MAX {
        return None;
    }
    serde_json::from_slice::<Id>(payload).ok().map(|body| body.id)
}

fn derived_id(sequence: u64, time_ms: u64, payload: &[u8]) -> CommandId {
    let content = Digest::of(payload);
    let digest = Digest::of(format!("{sequence}/{time_ms}/{content}").as_bytes());
    CommandId::new(&format!("c-{}", &digest.as_str()[..24])).expect("hex and a dash")
}

/// What follows from a command.
#[derive(Debug)]
pub struct Answer {
    /// The receipt, and what else follows.
    pub events: Vec<Draft>,
    /// What it is about: two commands on one object are answered one after the other.
    pub object: String,
    /// The app it changes.
    pub app: Option<AppKey>,
}

/// What a command that is carried out brings about.
pub(crate) struct Effect {
    pub(crate) object: String,
    pub(crate) app: Option<AppKey>,
    pub(crate) events: Vec<Event>,
}

/// Answers a command.
#[must_use]
pub fn answer(state: &State, message: &CommandMessage, now: Now) -> Answer {
    let decoded = Command::decode(&message.verb, &message.payload);
    let effect =
        decoded.and_then(|(common, command)| effect(state, &common, &command).map(|e| (e, common)));
    let cause = Cause { correlation: Some(message.id.clone()), position: 0 };
    let (id, verb, sequence) = (message.id.clone(), printable(&message.verb, 64), message.sequence);
    match effect {
        Ok((effect, common)) => {
            let receipt = CommandAccepted {
                command: id,
                verb,
                sequence,
                proved: message.proved,
                reason: reason(&common),
            };
            let tenant = effect.app.as_ref().map(|app| app.tenant.clone());
            let events = std::iter::once(receipt.into()).chain(effect.events);
            let events = events
                .map(|event: Event| draft(event, tenant.as_ref(), &message.actor, &cause, now))
                .collect();
            Answer { events, object: effect.object, app: effect.app }
        }
        Err(problem) => {
            let receipt = CommandRejected { command: id, verb, sequence, problem };
            let object = format!("rejected/{}", message.id);
            Answer {
                events: vec![draft(receipt, None, &message.actor, &cause, now)],
                object,
                app: None,
            }
        }
    }
}

/// Why, in the sender's words, as far as history keeps them.
fn reason(common: &Common) -> Option<String> {
    common.reason.as_deref().map(|reason| printable(reason, 400))
}

fn effect(state: &State, common: &Common, command: &Command) -> Result<Effect, Problem> {
    check_room(state, command)?;
    let app_key = |name: &AppName| AppKey {
        tenant: common.tenant.clone().unwrap_or_else(default_tenant),
        name: name.clone(),
    };
    match command {
        Command::Deploy(c) => deploy::effect(state, common, app_key(&c.app.name), &c.app),
        Command::DeleteApp(c) => delete(state, common, app_key(&c.app)),
        Command::Scale(c) => scale(state, common, app_key(&c.app), &c.workload, c.replicas),
        Command::Restart(c) => restart(state, common, app_key(&c.app), &c.workload),
        Command::PauseRollout(c) => {
            rollout::pause(state, common, app_key(&c.app), c.workload.as_ref(), true)
        }
        Command::ResumeRollout(c) => {
            rollout::pause(state, common, app_key(&c.app), c.workload.as_ref(), false)
        }
        Command::PromoteRollout(c) => {
            rollout::promote(state, common, app_key(&c.app), c.workload.as_ref(), c.full)
        }
        Command::AbortRollout(c) => rollout::abort(state, common, app_key(&c.app)),
        Command::Cordon(c) => node::cordon(state, common, &c.node, false),
        Command::Drain(c) => node::cordon(state, common, &c.node, true),
        Command::Uncordon(c) => node::uncordon(state, common, &c.node),
        Command::Label(c) => node::label(state, common, &c.node, &c.labels),
        Command::DeclareLost(c) => node::declare_lost(state, common, &c.node),
        Command::RemoveNode(c) => node::remove(state, common, &c.node),
        Command::PutConfig(c) => put_config(&c.content_base64),
        Command::AddNote(c) => Ok(Effect {
            object: c.object.clone(),
            app: None,
            events: vec![
                NoteAdded {
                    object: printable(&c.object, 200),
                    text: printable(&c.text, 2_000),
                    fields: c.fields.clone(),
                }
                .into(),
            ],
        }),
    }
}

/// Refuses what asks for more while a disk has little room. What ends or saves something goes on.
fn check_room(state: &State, command: &Command) -> Result<(), Problem> {
    let Some(closed) = &state.cluster.intake_closed else { return Ok(()) };
    match command {
        Command::Deploy(_)
        | Command::Scale(_)
        | Command::Restart(_)
        | Command::ResumeRollout(_)
        | Command::PromoteRollout(_)
        | Command::Label(_)
        | Command::PutConfig(_)
        | Command::AddNote(_) => {}
        Command::DeleteApp(_)
        | Command::PauseRollout(_)
        | Command::AbortRollout(_)
        | Command::Cordon(_)
        | Command::Drain(_)
        | Command::Uncordon(_)
        | Command::DeclareLost(_)
        | Command::RemoveNode(_) => return Ok(()),
    }
    let got = format!("{} bytes free on the disk of {}", closed.free_bytes, closed.disk);
    let valid = format!(
        "at least {} bytes free there: make room, and send it again; until then only what ends or \
         saves something is taken",
        closed.needed_bytes
    );
    Err(Problem::new("storage_full", "", &got, &valid))
}

fn default_tenant() -> Tenant {
    Tenant::new(DEFAULT_TENANT).expect("a name")
}

/// The app that a command is about, unchanged since the position it expects.
fn known_app<'a>(
    state: &'a State,
    common: &Common,
    key: &AppKey,
) -> Result<&'a cluster::state::App, Problem> {
    let Some(app) = state.apps.get(key) else {
        let known: Vec<String> = state.apps.iter().map(|(key, _)| key.to_string()).collect();
        return Err(Problem::new("not_found", "app", &key.to_string(), &one_of(&known)));
    };
    expect(common, app.changed_at)?;
    Ok(app)
}

/// Refuses a command whose sender has not seen the last change.
fn expect(common: &Common, changed_at: u64) -> Result<(), Problem> {
    match common.expect_position {
        Some(expected) if expected < changed_at => Err(Problem::new(
            "changed_meanwhile",
            "expect_position",
            &expected.to_string(),
            &format!("it last changed at position {changed_at}: look at it again"),
        )),
        _ => Ok(()),
    }
}

/// The names there are, for one who asked for another.
pub(crate) fn one_of(known: &[String]) -> String {
    match known {
        [] => "there is none yet".to_owned(),
        some => format!("one of {}", some.join(", ")),
    }
}

fn known_workload<'a>(
    app: &'a cluster::state::App,
    name: &WorkloadName,
) -> Result<&'a cluster::state::Workload, Problem> {
    app.workloads.get(name).filter(|workload| workload.declared).ok_or_else(|| {
        let declared = app.workloads.iter().filter(|(_, workload)| workload.declared);
        let known: Vec<String> = declared.map(|(name, _)| name.to_string()).collect();
        Problem::new("not_found", "workload", name.as_str(), &one_of(&known))
    })
}

fn delete(state: &State, common: &Common, key: AppKey) -> Result<Effect, Problem> {
    known_app(state, common, &key)?;
    let event = AppDeleteStarted { app: key.clone() };
    Ok(of_app(key, vec![event.into()]))
}

fn of_app(key: AppKey, events: Vec<Event>) -> Effect {
    Effect { object: format!("app/{key}"), app: Some(key), events }
}

fn scale(
    state: &State,
    common: &Common,
    key: AppKey,
    name: &WorkloadName,
    to: u32,
) -> Result<Effect, Problem> {
    let app = known_app(state, common, &key)?;
    let workload = known_workload(app, name)?;
    if app.specs.get(&workload.spec).is_some_and(|spec| spec.mode == Mode::Global) {
        let valid = "a replicated workload or a job; a global one has a replica on every node";
        return Err(Problem::new("not_scalable", "workload", name.as_str(), valid));
    }
    if workload.conduct.task.is_some() {
        let valid = "a workload of its own; a job of a rollout runs once";
        return Err(Problem::new("not_scalable", "workload", name.as_str(), valid));
    }
    deploy::check_replicas("replicas", to)?;
    if let Some(autoscale) = workload.autoscale.filter(|autoscale| autoscale.nearest(to) != to) {
        let (min, max) = (autoscale.min, autoscale.max);
        let valid =
            format!("{min} to {max}, as its autoscale says; or deploy it with other bounds");
        return Err(Problem::new("outside_autoscale", "replicas", &to.to_string(), &valid));
    }
    if to > workload.replicas {
        let others = app.workloads.iter().filter(|(other, _)| *other != name);
        let mine = others.map(|(_, workload)| workload.replicas).chain([to]);
        deploy::check_total(state, &key, "replicas", mine)?;
    }
    let event = WorkloadScaled {
        app: key.clone(),
        workload: name.clone(),
        from: workload.replicas,
        to,
        reason: reason(common),
    };
    Ok(of_app(key, vec![event.into()]))
}

fn restart(
    state: &State,
    common: &Common,
    key: AppKey,
    name: &WorkloadName,
) -> Result<Effect, Problem> {
    let generation = known_workload(known_app(state, common, &key)?, name)?.generation + 1;
    let event = WorkloadRestarted { app: key.clone(), workload: name.clone(), generation };
    Ok(of_app(key, vec![event.into()]))
}

fn put_config(content_base64: &str) -> Result<Effect, Problem> {
    let content = base64_decode(content_base64).ok_or_else(|| {
        Problem::new(
            "invalid_value",
            "content_base64",
            "not base64",
            "standard base64 with padding",
        )
    })?;
    if content.len() > command::CONFIG_BYTES_MAX {
        let got = format!("{} bytes", content.len());
        let valid = format!("at most {} bytes", command::CONFIG_BYTES_MAX);
        return Err(Problem::new("too_large", "content_base64", &got, &valid));
    }
    let digest = Digest::of(&content);
    Ok(Effect {
        object: format!("config/{digest}"),
        app: None,
        events: vec![ConfigStored { digest, content_base64: content_base64.to_owned() }.into()],
    })
}

fn base64_decode(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests;
