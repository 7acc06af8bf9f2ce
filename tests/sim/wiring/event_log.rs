//! event-log's process, its connection to the server, and the events stream there.

use bytes::Bytes;
use event_log::sequencer::{Input, Message, Outcome, Output, Stop, Streamed};
use event_log::testing::Shown;
use schemas::append::{Answer, Request};
use schemas::envelope::{Envelope, Header};
use schemas::read::LogRequest;
use schemas::subject;

use crate::checks::{Failure, failure};
use crate::log::Log;
use crate::service::Mail;
use crate::world::{Asks, What, World};
use node_agent::agent;

/// How many append requests are ordered at once.
const GROUP: usize = 16;

/// How many messages of the stream come at once.
const PART: usize = 50;

impl World {
    pub(crate) fn log_up(&mut self, log: usize) -> Result<(), Failure> {
        let name = self.logs[log].name.clone();
        self.say(|| format!("{name} starts"));
        self.logs[log].start().or_else(|what| failure("log-starts", what))?;
        let life = self.logs[log].life;
        self.plan_soon(20, What::LogInput { log, life, input: Input::Connected });
        self.plan_in(100, What::LogTick { log, life });
        Ok(())
    }

    /// The power of its machine is cut.
    pub(crate) fn log_crash(&mut self, log: usize) {
        self.count("event-log crashed");
        let name = self.logs[log].name.clone();
        self.say(|| format!("{name} crashes"));
        let arrive_ms = self.now_ms + self.dice.within(0, 30);
        self.cuts.insert(self.logs[log].connection, arrive_ms);
        let survive = self.dice.below(self.logs[log].store.unsynced() + 1);
        self.logs[log].crash(survive);
        let life = self.logs[log].life;
        let away = if self.logs.len() == 1 { 2_000 } else { 6_000 };
        self.plan_soon(away, What::LogUp { log, life });
    }

    /// Its connection breaks: some of what was sent arrives, of none is it known.
    pub(crate) fn log_reconnect(&mut self, log: usize) {
        if !self.logs[log].is_up() {
            return;
        }
        let name = self.logs[log].name.clone();
        self.say(|| format!("the connection of {name} breaks"));
        let arrive_ms = self.now_ms + self.dice.within(0, 30);
        let one = &mut self.logs[log];
        self.cuts.insert(one.connection, arrive_ms);
        one.connection += 1;
        one.read = 0;
        let unknown = std::mem::take(&mut one.outstanding);
        let outcomes =
            unknown.into_iter().map(|at| (at, Outcome::Unknown("timeout".to_owned()))).collect();
        let life = one.life;
        self.plan_soon(20, What::LogInput { log, life, input: Input::Outcomes(outcomes) });
        self.plan_in(21, What::LogInput { log, life, input: Input::Connected });
    }

    /// It is stopped in its tracks for a while. What it sent still arrives.
    pub(crate) fn log_pause(&mut self, log: usize, ms: u64) {
        if self.logs[log].is_up() {
            self.count("event-log was paused");
            let name = self.logs[log].name.clone();
            self.say(|| format!("{name} is paused for {ms} ms"));
            self.logs[log].paused_until_ms = self.now_ms + ms;
        }
    }

    /// When a paused instance goes on; none while it runs.
    fn paused_ms(&self, log: usize) -> Option<u64> {
        let until = self.logs[log].paused_until_ms;
        (until > self.now_ms).then(|| until - self.now_ms)
    }

    /// What answers reads, if anything does.
    pub(crate) fn shown(&self) -> Option<&Shown> {
        let answers =
            |log: &Log| (self.logs.len() == 1 || log.rules()) && log.paused_until_ms <= self.now_ms;
        self.logs.iter().find(|log| answers(log)).and_then(|log| log.shown.as_ref())
    }

    pub(crate) fn log_input(&mut self, log: usize, input: Input) -> Result<(), Failure> {
        let life = self.logs[log].life;
        if let Some(ms) = self.paused_ms(log) {
            self.plan_in(ms, What::LogInput { log, life, input });
            return Ok(());
        }
        let outputs = self.logs[log].on(input, crate::world::UTC_MS + self.now_ms);
        for output in outputs {
            // It changes nothing that a crash before it could: chance is for what does.
            if !matches!(output, Output::StandsBy(_)) && self.crashes_now(2_500) {
                self.log_crash(log);
            }
            if self.logs[log].life != life {
                return Ok(());
            }
            self.log_output(log, output)?;
        }
        Ok(())
    }

    pub(crate) fn log_tick(&mut self, log: usize) -> Result<(), Failure> {
        let life = self.logs[log].life;
        if let Some(ms) = self.paused_ms(log) {
            self.plan_in(ms, What::LogTick { log, life });
            return Ok(());
        }
        self.log_input(log, Input::Tick)?;
        self.plan_in(100, What::LogTick { log, life });
        Ok(())
    }

    /// The disk takes the next group; what it says comes a little later.
    pub(crate) fn log_stores(&mut self, log: usize) -> Result<(), Failure> {
        let life = self.logs[log].life;
        if let Some(ms) = self.paused_ms(log) {
            self.plan_in(ms, What::LogStores { log, life });
            return Ok(());
        }
        let all = self.dice.once_in(2);
        if let Some(input) = self.logs[log].stores(all) {
            self.plan_soon(2, What::LogInput { log, life, input });
        }
        Ok(())
    }

    fn log_output(&mut self, log: usize, output: Output) -> Result<(), Failure> {
        let life = self.logs[log].life;
        let asks = match output {
            Output::Inspect => Asks::Inspect,
            Output::Read { from, to } => Asks::Read { from, to },
            Output::Seat { next } => Asks::Seat { next },
            Output::Fetch { from, to } => Asks::Fetch { from, to },
            Output::Confirm { ticket } => Asks::Confirm { ticket },
            Output::Probe => Asks::Probe,
            other => return self.log_does(log, other),
        };
        self.plan_soon(10, What::LogAsks { log, life, asks });
        Ok(())
    }

    fn log_does(&mut self, log: usize, output: Output) -> Result<(), Failure> {
        let name = || self.logs[log].name.clone();
        match output {
            Output::Follow(from) => {
                self.logs[log].following = from;
                self.plan_follow(log);
            }
            Output::Beat(beat) => {
                for other in (0..self.logs.len()).filter(|other| *other != log) {
                    let life = self.logs[other].life;
                    if let Some(wait) = self.travel() {
                        let input = Input::Beat(beat.clone());
                        self.plan_in(wait, What::LogInput { log: other, life, input });
                    }
                }
            }
            Output::StandsBy(report) => self.stands_by(report)?,
            Output::Store(group) => {
                let life = self.logs[log].life;
                self.logs[log].store(group);
                self.plan_soon(4, What::LogStores { log, life });
            }
            Output::Publish(message) => self.send_event(log, message),
            Output::Listen(on) => {
                if on && self.leading.replace(log).is_some_and(|before| before != log) {
                    self.count("event-log took over");
                }
                self.logs[log].listening = on;
                self.logs[log].read = 0;
                self.plan_log_read(log);
            }
            Output::Purge { up_to } => self.plan_soon(500, What::Purge { up_to }),
            Output::Answer { inbox, answer } => self.answer(log, &inbox, answer)?,
            Output::Published(place) => {
                let shown = self.logs[log].published(place);
                shown.or_else(|what| failure("log-folds", what))?;
                self.observe(log, place.position)?;
                self.checks.same(place)?;
            }
            Output::Witness(heads) => self.logs[log].remember(heads),
            Output::Notice(what) => {
                if what.contains("moved aside") {
                    self.count("entries were moved aside");
                }
                let name = self.logs[log].name.clone();
                self.say(|| format!("{name}: {what}"));
            }
            Output::Stop(Stop::Store(error)) => {
                let name = name();
                self.say(|| format!("{name} stops: {error}"));
                self.log_crash(log);
            }
            Output::Stop(Stop::Refusal(why)) => return failure("log-starts", why.to_string()),
            asks => unreachable!("{asks:?} is asked of the server"),
        }
        Ok(())
    }

    pub(crate) fn log_asks(&mut self, log: usize, asks: Asks) -> Result<(), Failure> {
        if self.stormy && self.dice.once_in(30) {
            let input = match asks {
                Asks::Confirm { ticket } => Input::Confirmed { ticket, last: None },
                Asks::Probe => return Ok(()),
                _ => Input::Failed("the server does not answer".to_owned()),
            };
            return self.log_input(log, input);
        }
        let input = match asks {
            Asks::Inspect => Input::Stream(self.events.facts()),
            Asks::Read { from, to } => Input::Messages(self.events.read(from, to, PART)),
            Asks::Seat { next } => {
                self.events.seat(next);
                Input::Seated
            }
            Asks::Fetch { from, to } => self.page(from, to),
            Asks::Confirm { ticket } => Input::Confirmed { ticket, last: self.events.last_taken() },
            // A connection outlives a process that is paused.
            Asks::Probe if self.logs.iter().any(Log::rules) => return Ok(()),
            Asks::Probe => Input::Nobody,
        };
        self.log_input(log, input)
    }

    /// Entries that the stream has let go of, from whoever answers reads.
    fn page(&mut self, from: u64, to: u64) -> Input {
        let request = LogRequest { from, limit: Some(to - from + 1), ..LogRequest::default() };
        let Some(Ok(page)) = self.shown().map(|shown| shown.page(&request)) else {
            return Input::Failed("nobody answers".to_owned());
        };
        self.count("entries came from another event-log");
        let streamed = |(event, sequence): (Box<serde_json::value::RawValue>, u64)| {
            let bytes = Bytes::copy_from_slice(event.get().as_bytes());
            let envelope = Envelope::decode(&bytes).expect("event-log says it");
            let subject = subject::event(&envelope.header.tenant, &envelope.event.about());
            Streamed { sequence, subject, bytes }
        };
        Input::Messages(page.events.into_iter().zip(from..).map(streamed).collect())
    }

    fn plan_follow(&mut self, log: usize) {
        if self.logs[log].following.is_some() && !self.logs[log].follow_planned {
            self.logs[log].follow_planned = true;
            let life = self.logs[log].life;
            let late = self.stormy && self.dice.once_in(30);
            self.plan_soon(if late { 1_000 } else { 6 }, What::LogFollow { log, life });
        }
    }

    /// What the stream brings to one that follows.
    pub(crate) fn log_follow(&mut self, log: usize) -> Result<(), Failure> {
        self.logs[log].follow_planned = false;
        let Some(from) = self.logs[log].following else { return Ok(()) };
        let facts = self.events.facts();
        if from > facts.last + 1 || from < facts.first {
            self.logs[log].following = None;
            return self.log_input(log, Input::Strayed("what comes next is not there".to_owned()));
        }
        let messages = self.events.read(from, u64::MAX, PART);
        let Some(last) = messages.last() else { return Ok(()) };
        self.logs[log].following = Some(last.sequence + 1);
        self.plan_follow(log);
        self.log_input(log, Input::Followed(messages))
    }

    /// Sends an event to the server. One connection keeps the order.
    fn send_event(&mut self, log: usize, message: Message) {
        let soon = self.now_ms + self.dice.within(1, 3);
        let one = &mut self.logs[log];
        let connection = one.connection;
        one.outstanding.insert(message.place.position);
        one.wire_ms = one.wire_ms.max(soon);
        let what = What::Publish { log, connection, message: Box::new(message) };
        self.agenda.plan(one.wire_ms, what);
    }

    /// An event gets to the server.
    pub(crate) fn serve(
        &mut self,
        log: usize,
        connection: u64,
        message: &Message,
    ) -> Result<(), Failure> {
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
            self.checks.visible(&self.logs[log].store, at, message)?;
            // What lands behind something foreign, which a follower may have voided, does not follow.
            let before = self.checks.replayed.cursor().hash;
            let follows = Header::decode(&message.bytes).is_ok_and(|(h, _)| h.prev_hash == before);
            if at == self.checks.model.next && follows {
                self.observe(log, at)?;
            }
            self.news();
        }
        if self.stormy && self.dice.once_in(400) {
            self.count("an acknowledgement was lost");
            let outcome = Outcome::Unknown("no answer in time".to_owned());
            self.plan_in(2_000, What::LogOutcome { log, connection, position, outcome });
        } else {
            self.plan_soon(3, What::LogOutcome { log, connection, position, outcome });
        }
        Ok(())
    }

    pub(crate) fn log_outcome(
        &mut self,
        log: usize,
        connection: u64,
        position: u64,
        outcome: Outcome,
    ) -> Result<(), Failure> {
        let one = &mut self.logs[log];
        if connection != one.connection || !one.outstanding.remove(&position) {
            return Ok(());
        }
        self.log_input(log, Input::Outcomes(vec![(position, outcome)]))
    }

    /// Everything up to here is history.
    fn observe(&mut self, log: usize, position: u64) -> Result<(), Failure> {
        let from = self.checks.model.next;
        self.checks.observe(&self.logs[log].store, position)?;
        if self.trace.on {
            for at in from..self.checks.model.next {
                let line = self.checks.line(&self.logs[log].store, at);
                self.say(|| line);
            }
        }
        Ok(())
    }

    /// There is something new in the events stream.
    pub(crate) fn news(&mut self) {
        for log in 0..self.logs.len() {
            self.plan_follow(log);
        }
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
        for log in 0..self.logs.len() {
            self.plan_log_read(log);
        }
    }

    fn plan_log_read(&mut self, log: usize) {
        if self.logs[log].listening && !self.logs[log].reading {
            self.logs[log].reading = true;
            let life = self.logs[log].life;
            self.plan_soon(3, What::LogRead { log, life });
        }
    }

    pub(crate) fn log_read(&mut self, log: usize) -> Result<(), Failure> {
        if let Some(ms) = self.paused_ms(log) {
            let life = self.logs[log].life;
            self.plan_in(ms, What::LogRead { log, life });
            return Ok(());
        }
        self.logs[log].reading = false;
        if !self.logs[log].listening {
            return Ok(());
        }
        let mut asked = self.appends.after(self.logs[log].read, GROUP);
        let Some(last) = asked.last() else { return Ok(()) };
        self.logs[log].read = last.sequence;
        if !self.protections.fencing {
            for asked in &mut asked {
                let mut request: Request =
                    serde_json::from_slice(&asked.bytes).expect("it is ours");
                self.logs[log].forge(&mut request);
                asked.bytes = serde_json::to_vec(&request).expect("string keys").into();
            }
        }
        if self.stormy && self.dice.once_in(500) {
            self.count("a write failed");
            self.logs[log].store.fail_next();
        }
        self.log_input(log, Input::Requests(asked))?;
        self.plan_log_read(log);
        Ok(())
    }

    /// An answer leaves for where it is wanted.
    fn answer(&mut self, log: usize, inbox: &str, answer: Answer) -> Result<(), Failure> {
        let told = self.logs[log].answers(&answer.series, answer.n, &answer.verdict);
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
