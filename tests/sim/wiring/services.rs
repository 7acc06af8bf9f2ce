//! The processes of deciding services: reading streams, and sending what their machines say.

use controller::commands::CommandMessage;
use decider::Role;
use event_log::sequencer::{self, Said};
use schemas::append::Request;
use schemas::document::NodeDocument;
use schemas::id::Writer;
use schemas::read::LogRequest;
use schemas::report::StandbyReport;
use schemas::subject;

use node_agent::agent;
use scheduler::documents::Write;

use crate::checks::{Failure, failure};
use crate::service::{Mail, Sent};
use crate::world::{Bent, What, World, bend};

/// How many entries are read at once.
const AT_ONCE: u64 = 200;

/// How long a reader waits before it tries again, in ms.
const RETRY_MS: u64 = 200;

impl World {
    pub(crate) fn host_up(&mut self, host: usize, life: u64) -> Result<(), Failure> {
        if self.hosts[host].life != life || self.hosts[host].process.is_up() {
            return Ok(());
        }
        let asks = self.shown().is_some() && self.dice.once_in(2);
        let snapshot = match self.shown() {
            Some(shown) if asks => shown.restore().or_else(|what| failure("snapshots", what))?,
            _ => None,
        };
        let other_disk = life > 0 && self.dice.once_in(4);
        let name = self.hosts[host].process.name();
        let from = snapshot.as_ref().map_or(0, |fold| fold.place().position);
        self.say(|| format!("{name} starts at {from}, on another disk: {other_disk}"));
        let mut begins = snapshot;
        if self.protections.bent == Some(Bent::Health)
            && self.hosts[host].process.writer() == Writer::Health
        {
            bend(begins.get_or_insert_default());
        }
        self.hosts[host].start(begins, other_disk);
        self.hosts[host].reading = false;
        self.give(host, vec![Mail::Connected])?;
        self.plan_read(host, 5);
        Ok(())
    }

    pub(crate) fn host_crash(&mut self, host: usize) {
        if !self.hosts[host].process.is_up() {
            return;
        }
        self.count("a service crashed");
        let name = self.hosts[host].process.name();
        self.say(|| format!("{name} crashes"));
        self.hosts[host].crash();
        let life = self.hosts[host].life;
        let wait = self.dice.within(200, 6_000);
        self.plan_in(wait, What::Up { host, life });
    }

    /// A clean stop that was asked for is over.
    pub(crate) fn host_exit(&mut self, host: usize, life: u64) -> Result<(), Failure> {
        if self.hosts[host].life == life {
            self.host_crash(host);
        }
        Ok(())
    }

    pub(crate) fn host_pause(&mut self, host: usize, ms: u64) {
        if !self.hosts[host].runs() {
            return;
        }
        self.count("a service was paused");
        let name = self.hosts[host].process.name();
        self.say(|| format!("{name} is paused for {ms} ms"));
        self.hosts[host].paused = true;
        let life = self.hosts[host].life;
        self.plan_in(ms, What::Resume { host, life });
    }

    /// It goes on where it was: first on what it knew, or first with what has come meanwhile.
    pub(crate) fn resume(&mut self, host: usize, life: u64) -> Result<(), Failure> {
        if self.hosts[host].life != life || !self.hosts[host].paused {
            return Ok(());
        }
        self.hosts[host].paused = false;
        self.hosts[host].reading = false;
        if self.dice.once_in(2) {
            self.give(host, vec![Mail::Tick])?;
        }
        let mail = std::mem::take(&mut self.hosts[host].sockets);
        self.give(host, mail)?;
        self.plan_read(host, 5);
        Ok(())
    }

    pub(crate) fn host_reconnect(&mut self, host: usize) {
        let life = self.hosts[host].life;
        self.plan_soon(50, What::Mail { host, life, mail: Mail::Connected });
    }

    pub(crate) fn mail(&mut self, host: usize, life: u64, mail: Mail) -> Result<(), Failure> {
        if self.hosts[host].life != life {
            return Ok(());
        }
        if self.hosts[host].paused {
            self.hosts[host].sockets.push(mail);
            return Ok(());
        }
        self.give(host, vec![mail])
    }

    pub(crate) fn wake(&mut self, host: usize, wake: u64) -> Result<(), Failure> {
        if self.hosts[host].wake != wake || !self.hosts[host].runs() {
            return Ok(());
        }
        self.give(host, vec![Mail::Tick])
    }

    /// Hands the machine what came, and does what it says, until it crashes.
    fn give(&mut self, host: usize, mail: Vec<Mail>) -> Result<(), Failure> {
        let now = self.now(self.hosts[host].skew_ms);
        let life = self.hosts[host].life;
        let sent = self.hosts[host].process.take(mail, now);
        for sent in sent {
            // What one who stands by says changes nothing: chance is for what does.
            if !matches!(sent, Sent::StandsBy(_)) && self.crashes_now(1_500) {
                self.host_crash(host);
            }
            if self.hosts[host].life != life {
                return Ok(());
            }
            self.host_sends(host, sent)?;
        }
        self.read_commands(host);
        let next_ms = self.hosts[host].process.next_ms(now).max(now.mono_ms + 1);
        self.hosts[host].wake += 1;
        let wake = self.hosts[host].wake;
        self.plan_in(next_ms.saturating_sub(now.mono_ms), What::Wake { host, wake });
        Ok(())
    }

    fn host_sends(&mut self, host: usize, sent: Sent) -> Result<(), Failure> {
        let life = self.hosts[host].life;
        match sent {
            Sent::Append(request) => {
                self.judge_release(host, &request);
                self.append(&request, &format!("host/{host}/{life}"));
            }
            Sent::Beat(beat) => {
                if let Some(mark) = beat.mark.as_ref().filter(|_| self.protections.bent.is_none()) {
                    self.checks.mark(&beat.instance, mark)?;
                }
                for log in 0..self.logs.len() {
                    let life = self.logs[log].life;
                    if let Some(wait) = self.travel() {
                        let input = sequencer::Input::Known(beat.place);
                        self.plan_in(wait, What::LogInput { log, life, input });
                        if let Some(said) = Said::leading(beat.clone()) {
                            let input = sequencer::Input::Marked(said);
                            self.plan_in(wait, What::LogInput { log, life, input });
                        }
                    }
                }
                let writer = self.hosts[host].process.writer();
                for other in 0..self.hosts.len() {
                    if other == host || self.hosts[other].process.writer() != writer {
                        continue;
                    }
                    let life = self.hosts[other].life;
                    if let Some(wait) = self.travel() {
                        let mail = Mail::Beat(beat.clone());
                        self.plan_in(wait, What::Mail { host: other, life, mail });
                    }
                }
            }
            Sent::StandsBy(report) => self.stands_by(report)?,
            Sent::Fetch { from } => {
                self.count("entries were fetched from the log");
                self.hosts[host].next = from;
                self.hosts[host].log_first = true;
                self.plan_read(host, 5);
            }
            Sent::Rebuild { why } => {
                let name = self.hosts[host].process.name();
                return failure("history-stays", format!("{name} must rebuild: {why}"));
            }
            Sent::Complain(what) if what.contains("was refused (") => {
                return failure("requests-are-right", what);
            }
            Sent::Complain(what) => self.say(|| what),
            Sent::Write(write) => self.write_document(write)?,
        }
        Ok(())
    }

    /// Somebody who stands by says what his state is.
    pub(crate) fn stands_by(&mut self, report: StandbyReport) -> Result<(), Failure> {
        if self.protections.bent.is_none() {
            self.checks.mark(&report.instance, &report.mark)?;
        }
        self.count("a state of one who stands by was told");
        self.tell_logs(&Said::standing_by(report));
        Ok(())
    }

    /// Every event-log hears what somebody says of their state.
    pub(crate) fn tell_logs(&mut self, said: &Said) {
        for log in 0..self.logs.len() {
            let (life, input) = (self.logs[log].life, sequencer::Input::Marked(said.clone()));
            self.plan_in(1, What::LogInput { log, life, input });
        }
    }

    /// A request leaves for the append stream.
    pub(crate) fn append(&mut self, request: &Request, inbox: &str) {
        let bytes = serde_json::to_vec(request).expect("a request has string keys only");
        for wait in self.arrivals() {
            let (inbox, bytes) = (inbox.to_owned(), bytes.clone());
            let subject = subject::append(&request.writer);
            self.plan_in(wait, What::Append { subject, inbox, bytes });
        }
    }

    fn write_document(&mut self, mut write: Write) -> Result<(), Failure> {
        self.checks.document(&write.document)?;
        if !self.protections.images {
            self.ask_anew(&mut write.document);
        }
        let specs_only = self.stormy && self.dice.once_in(40);
        if let Some(wait) = self.travel() {
            self.plan_in(wait, What::Document { write: Box::new(write), specs_only });
        }
        Ok(())
    }

    /// Has what went back run what its image is called now.
    fn ask_anew(&self, document: &mut NodeDocument) {
        let tag = self.nodes[0].engine.tag;
        for assignment in document.replicas.values_mut() {
            let went_back = self.checks.model.apps.get(&assignment.app).is_some_and(|a| a.way.back);
            let name = assignment.image.as_deref().and_then(|image| image.split('@').next());
            if let Some(name) = name.filter(|_| went_back) {
                assignment.image = Some(format!("{name}@sha256:{tag:064}"));
            }
        }
    }

    pub(crate) fn document_arrives(&mut self, write: Write, specs_only: bool) {
        let (name, place, many) =
            (write.document.node.clone(), write.document.place, write.document.replicas.len());
        let written = self.documents.write(write, specs_only);
        let is_new = written.is_some();
        self.say(|| format!("document of {name} at {place}: {many} replicas; written: {is_new}"));
        let Some(document) = written else { return };
        let NodeDocument { node: name, .. } = &document;
        let Some(node) = self.nodes.iter().position(|node| node.name == *name) else { return };
        let life = self.nodes[node].life;
        if let Some(wait) = self.travel() {
            let input = agent::Input::Document(document);
            self.plan_in(wait, What::NodeMail { node, life, input });
        }
    }

    fn plan_read(&mut self, host: usize, ms: u64) {
        if !self.hosts[host].reading {
            self.hosts[host].reading = true;
            let life = self.hosts[host].life;
            self.plan_soon(ms, What::Read { host, life });
        }
    }

    /// Reads events from the stream, and from the log what the stream has let go of.
    pub(crate) fn read_events(&mut self, host: usize, life: u64) -> Result<(), Failure> {
        if self.hosts[host].life != life || !self.hosts[host].runs() {
            return Ok(());
        }
        self.hosts[host].reading = false;
        if self.hosts[host].log_first {
            return self.read_page(host);
        }
        let facts = self.events.facts();
        let next = self.hosts[host].next;
        if next > facts.last + 1 {
            self.plan_read(host, RETRY_MS);
            return Ok(());
        }
        if next < facts.first {
            self.hosts[host].log_first = true;
            self.plan_read(host, 5);
            return Ok(());
        }
        let (from, to) = self.range(next, facts.first, facts.last);
        let read = self.events.read(from, to, usize::MAX);
        let mut mail: Vec<Mail> =
            read.into_iter().map(|message| Mail::Entry(message.bytes.to_vec())).collect();
        if self.stormy && mail.len() > 1 && self.dice.once_in(50) {
            // Not the last: that an entry is missing shows in the next one.
            self.count("an entry was skipped");
            let skipped = self.dice.below(mail.len() - 1);
            mail.remove(skipped);
        }
        self.hosts[host].next = to + 1;
        if to == facts.last {
            mail.push(Mail::CaughtUp);
        } else {
            self.plan_read(host, 20);
        }
        self.give(host, mail)?;
        match self.protections.bent {
            None => self.checks.state(&self.hosts[host]),
            Some(_) => Ok(()),
        }
    }

    /// What is read at once. In a storm: a part, or again from an earlier one after a reconnection.
    fn range(&mut self, next: u64, first: u64, last: u64) -> (u64, u64) {
        let to = last.min(next + AT_ONCE);
        if !self.stormy {
            return (next, to);
        }
        let again = self.dice.once_in(20);
        let back = if again { self.dice.within(1, 10) } else { 0 };
        let to = if to >= next && self.dice.once_in(4) { self.dice.within(next, to) } else { to };
        (next.saturating_sub(back).max(first), to)
    }

    fn read_page(&mut self, host: usize) -> Result<(), Failure> {
        let next = self.hosts[host].next;
        let limit = Some(self.dice.within(1, AT_ONCE));
        let request = LogRequest { from: next, limit, ..LogRequest::default() };
        let page = self.shown().and_then(|shown| shown.page(&request).ok());
        let events = page.map(|page| page.events).unwrap_or_default();
        if events.is_empty() {
            self.plan_read(host, RETRY_MS);
            return Ok(());
        }
        self.hosts[host].next += u64::try_from(events.len()).expect("a page is small");
        self.hosts[host].log_first = false;
        self.plan_read(host, 5);
        let logged = events.into_iter().map(|event| Mail::Logged(event.get().as_bytes().to_vec()));
        self.give(host, logged.collect())
    }

    pub(crate) fn command_arrives(&mut self, message: CommandMessage) {
        self.commands.add(message);
        for host in 0..self.hosts.len() {
            if self.hosts[host].runs() {
                self.read_commands(host);
            }
        }
    }

    /// Commands are read once history is known, after the last that has a receipt.
    fn read_commands(&mut self, host: usize) {
        let role = self.hosts[host].process.role();
        if role.is_none_or(|role| role == Role::CatchingUp) {
            return;
        }
        let from = match (self.hosts[host].commands, self.hosts[host].process.fold()) {
            (Some(from), _) => from,
            (None, Some(fold)) => fold.state().cluster.commands_read + 1,
            (None, None) => return,
        };
        if self.hosts[host].commands.is_none() {
            self.hear_gateways(host);
        }
        let commands = self.commands.from(from).to_vec();
        self.hosts[host].commands = Some(self.commands.next().max(from));
        let life = self.hosts[host].life;
        for command in commands {
            let soon = self.now_ms + self.dice.within(1, 5);
            let at = self.hosts[host].commands_ms.max(soon);
            self.hosts[host].commands_ms = at;
            self.agenda.plan(at, What::Mail { host, life, mail: Mail::Command(command) });
        }
    }
}
