//! A sequencer wired to a fake store and a fake stream.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use schemas::append::{Answer, Code, Draft, Request, Verdict};
use schemas::event::{Event, LeadershipTaken, NoteAdded};
use schemas::id::{NodeName, ReplicaId, Series, Tenant, Writer};
use schemas::place::{Basis, Place};
use schemas::report::Mark;
use schemas::subject;
use serde_json::value::RawValue;

use crate::disk::store_group;
use crate::sequencer::flight::Message;
use crate::sequencer::{
    Asked, Bindings, Input, Outcome, Output, Seat, Sequencer, Setup, Stop, Window,
};
use crate::store::fake::FakeStore;
use crate::store::{Commit, Store};
use crate::testing::{FakeStream, audit};
use crate::witness::Heads;

/// Which replica is on which node.
#[derive(Clone, Debug, Default)]
pub(super) struct Bound {
    pub(super) nodes: BTreeMap<ReplicaId, NodeName>,
    /// Whether the intake is closed, by what is published.
    pub(super) closed: Rc<Cell<bool>>,
    /// The mark of the state that is published.
    pub(super) mark: Rc<RefCell<Option<Mark>>>,
}

impl Bindings for Bound {
    fn node_of(&self, replica: &ReplicaId) -> Option<NodeName> {
        self.nodes.get(replica).cloned()
    }

    fn intake_closed(&self) -> bool {
        self.closed.get()
    }

    fn mark_at(&self, place: Place) -> Option<Mark> {
        self.mark.borrow().clone().filter(|mark| mark.place == place)
    }

    fn newest_mark(&self) -> Option<Mark> {
        self.mark.borrow().clone()
    }
}

/// A sequencer with everything around it. Nothing moves but by [`World::settle`] or the storm.
pub(super) struct World {
    pub(super) store: FakeStore,
    pub(super) stream: Rc<RefCell<FakeStream>>,
    pub(super) sequencer: Sequencer<FakeStore, Bound>,
    pub(super) bound: Bound,
    pub(super) witnessed: Option<Heads>,
    /// Publishes on their way to the server. They outlive the process that sent them.
    pub(super) network: VecDeque<Message>,
    /// Everything else that is to be done.
    pub(super) todo: VecDeque<Output>,
    pub(super) answers: Vec<(String, Answer)>,
    pub(super) notices: Vec<String>,
    pub(super) stopped: Option<Stop>,
    pub(super) listening: bool,
    pub(super) window: Window,
    pub(super) now_ms: u64,
    /// What was ever published, to notice when it changes.
    pub(super) seen: BTreeMap<u64, Place>,
    asked: u64,
    starts: u64,
    commits: u64,
}

pub(super) const WINDOW: Window =
    Window { messages: 1_000, bytes: 64 * 1024 * 1024, message_bytes: 1024 * 1024 };

impl World {
    pub(super) fn new() -> Self {
        Self::on(FakeStore::new(), WINDOW)
    }

    pub(super) fn on(store: FakeStore, window: Window) -> Self {
        let keeps = usize::try_from(window.messages).expect("small");
        let stream = FakeStream { keeps, ..FakeStream::default() };
        let bound = Bound::default();
        let setup = Setup {
            instance: "log-0".to_owned(),
            genesis: "history-0".to_owned(),
            witnessed: None,
            seat: Seat::Only,
            accepts_loss: false,
            window,
        };
        let sequencer =
            Sequencer::new(store.clone(), bound.clone(), setup).expect("the store is readable");
        Self {
            store,
            stream: Rc::new(RefCell::new(stream)),
            sequencer,
            bound,
            witnessed: None,
            network: VecDeque::new(),
            todo: VecDeque::new(),
            answers: Vec::new(),
            notices: Vec::new(),
            stopped: None,
            listening: false,
            window,
            now_ms: 1_000,
            seen: BTreeMap::new(),
            asked: 0,
            starts: 0,
            commits: 0,
        }
    }

    /// A world that leads.
    pub(super) fn leading() -> Self {
        let mut world = Self::new();
        world.input(Input::Connected);
        world.settle();
        assert!(world.sequencer.leads(), "{:?}", world.stopped);
        world
    }

    /// The process ends, with whatever it had not done yet, and another one starts on the disk.
    pub(super) fn restart(&mut self) {
        self.starts += 1;
        self.todo.clear();
        self.listening = false;
        self.stopped = None;
        let setup = Setup {
            instance: "log-0".to_owned(),
            genesis: format!("history-{}", self.starts),
            witnessed: self.witnessed.clone(),
            seat: Seat::Only,
            accepts_loss: false,
            window: self.window,
        };
        self.sequencer = Sequencer::new(self.store.clone(), self.bound.clone(), setup)
            .expect("the store is readable");
        self.input(Input::Connected);
    }

    pub(super) fn input(&mut self, input: Input) {
        self.now_ms += 1;
        let outputs = self.sequencer.on(input, self.now_ms);
        self.todo.extend(outputs);
    }

    /// Does the next thing. False when there is none.
    pub(super) fn step(&mut self) -> bool {
        let Some(output) = self.todo.pop_front() else { return false };
        match output {
            Output::Inspect => {
                let facts = self.stream.borrow().facts();
                self.input(Input::Stream(facts));
            }
            Output::Read { from, to } => {
                let part = self.stream.borrow().read(from, to, 7);
                self.input(Input::Messages(part));
            }
            Output::Seat { next } => {
                self.stream.borrow_mut().seat(next);
                self.input(Input::Seated);
            }
            Output::Store(group) => {
                let input = self.store_group(group);
                if matches!(input, Input::NotStored(_)) {
                    self.todo.retain(|output| !matches!(output, Output::Store(_)));
                }
                self.input(input);
            }
            Output::Publish(message) => self.network.push_back(message),
            Output::Listen(listening) => self.listening = listening,
            Output::Confirm { ticket } => {
                let last = self.stream.borrow().last_taken();
                self.input(Input::Confirmed { ticket, last });
            }
            Output::Purge { .. } | Output::Beat(_) => {}
            Output::StandsBy(report) => panic!("the only instance stands by: {report:?}"),
            Output::Fetch { .. } | Output::Follow(_) | Output::Probe => {
                panic!("the only instance asks no other")
            }
            Output::Answer { inbox, answer } => self.answers.push((inbox, answer)),
            Output::Published(place) => self.see(place),
            Output::Witness(heads) => self.witnessed = Some(heads),
            Output::Notice(what) => self.notices.push(what),
            Output::Stop(stop) => self.stopped = Some(stop),
        }
        true
    }

    /// The disk takes a group; every other time with all that wait behind it.
    fn store_group(&mut self, group: Arc<Commit>) -> Input {
        self.commits += 1;
        let mut group = group;
        if self.commits.is_multiple_of(2) {
            let (waiting, rest) = std::mem::take(&mut self.todo)
                .into_iter()
                .partition::<Vec<_>, _>(|output| matches!(output, Output::Store(_)));
            self.todo = rest.into();
            for output in waiting {
                if let Output::Store(next) = output {
                    Arc::make_mut(&mut group).join(Commit::clone(&next));
                }
            }
        }
        store_group(&self.store, group)
    }

    /// Lets the server take the next publish, and acknowledges it.
    pub(super) fn deliver(&mut self) -> bool {
        let Some(message) = self.network.pop_front() else { return false };
        let position = message.place.position;
        let outcome = self.serve(&message);
        self.input(Input::Outcomes(vec![(position, outcome)]));
        true
    }

    /// What the server does, and that it is never shown what a power cut would take back.
    pub(super) fn serve(&mut self, message: &Message) -> Outcome {
        let outcome = self.stream.borrow_mut().publish(message);
        if let Outcome::Stored(at) = outcome {
            let synced = self.store.synced_row(at).is_some_and(|row| row.bytes == message.bytes);
            // What was sent before a crash may land behind something foreign, when it is not
            // history any more: then it is kept as an orphan, and voided.
            let orphan = || self.store.orphans().iter().any(|row| row.bytes == message.bytes);
            assert!(synced || orphan(), "position {at} is visible and not synced: {message:?}");
        }
        outcome
    }

    /// Until nothing is left to do.
    pub(super) fn settle(&mut self) {
        let mut rests = 0;
        while self.step() || self.deliver() || self.rest() {
            rests += 1;
            assert!(rests < 1_000_000, "it waits for something that never comes");
        }
    }

    /// Lets time pass when that is what the sequencer waits for.
    pub(super) fn rest(&mut self) -> bool {
        if self.sequencer.leads() || self.stopped.is_some() {
            return false;
        }
        self.input(Input::Tick);
        true
    }

    /// What was published once stays as it is.
    fn see(&mut self, head: Place) {
        let from = self.seen.last_key_value().map_or(0, |(at, _)| *at) + 1;
        for at in from..=head.position {
            let row = self.store.row(at).expect("readable").expect("what is published is stored");
            self.seen.insert(at, row.place);
            match crate::entry::decode(&row.bytes).expect("an entry").1 {
                Some(Event::IntakeClosed(_)) => self.bound.closed.set(true),
                Some(Event::IntakeOpened(_)) => self.bound.closed.set(false),
                _ => {}
            }
        }
        assert_eq!(self.seen.get(&head.position), Some(&head), "published is what is stored");
    }

    /// Asks, and settles.
    pub(super) fn ask(&mut self, request: &Request) -> Verdict {
        let inbox = self.send(std::slice::from_ref(request));
        self.settle();
        self.verdict(&inbox[0])
    }

    /// Asks all at once.
    pub(super) fn send(&mut self, requests: &[Request]) -> Vec<String> {
        let asked: Vec<Asked> = requests.iter().map(|request| self.asked(request)).collect();
        let inboxes = asked.iter().filter_map(|asked| asked.inbox.clone()).collect();
        self.input(Input::Requests(asked));
        inboxes
    }

    pub(super) fn asked(&mut self, request: &Request) -> Asked {
        self.asked += 1;
        Asked {
            sequence: self.asked,
            subject: subject::append(&request.writer),
            inbox: Some(format!("inbox-{}", self.asked)),
            bytes: serde_json::to_vec(request).expect("string keys").into(),
        }
    }

    pub(super) fn verdict(&self, inbox: &str) -> Verdict {
        let answer = self.answers.iter().find(|(to, _)| to == inbox);
        answer.unwrap_or_else(|| panic!("no answer on {inbox}")).1.verdict.clone()
    }

    /// The last place that a reader may have folded.
    pub(super) fn basis(&self) -> Basis {
        let mut at = self.sequencer.published().position;
        while at > 0 {
            let row = self.store.row(at).expect("readable").expect("below the head");
            if row.ends {
                return row.place.basis();
            }
            at -= 1;
        }
        Place::START.basis()
    }

    /// Claims a leadership, and settles.
    pub(super) fn claim(&mut self, writer: &Writer, instance: &str, term: u64) -> Verdict {
        let request = self.claim_request(writer, instance, term);
        self.ask(&request)
    }

    pub(super) fn claim_request(&self, writer: &Writer, instance: &str, term: u64) -> Request {
        let taken = LeadershipTaken { writer: writer.clone(), term, instance: instance.to_owned() };
        let series = Series::derive(&format!("claim/{writer}/{instance}"), term);
        let events = vec![draft(taken)];
        self.request(writer, instance, term, &series, 1, events)
    }

    pub(super) fn request(
        &self,
        writer: &Writer,
        instance: &str,
        term: u64,
        series: &Series,
        n: u64,
        events: Vec<Draft>,
    ) -> Request {
        let decides = !matches!(writer, Writer::Agent(_));
        Request {
            writer: writer.clone(),
            term,
            instance: instance.to_owned(),
            series: series.clone(),
            n,
            basis: decides.then(|| self.basis()),
            absent: Vec::new(),
            events,
        }
    }

    /// Everything that must hold of a log, whatever happened.
    pub(super) fn check(&self) {
        audit(&self.store).expect("the log is whole");
        for (at, place) in &self.seen {
            let row = self.store.row(*at).expect("readable").expect("never lost");
            assert_eq!(row.place, *place, "what was published at {at} has changed");
        }
        for message in &self.stream.borrow().messages {
            if message.sequence <= self.sequencer.published().position {
                let row = self.store.row(message.sequence).expect("readable").expect("stored");
                assert!(crate::entry::stands_for(&row.bytes, &message.bytes), "{row:?}");
            }
        }
    }
}

pub(super) fn draft(event: impl Into<Event>) -> Draft {
    let event = event.into();
    Draft {
        time_ms: 1,
        tenant: Tenant::new(event.tenant()).expect("a name"),
        actor: "test".to_owned(),
        correlation: None,
        causation: None,
        kind: event.kind().to_owned(),
        data: RawValue::from_string(event.data()).expect("JSON"),
    }
}

pub(super) fn note(text: &str) -> Draft {
    let fields = BTreeMap::new();
    draft(NoteAdded { object: "app/main/shop".to_owned(), text: text.to_owned(), fields })
}

pub(super) fn agent(node: &str) -> Writer {
    Writer::Agent(NodeName::new(node).expect("a name"))
}

#[track_caller]
pub(super) fn published(verdict: Verdict) -> Place {
    match verdict {
        Verdict::Published(place) => place,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(super) fn refused(verdict: Verdict, expected: Code, says: &str) {
    match verdict {
        Verdict::Refused { code, detail, .. } if code == expected => {
            assert!(detail.contains(says), "{detail}");
        }
        other => panic!("{other:?}"),
    }
}
