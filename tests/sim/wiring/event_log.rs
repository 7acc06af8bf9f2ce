//! event-log's process, its connection to the server, and the events stream there.

use event_log::sequencer::{Input, Message, Outcome, Output, Stop};
use schemas::append::{Answer, Request};

use crate::checks::{Failure, failure};
use crate::service::Mail;
use crate::world::{Asks, What, World};
use node_agent::agent;

/// How many append requests are ordered at once.
const GROUP: usize = 16;

/// How many messages of the stream come at once.
const PART: usize = 50;

impl World {
    pub(crate) fn log_up(&mut self) -> Result<(), Failure> {
        self.say(|| "event-log starts".to_owned());
        self.log.start().or_else(|what| failure("log-starts", what))?;
        let life = self.log.life;
        self.log.ticking = false;
        self.plan_soon(20, What::LogInput { life, input: Input::Connected });
        Ok(())
    }

    /// The power of its machine is cut.
    pub(crate) fn log_crash(&mut self) {
        self.count("event-log crashed");
        self.say(|| "event-log crashes".to_owned());
        let arrive_ms = self.now_ms + self.dice.within(0, 30);
        self.cuts.insert(self.log.connection, arrive_ms);
        let survive = self.dice.below(self.log.store.unsynced() + 1);
        self.log.crash(survive);
        let life = self.log.life;
        self.plan_soon(2_000, What::LogUp { life });
    }

    /// Its connection breaks: some of what was sent arrives, of none is it known.
    pub(crate) fn log_reconnect(&mut self) {
        if !self.log.is_up() {
            return;
        }
        self.say(|| "event-log's connection breaks".to_owned());
        let arrive_ms = self.now_ms + self.dice.within(0, 30);
        self.cuts.insert(self.log.connection, arrive_ms);
        self.log.connection += 1;
        self.log.read = 0;
        let unknown = std::mem::take(&mut self.log.outstanding);
        let outcomes =
            unknown.into_iter().map(|at| (at, Outcome::Unknown("timeout".to_owned()))).collect();
        let life = self.log.life;
        self.plan_soon(20, What::LogInput { life, input: Input::Outcomes(outcomes) });
        self.plan_in(21, What::LogInput { life, input: Input::Connected });
    }

    pub(crate) fn log_input(&mut self, input: Input) -> Result<(), Failure> {
        let life = self.log.life;
        let outputs = self.log.on(input, crate::world::UTC_MS + self.now_ms);
        for output in outputs {
            if self.crashes_now(2_500) {
                self.log_crash();
            }
            if self.log.life != life {
                return Ok(());
            }
            self.log_output(output)?;
        }
        if self.log.is_up() && !self.log.leads() && !self.log.ticking {
            self.log.ticking = true;
            self.plan_in(100, What::LogTick { life });
        }
        Ok(())
    }

    pub(crate) fn log_tick(&mut self) -> Result<(), Failure> {
        self.log.ticking = false;
        self.log_input(Input::Tick)
    }

    fn log_output(&mut self, output: Output) -> Result<(), Failure> {
        let life = self.log.life;
        match output {
            Output::Inspect => self.plan_soon(10, What::LogAsks { life, asks: Asks::Inspect }),
            Output::Read { from, to } => {
                self.plan_soon(10, What::LogAsks { life, asks: Asks::Read { from, to } });
            }
            Output::Seat { next } => {
                self.plan_soon(10, What::LogAsks { life, asks: Asks::Seat { next } });
            }
            Output::Publish(message) => self.send_event(message),
            Output::Listen(on) => {
                self.log.listening = on;
                self.log.read = 0;
                self.plan_log_read();
            }
            Output::Purge { up_to } => self.plan_soon(500, What::Purge { up_to }),
            Output::Answer { inbox, answer } => self.answer(&inbox, answer)?,
            Output::Published(place) => {
                let shown = self.log.published(place);
                shown.or_else(|what| failure("log-folds", what))?;
                self.observe(place.position)?;
            }
            Output::Witness(heads) => self.log.remember(heads),
            Output::Notice(what) => self.say(|| format!("event-log: {what}")),
            Output::Stop(Stop::Store(error)) => {
                self.say(|| format!("event-log stops: {error}"));
                self.log_crash();
            }
            Output::Stop(Stop::Refusal(why)) => return failure("log-starts", why.to_string()),
        }
        Ok(())
    }

    pub(crate) fn log_asks(&mut self, asks: Asks) -> Result<(), Failure> {
        if self.stormy && self.dice.once_in(30) {
            return self.log_input(Input::Failed("the server does not answer".to_owned()));
        }
        let input = match asks {
            Asks::Inspect => Input::Stream(self.events.facts()),
            Asks::Read { from, to } => Input::Messages(self.events.read(from, to, PART)),
            Asks::Seat { next } => {
                self.events.seat(next);
                Input::Seated
            }
        };
        self.log_input(input)
    }

    /// Sends an event to the server. One connection keeps the order.
    fn send_event(&mut self, message: Message) {
        let connection = self.log.connection;
        self.log.outstanding.insert(message.place.position);
        let soon = self.now_ms + self.dice.within(1, 3);
        self.log.wire_ms = self.log.wire_ms.max(soon);
        let what = What::Publish { connection, message: Box::new(message) };
        self.agenda.plan(self.log.wire_ms, what);
    }

    /// An event gets to the server.
    pub(crate) fn serve(&mut self, connection: u64, message: &Message) -> Result<(), Failure> {
        if self.cuts.get(&connection).is_some_and(|until| self.now_ms > *until) {
            return Ok(());
        }
        let position = message.place.position;
        let outcome = if self.stormy && self.dice.once_in(400) {
            self.count("a publish was refused");
            Outcome::Refused("the stream takes nothing just now".to_owned())
        } else if self.protections.stream_checks {
            self.events.publish(message)
        } else {
            Outcome::Stored(self.events.add(&message.subject, message.bytes.clone()))
        };
        if let Outcome::Stored(at) = outcome {
            self.checks.visible(&self.log.store, at, message)?;
            if at == self.checks.model.next {
                self.observe(at)?;
            }
            self.news();
        }
        if self.stormy && self.dice.once_in(400) {
            self.count("an acknowledgement was lost");
            let outcome = Outcome::Unknown("no answer in time".to_owned());
            self.plan_in(2_000, What::LogOutcome { connection, position, outcome });
        } else {
            self.plan_soon(3, What::LogOutcome { connection, position, outcome });
        }
        Ok(())
    }

    pub(crate) fn log_outcome(
        &mut self,
        connection: u64,
        position: u64,
        outcome: Outcome,
    ) -> Result<(), Failure> {
        if connection != self.log.connection || !self.log.outstanding.remove(&position) {
            return Ok(());
        }
        self.log_input(Input::Outcomes(vec![(position, outcome)]))
    }

    /// Everything up to here is history.
    fn observe(&mut self, position: u64) -> Result<(), Failure> {
        let from = self.checks.model.next;
        self.checks.observe(&self.log.store, position)?;
        if self.trace.on {
            for at in from..self.checks.model.next {
                let line = self.checks.line(&self.log.store, at);
                self.say(|| line);
            }
        }
        Ok(())
    }

    /// There is something new in the events stream.
    pub(crate) fn news(&mut self) {
        for host in 0..self.hosts.len() {
            if self.hosts[host].runs() && !self.hosts[host].reading {
                self.hosts[host].reading = true;
                let life = self.hosts[host].life;
                let late = self.stormy && self.dice.once_in(20);
                self.plan_soon(if late { 1_500 } else { 6 }, What::Read { host, life });
            }
        }
    }

    pub(crate) fn append_arrives(&mut self, subject: String, inbox: String, bytes: Vec<u8>) {
        self.appends.add(subject, inbox, bytes);
        self.plan_log_read();
    }

    fn plan_log_read(&mut self) {
        if self.log.listening && !self.log.reading {
            self.log.reading = true;
            let life = self.log.life;
            self.plan_soon(3, What::LogRead { life });
        }
    }

    pub(crate) fn log_read(&mut self) -> Result<(), Failure> {
        self.log.reading = false;
        if !self.log.listening {
            return Ok(());
        }
        let mut asked = self.appends.after(self.log.read, GROUP);
        let Some(last) = asked.last() else { return Ok(()) };
        self.log.read = last.sequence;
        if !self.protections.fencing {
            for asked in &mut asked {
                let mut request: Request =
                    serde_json::from_slice(&asked.bytes).expect("it is ours");
                self.log.forge(&mut request);
                asked.bytes = serde_json::to_vec(&request).expect("string keys").into();
            }
        }
        if self.stormy && self.dice.once_in(500) {
            self.count("a write failed");
            self.log.store.fail_next();
        }
        self.log_input(Input::Requests(asked))?;
        self.plan_log_read();
        Ok(())
    }

    /// An answer leaves for where it is wanted.
    fn answer(&mut self, inbox: &str, answer: Answer) -> Result<(), Failure> {
        let told = self.log.answers(&answer.series, answer.n, &answer.verdict);
        told.or_else(|what| failure("answers-agree", what))?;
        let Some((kind, rest)) = inbox.split_once('/') else { return Ok(()) };
        let Some((index, life)) = rest.split_once('/') else { return Ok(()) };
        let (index, life) = (index.parse().unwrap_or(0), life.parse().unwrap_or(0));
        for wait in self.arrivals() {
            let answer = answer.clone();
            let what = match kind {
                "host" => What::Mail { host: index, life, mail: Mail::Answer(answer) },
                _ => What::NodeMail { node: index, life, input: agent::Input::Answer(answer) },
            };
            self.plan_in(wait, what);
        }
        Ok(())
    }
}
