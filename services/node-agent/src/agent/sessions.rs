//! Who listens to a replica's output, or runs a command in it, now. Nothing of that is kept but the
//! fact that a command was run.

use decider::Now;
use schemas::command::printable;
use schemas::event::ExecStarted;
use schemas::id::ReplicaId;
use schemas::live::{self, ExecWanted, LogWanted};

use super::{Agent, Output};

/// How much of a command goes into history: so many words, of so many characters.
const WORDS_MAX: usize = 32;
const WORD_MAX: usize = 200;

/// Somebody asks for a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asking {
    /// The session's id.
    pub session: String,
    /// The inbox that parts go to.
    pub reply: String,
    /// The replica.
    pub replica: ReplicaId,
    /// What is wanted of it.
    pub wanted: Wanted,
}

/// What a session is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A replica's output.
    Log(LogWanted),
    /// A command run in it.
    Exec(ExecWanted),
}

impl Agent {
    /// A session begins, or is refused with a reason.
    pub(super) fn asked(&mut self, asking: Asking, now: Now) {
        if self.sessions.contains(&asking.session) {
            return;
        }
        match self.admit(&asking) {
            Ok(run) => {
                if let Wanted::Exec(exec) = &asking.wanted {
                    self.state_exec(&asking, exec, run, now);
                }
                self.sessions.insert(asking.session.clone());
                self.said.push(Output::Open { asking, run });
            }
            Err((code, text)) => {
                let (session, reply) = (asking.session, asking.reply);
                self.said.push(Output::Refuse { session, reply, code, text });
            }
        }
    }

    pub(super) fn session_over(&mut self, session: &str) {
        self.sessions.remove(session);
    }

    fn admit(&self, asking: &Asking) -> Result<u32, (u16, String)> {
        let id = &asking.replica;
        if let Some(held) = self.kept.facts.held() {
            return Err((409, format!("another agent speaks for {}: {held}", self.node)));
        }
        if self.sessions.len() >= live::SESSIONS_MAX {
            let text = format!(
                "{} has {} sessions open, as many as it takes: end one",
                self.node,
                live::SESSIONS_MAX
            );
            return Err((429, text));
        }
        let runner = self.kept.runners.get(id).filter(|runner| runner.run() > 0);
        let Some(runner) = runner else {
            return Err((404, format!("{id} has no run on {}", self.node)));
        };
        match &asking.wanted {
            Wanted::Log(log) => Ok(log.run.unwrap_or(runner.run())),
            Wanted::Exec(exec) if exec.command.is_empty() => {
                Err((400, "no command: name what to run".to_owned()))
            }
            Wanted::Exec(_) if !runner.is_running() => {
                Err((409, format!("{id} does not run now: see `muster why {id}`")))
            }
            Wanted::Exec(_) if self.kept.facts.is_full() => {
                let text = "what is run must be recorded, and too much waits for that already";
                Err((503, text.to_owned()))
            }
            Wanted::Exec(_) => Ok(runner.run()),
        }
    }

    /// No command is its cause: it goes back to a person, who is named.
    fn state_exec(&mut self, asking: &Asking, exec: &ExecWanted, run: u32, now: Now) {
        let words = exec.command.iter().take(WORDS_MAX);
        let event = ExecStarted {
            replica: asking.replica.clone(),
            run,
            command: words.map(|word| printable(word, WORD_MAX)).collect(),
            actor: printable(live::user_of(&asking.reply).unwrap_or("unknown"), 64),
        };
        let document = self.kept.document.as_ref();
        let assignment = document.and_then(|document| document.replicas.get(&asking.replica));
        let tenant = assignment.map(|assignment| assignment.app.tenant.clone());
        self.kept.facts.state(event, tenant, None, now);
        self.changed = true;
    }
}
