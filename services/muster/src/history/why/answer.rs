//! What an answer is made of, and the chain from an event back to its root.

use schemas::envelope::Envelope;
use schemas::event::{Event, Evidence, RunEnded, command_entity};
use schemas::id::{CommandId, ReplicaId, Writer};
use schemas::read::StatePage;
use serde::Serialize;

use super::records::{Records, Stop};
use crate::lists::moment;
use crate::tell;

/// How many causes back, at most.
const DEPTH: usize = 32;

/// What is known when a question is answered.
#[derive(Clone, Copy)]
pub(crate) struct Case<'a> {
    pub(crate) records: &'a Records,
    /// The state at that place: of the app that it is about, or of all.
    pub(crate) page: &'a StatePage,
    /// The time there, in ms since 1970.
    pub(crate) now_ms: u64,
}

/// The answer to one question.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Answer {
    /// How it is, in one sentence.
    pub(crate) summary: String,
    /// One part a question.
    pub(crate) parts: Vec<Part>,
    /// Commands that show more.
    pub(crate) more: Vec<String>,
}

/// Why one thing is so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Part {
    /// `Why it exists`.
    pub(crate) title: String,
    /// The reason, and the evidence for it, a sentence each.
    pub(crate) reasons: Vec<String>,
    /// From the effect back to its first cause.
    pub(crate) chain: Vec<Link>,
    /// Who or what is behind all that.
    pub(crate) root: Option<Root>,
}

/// An event in a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Link {
    pub(crate) position: u64,
    #[serde(skip)]
    pub(crate) recorded_ms: u64,
    pub(crate) recorded: String,
    pub(crate) writer: String,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) text: String,
}

/// Who or what is at the root of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Root {
    /// Who sent the command, if one is at the root.
    pub(crate) actor: Option<String>,
    pub(crate) command: Option<CommandId>,
    /// What it gave as its reason.
    pub(crate) reason: Option<String>,
    pub(crate) text: String,
}

impl Link {
    pub(crate) fn of(event: &Envelope, focus: Option<&ReplicaId>) -> Self {
        let header = &event.header;
        Self {
            position: header.position,
            recorded_ms: header.recorded_ms,
            recorded: moment(header.recorded_ms),
            writer: header.writer.to_string(),
            kind: event.event.kind(),
            text: words(&event.event, focus),
        }
    }
}

/// What an event says; of many replicas in it, about one.
fn words(event: &Event, focus: Option<&ReplicaId>) -> String {
    if let Event::ReplicasUnplaced(e) = event {
        return format!("{} of {}/{} fit nowhere", e.waiting, e.app, e.workload);
    }
    let Some(id) = focus else { return tell::words(event) };
    let others = |count: usize| match count {
        0 | 1 => String::new(),
        2 => " (and another)".to_owned(),
        n => format!(" (and {} others)", n - 1),
    };
    match event {
        Event::ReplicasRequested(e) => {
            let own = e.replicas.iter().find(|r| r.id == *id || r.replaces.as_ref() == Some(id));
            let Some(own) = own else { return tell::words(event) };
            let instead = own.replaces.as_ref().map(|old| format!(", to replace {old}"));
            format!(
                "{} requested{}{}",
                own.id,
                instead.unwrap_or_default(),
                others(e.replicas.len())
            )
        }
        Event::ReplicasPlaced(e) if e.replicas.contains(id) => {
            format!("{id} placed on {}{}", e.node, others(e.replicas.len()))
        }
        Event::ReplicasRetired(e) if e.replicas.contains(id) => {
            format!("{id} to end{}: {}", others(e.replicas.len()), tell::reason(&e.reason))
        }
        Event::ReplicasReleased(e) if e.replicas.contains(id) => {
            format!("{id} gets no traffic any more{}: asked to stop", others(e.replicas.len()))
        }
        // What was found stands beside it.
        Event::RunEnded(e) => format!("{} run {} ended", e.replica, e.run),
        Event::RunFailed(e) => format!("{} run {} cannot {}", e.replica, e.run, e.step),
        other => tell::words(other),
    }
}

impl Case<'_> {
    /// How long ago something was.
    pub(crate) fn ago(&self, ms: u64) -> String {
        crate::table::ago(self.now_ms.saturating_sub(ms))
    }

    /// From an event to what came right before it, and so on, to the person or the timer at the root.
    pub(crate) fn chain(
        &self,
        from: &Envelope,
        focus: Option<&ReplicaId>,
    ) -> Result<(Vec<Link>, Option<Root>), Stop> {
        let mut chain = vec![Link::of(from, focus)];
        let mut last = from;
        while let Some(cause) = self.cause(last)? {
            // A replica's placement is told of with the replica that was to be replaced in sight.
            chain.push(Link::of(cause, focus));
            last = cause;
            if chain.len() >= DEPTH {
                return Ok((chain, None));
            }
        }
        let Some(id) = &last.header.correlation else {
            return Ok((chain, Some(by_itself(last))));
        };
        let receipts = self.records.first(&command_entity(id), 1)?;
        let Some(receipt) = receipts.first() else { return Ok((chain, None)) };
        if receipt.header.position != last.header.position {
            chain.push(Link::of(receipt, None));
        }
        Ok((chain, Some(sent(receipt, id))))
    }

    /// What came right before an event. A declaration that takes another back stands right behind what
    /// says that it failed.
    fn cause(&self, event: &Envelope) -> Result<Option<&Envelope>, Stop> {
        let at = event.header.position;
        if matches!(event.event, Event::AppDeployed(_)) && at > 1 {
            let before = self.records.at(at - 1)?;
            let failed = before.filter(|e| matches!(e.event, Event::RolloutFailed(_)));
            if failed.is_some() {
                return Ok(failed);
            }
        }
        match event.header.causation.filter(|cause| *cause < at) {
            Some(cause) => self.records.at(cause),
            None => Ok(None),
        }
    }

    /// The same as a part of an answer.
    pub(crate) fn part(
        &self,
        title: impl Into<String>,
        reasons: Vec<String>,
        from: &Envelope,
        focus: Option<&ReplicaId>,
    ) -> Result<Part, Stop> {
        let (chain, root) = self.chain(from, focus)?;
        Ok(Part { title: title.into(), reasons, chain, root })
    }
}

/// The command at the root, and who sent it.
fn sent(receipt: &Envelope, id: &CommandId) -> Root {
    let actor = receipt.header.actor.clone();
    let (verb, reason, proved, why) = match &receipt.event {
        Event::CommandAccepted(e) => {
            let why = match &e.reason {
                Some(reason) => format!(": {reason}"),
                None => ", and gave no reason".to_owned(),
            };
            (e.verb.as_str(), e.reason.clone(), e.proved, why)
        }
        // What it gave as its reason was not recorded.
        Event::CommandRejected(e) => (e.verb.as_str(), None, true, String::new()),
        _ => ("a command", None, true, String::new()),
    };
    let claim = if proved { "" } else { " (as they call themselves: the bus proved no name)" };
    let text = match actor.as_str() {
        "autoscaler" => format!("nobody: the autoscaler measured and sent {verb}{why}"),
        actor => format!("{actor}{claim} sent {verb}{why}"),
    };
    Root { actor: Some(actor), command: Some(id.clone()), reason, text }
}

/// An event that no command is behind: somebody observed something.
fn by_itself(event: &Envelope) -> Root {
    let text = match (&event.event, &event.header.writer) {
        (Event::NodeSuspected(_) | Event::NodeLost(_), _) => {
            "nobody: the node's heartbeats stopped coming, and health watches the time".to_owned()
        }
        (Event::CallsMeasured(_), _) => {
            "nobody: gateways measured who calls it, and how far that is".to_owned()
        }
        (Event::NodeReturned(_), _) => "nobody: the node's heartbeats come again".to_owned(),
        (Event::EvictionPaused(_) | Event::EvictionResumed(_), _) => {
            "nobody: health counts the silent nodes".to_owned()
        }
        (_, Writer::Agent(node)) => format!("nobody: the agent of {node} says what it found there"),
        (_, writer) => format!("nobody: {writer} decided it by itself"),
    };
    Root { actor: None, command: None, reason: None, text }
}

/// What was found when a run had ended, a sentence each, and its last lines.
pub(crate) fn ending(of: &RunEnded, case: &Case<'_>, recorded_ms: u64) -> Vec<String> {
    let (found, mut said) = (&of.evidence, Vec::new());
    said.push(format!("run {} of {} ended: {}", of.run, of.replica, found.cause));
    if found.out_of_memory {
        said.push(
            "it needs more than its limit, `memory_limit_bytes`, or keeps what it need not"
                .to_owned(),
        );
    }
    // What a run ends with once it is stopped, is not what it ended for.
    let stopped = if found.cause.starts_with("unhealthy") { "stopped for that, " } else { "" };
    said.push(match found.exit_code {
        Some(code @ 129..=192) => {
            let signal = code - 128;
            format!("{stopped}exit code {code}: signal {signal}{}", signal_name(signal, found))
        }
        Some(126) => format!("{stopped}exit code 126: its command cannot be executed"),
        Some(127) => format!("{stopped}exit code 127: its command is not in the image"),
        Some(code) => format!("{stopped}exit code {code}"),
        None => "no exit code: the engine does not know how it ended".to_owned(),
    });
    if found.last_lines.is_empty() {
        said.push("it wrote nothing before".to_owned());
    } else {
        said.push("the last that it wrote:".to_owned());
        let line = |line: &String| format!("  │ {}", schemas::command::printable(line, 200));
        said.extend(found.last_lines.iter().map(line));
    }
    said.push(match of.retry_ms {
        None => "by its restart policy no other run follows".to_owned(),
        Some(wait) if recorded_ms + wait > case.now_ms => {
            let left = (recorded_ms + wait - case.now_ms).div_ceil(1_000);
            format!("by its restart policy run {} follows in {left}s", of.run + 1)
        }
        Some(_) => format!("by its restart policy run {} follows", of.run + 1),
    });
    said
}

fn signal_name(signal: i64, found: &Evidence) -> &'static str {
    match signal {
        2 => " (SIGINT)",
        6 => " (SIGABRT: it gave up by itself)",
        9 if found.out_of_memory => " (SIGKILL, by the kernel)",
        9 => " (SIGKILL from outside, and not for lack of memory)",
        11 => " (SIGSEGV: it crashed)",
        15 => " (SIGTERM: it was asked to stop)",
        _ => "",
    }
}
