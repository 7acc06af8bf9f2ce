//! Several instances on one stream: each crashes, is paused, loses its connection and its
//! acknowledgements, at any point. What was published stays, once, whole and in order; and when that
//! stops, one leads, the others follow, and all logs are equal.
//!
//! Controls take away the server's second check, and the confirmation of refusals: both are noticed.

use std::collections::{BTreeMap, VecDeque};

use schemas::append::{Answer, Code, Request, Verdict};
use schemas::event::{Event, LeadershipTaken};
use schemas::id::{Series, Writer};
use schemas::place::{Basis, Place};
use schemas::subject::{self, SEQUENCER_TAKEN};

use super::storm::{Dice, described};
use super::world::{Bound, WINDOW, agent, draft, note};
use crate::entry;
use crate::sequencer::{
    Asked, Input, Message, Outcome, Output, Seat, Sequencer, Setup, Stop, Streamed, Window,
};
use crate::store::fake::FakeStore;
use crate::store::{Row, Store, rows};
use crate::testing::{FakeStream, audit};
use crate::witness::Heads;

const ROUNDS: usize = 20_000;
const FAULT_EVERY: usize = 400;

/// What protects the history. A test of the tests takes one away.
#[derive(Clone, Copy)]
struct Protections {
    fence: bool,
    confirmation: bool,
}

const ALL: Protections = Protections { fence: true, confirmation: true };

/// An instance: its disk, and its process while it runs.
struct Instance {
    store: FakeStore,
    witnessed: Option<Heads>,
    process: Option<Sequencer<FakeStore, Bound>>,
    begins: bool,
    accepts_loss: bool,
    paused: bool,
    /// What waits for the process.
    arrived: VecDeque<Input>,
    todo: VecDeque<Output>,
    /// What it sent and the server has not got.
    network: VecDeque<Message>,
    following: Option<u64>,
    listening: bool,
    read: u64,
    starts: u64,
}

impl Instance {
    fn new(begins: bool) -> Self {
        Self {
            store: FakeStore::new(),
            witnessed: None,
            process: None,
            begins,
            accepts_loss: false,
            paused: false,
            arrived: VecDeque::new(),
            todo: VecDeque::new(),
            network: VecDeque::new(),
            following: None,
            listening: false,
            read: 0,
            starts: 0,
        }
    }

    fn leads(&self) -> bool {
        self.process.as_ref().is_some_and(Sequencer::leads)
    }

    fn rules(&self) -> bool {
        self.process.as_ref().is_some_and(Sequencer::rules)
    }

    fn follows(&self) -> bool {
        self.process.as_ref().is_some_and(Sequencer::follows)
    }
}

/// A service that decides, or an agent: one batch in flight, offered until it is answered.
struct Client {
    writer: Writer,
    life: u64,
    term: u64,
    series: u64,
    n: u64,
    basis: Basis,
    flight: Option<Request>,
}

struct Storm {
    dice: Dice,
    protections: Protections,
    instances: Vec<Instance>,
    stream: FakeStream,
    window: Window,
    clients: Vec<Client>,
    appends: VecDeque<Asked>,
    asked: u64,
    /// What processes that are gone had sent.
    late: VecDeque<Message>,
    /// What was ever published, by whomever.
    seen: BTreeMap<u64, Row>,
    end: Basis,
    terms: BTreeMap<Writer, u64>,
    offered: BTreeMap<(Series, u64), Request>,
    answered: BTreeMap<(Series, u64), Place>,
    faults: bool,
    now_ms: u64,
    takes_over: u64,
    orphans: u64,
    bridged: u64,
}

impl Storm {
    fn new(seed: u64, count: usize, protections: Protections) -> Self {
        let client = |writer| Client {
            writer,
            life: 0,
            term: 0,
            series: 0,
            n: 0,
            basis: Basis::default(),
            flight: None,
        };
        let window = Window { messages: 40, ..WINDOW };
        let mut storm = Self {
            dice: Dice(seed),
            protections,
            instances: (0..count).map(|i| Instance::new(i == 0)).collect(),
            stream: FakeStream { keeps: 40, ..FakeStream::default() },
            window,
            clients: vec![client(Writer::Controller), client(agent("n1")), client(agent("n2"))],
            appends: VecDeque::new(),
            asked: 0,
            late: VecDeque::new(),
            seen: BTreeMap::new(),
            end: Basis::default(),
            terms: BTreeMap::new(),
            offered: BTreeMap::new(),
            answered: BTreeMap::new(),
            faults: true,
            now_ms: 1_000,
            takes_over: 0,
            orphans: 0,
            bridged: 0,
        };
        (0..count).for_each(|i| storm.start(i));
        storm
    }

    fn start(&mut self, i: usize) {
        let (window, one) = (self.window, &mut self.instances[i]);
        one.starts += 1;
        let setup = Setup {
            instance: format!("log-{i}"),
            genesis: format!("history-{i}-{}", one.starts),
            witnessed: one.witnessed.clone(),
            seat: Seat::OneOf { begins: one.begins },
            accepts_loss: one.accepts_loss,
            window,
        };
        let process = Sequencer::new(one.store.clone(), Bound::default(), setup);
        one.process = Some(process.expect("the store is readable"));
        one.arrived.push_back(Input::Connected);
    }

    /// Power is cut, or the process killed: what it had not done is not done, what it had sent may
    /// still arrive.
    fn crash(&mut self, i: usize) {
        let one = &mut self.instances[i];
        let arrive = self.dice.below(one.network.len() + 1);
        one.network.truncate(arrive);
        self.late.append(&mut one.network);
        one.process = None;
        one.paused = false;
        one.listening = false;
        one.following = None;
        one.read = 0;
        one.arrived.clear();
        one.todo.clear();
        one.store.crash(0);
    }

    fn round(&mut self) {
        let i = self.dice.below(self.instances.len());
        if self.faults && self.dice.once_in(FAULT_EVERY) {
            self.fault(i);
            return;
        }
        if self.instances[i].process.is_none() {
            if !self.faults || self.dice.once_in(200) {
                self.start(i);
            }
            return;
        }
        if self.instances[i].paused {
            if self.dice.once_in(200) {
                self.instances[i].paused = false;
            }
            return self.deliver(i);
        }
        match self.dice.below(12) {
            0 | 1 => self.offer(),
            2 | 3 => self.listen(i),
            4..7 => (0..self.dice.below(16)).for_each(|_| self.step(i)),
            7 | 8 => self.deliver(i),
            9 => self.read_stream(i),
            10 => self.instances[i].arrived.push_back(Input::Tick),
            _ => self.arrive(i),
        }
    }

    fn fault(&mut self, i: usize) {
        match self.dice.below(7) {
            0 => self.crash(i),
            1 | 2 => self.instances[i].paused = self.instances[i].process.is_some(),
            3 => self.reconnect(i),
            4 => self.lose_tail(),
            5 => self.restart_client(),
            _ => self.instances[i].store.fail_next(),
        }
    }

    fn on(&mut self, i: usize, input: Input) {
        self.now_ms += 1;
        let now_ms = self.now_ms;
        let one = &mut self.instances[i];
        if let Some(process) = &mut one.process {
            one.todo.extend(process.on(input, now_ms));
        }
    }

    fn arrive(&mut self, i: usize) {
        if let Some(input) = self.instances[i].arrived.pop_front() {
            self.on(i, input);
        }
    }

    /// Does the next thing that an instance wants done.
    fn step(&mut self, i: usize) {
        let Some(output) = self.instances[i].todo.pop_front() else { return self.arrive(i) };
        let input = match output {
            Output::Inspect => Input::Stream(self.stream.facts()),
            Output::Read { from, to } => Input::Messages(self.stream.read(from, to, 7)),
            Output::Seat { next } => {
                self.stream.seat(next);
                Input::Seated
            }
            Output::Fetch { from, to } => self.page(from, to),
            Output::Follow(from) => {
                self.instances[i].following = from;
                return;
            }
            Output::Publish(message) => return self.instances[i].network.push_back(message),
            Output::Beat(beat) => {
                for other in (0..self.instances.len()).filter(|other| *other != i) {
                    let one = &mut self.instances[other];
                    if one.process.is_some() && !one.paused && !self.dice.once_in(10) {
                        one.arrived.push_back(Input::Beat(beat.clone()));
                    }
                }
                return;
            }
            Output::Probe => {
                if self.instances.iter().any(Instance::rules) {
                    return;
                }
                Input::Nobody
            }
            Output::Confirm { ticket } if self.protections.confirmation => {
                Input::Confirmed { ticket, last: self.stream.last_taken() }
            }
            Output::Confirm { ticket } => {
                let process = self.instances[i].process.as_ref();
                let last = process.and_then(Sequencer::fence);
                Input::Confirmed { ticket, last }
            }
            Output::Listen(listening) => {
                let one = &mut self.instances[i];
                (one.listening, one.read) = (listening, 0);
                self.takes_over += u64::from(listening);
                return;
            }
            Output::Purge { up_to } => {
                return self.appends.retain(|asked| asked.sequence > up_to);
            }
            Output::Answer { answer, .. } => return self.answer(&answer),
            Output::Published(place) => return self.see(i, place),
            Output::Witness(heads) => {
                self.instances[i].witnessed = Some(heads);
                return;
            }
            Output::Notice(_) => return,
            Output::Stop(Stop::Store(_)) => return self.crash(i),
            Output::Stop(Stop::Refusal(refusal)) => panic!("instance {i}: {refusal}"),
        };
        self.on(i, input);
    }

    /// Entries from whoever answers reads.
    fn page(&mut self, from: u64, to: u64) -> Input {
        let leader = self.instances.iter().find(|one| one.rules() && !one.paused);
        let Some(leader) = leader else { return Input::Failed("nobody answers".to_owned()) };
        let published = leader.process.as_ref().map_or(0, |process| process.published().position);
        let found = rows(&leader.store, from, to.min(published)).expect("readable");
        self.bridged += 1;
        let streamed = |row: Row| {
            let sequence = row.position();
            Streamed { sequence, subject: row.subject, bytes: row.bytes }
        };
        Input::Messages(found.into_iter().take(5).map(streamed).collect())
    }

    /// What the stream brings to a follower.
    fn read_stream(&mut self, i: usize) {
        let one = &mut self.instances[i];
        let Some(from) = one.following else { return };
        let facts = self.stream.facts();
        if from > facts.last + 1 || from < facts.first {
            one.following = None;
            one.arrived.push_back(Input::Strayed("what comes next is not there".to_owned()));
            return;
        }
        let messages = self.stream.read(from, u64::MAX, 1 + self.dice.below(5));
        if let Some(last) = messages.last() {
            one.following = Some(last.sequence + 1);
            one.arrived.push_back(Input::Followed(messages));
        }
    }

    fn deliver(&mut self, i: usize) {
        if !self.late.is_empty() && self.dice.once_in(2) {
            let message = self.late.pop_front().expect("there is one");
            self.serve(&message);
            return;
        }
        let Some(message) = self.instances[i].network.pop_front() else { return };
        let outcome = self.serve(&message);
        let position = message.place.position;
        self.instances[i].arrived.push_back(Input::Outcomes(vec![(position, outcome)]));
    }

    /// What the server does. A leader that another has followed must get nothing in any more.
    fn serve(&mut self, message: &Message) -> Outcome {
        let mut message = message.clone();
        let led = message.fence.is_some();
        if !self.protections.fence {
            message.fence = None;
        }
        let taken = self.stream.messages.iter().rev().find(|m| m.subject == SEQUENCER_TAKEN);
        let taken = taken.and_then(|taken| entry::decode(&taken.bytes).ok());
        let epoch = taken.map_or(0, |(header, _)| header.epoch);
        let outcome = self.stream.publish(&message);
        if led && matches!(outcome, Outcome::Stored(_)) && message.place.epoch < epoch {
            panic!("late: {} was taken under epoch {epoch}", message.place);
        }
        outcome
    }

    fn reconnect(&mut self, i: usize) {
        if self.instances[i].process.is_none() || self.instances[i].paused {
            return;
        }
        let arrive = self.dice.below(self.instances[i].network.len() + 1);
        let mut unknown = Vec::new();
        for (k, message) in std::mem::take(&mut self.instances[i].network).into_iter().enumerate() {
            if k < arrive {
                self.serve(&message);
            }
            unknown.push((message.place.position, Outcome::Unknown("timeout".to_owned())));
        }
        let one = &mut self.instances[i];
        for input in &mut one.arrived {
            if let Input::Outcomes(outcomes) = input {
                let lost = std::mem::take(outcomes).into_iter();
                unknown.extend(lost.map(|(at, _)| (at, Outcome::Unknown("timeout".to_owned()))));
            }
        }
        one.arrived.push_back(Input::Outcomes(unknown));
        one.arrived.push_back(Input::Connected);
    }

    /// The server loses its end, of which every instance has everything.
    fn lose_tail(&mut self) {
        let seen = self.seen.last_key_value().map_or(0, |(at, _)| *at);
        let Some(last) = self.stream.messages.back() else { return };
        let has = |one: &Instance| {
            let row = one.store.row(last.sequence).expect("readable");
            row.is_some_and(|row| row.bytes == last.bytes)
        };
        if last.sequence < seen || !self.instances.iter().all(has) {
            return;
        }
        self.late.clear();
        let lost = self.dice.below(5) as u64;
        for i in 0..self.instances.len() {
            self.instances[i].paused = false;
            self.reconnect(i);
        }
        self.stream.lose_after(self.stream.last.saturating_sub(lost));
    }

    /// What was published once stays as it is, whoever says so.
    fn see(&mut self, i: usize, head: Place) {
        let from = self.seen.last_key_value().map_or(0, |(at, _)| *at) + 1;
        for row in rows(&self.instances[i].store, from, head.position).expect("readable") {
            if row.ends {
                self.end = row.place.basis();
            }
            if let Ok((_, Some(Event::LeadershipTaken(taken)))) = entry::decode(&row.bytes) {
                self.terms.insert(taken.writer, taken.term);
            }
            self.seen.insert(row.position(), row);
        }
        let seen = self.seen.get(&head.position).map(|row| row.place);
        assert_eq!(seen, Some(head), "instance {i} says that another history was published");
    }

    fn answer(&mut self, answer: &Answer) {
        let key = (answer.series.clone(), answer.n);
        match &answer.verdict {
            Verdict::Published(place) => {
                let before = self.answered.insert(key, *place);
                assert!(before.is_none_or(|before| before == *place), "answered twice: {answer:?}");
            }
            Verdict::Refused { code: Code::Gap, .. } => panic!("refused wrongly: {answer:?}"),
            _ => {}
        }
        let end = self.end;
        for client in &mut self.clients {
            let Some(request) = &client.flight else { continue };
            if (&request.series, request.n) != (&answer.series, answer.n) {
                continue;
            }
            match &answer.verdict {
                Verdict::Published(place) | Verdict::Duplicate { place, .. } => {
                    if request.events[0].kind == "LeadershipTaken" {
                        client.term = request.term;
                    }
                    client.basis = place.basis();
                    client.flight = None;
                }
                Verdict::Refused { code, .. } => {
                    if *code == Code::StaleTerm {
                        client.term = 0;
                    }
                    client.basis = end;
                    client.series += 1;
                    client.n = 0;
                    client.flight = None;
                }
            }
        }
    }

    /// A client offers what it has in flight, or something new.
    fn offer(&mut self) {
        let c = self.dice.below(self.clients.len());
        if self.clients[c].flight.is_none() {
            let request = self.request(c);
            self.clients[c].flight = Some(request);
        }
        let request = self.clients[c].flight.clone().expect("it has one");
        let key = (request.series.clone(), request.n);
        self.offered.entry(key).or_insert_with(|| request.clone());
        self.asked += 1;
        self.appends.push_back(Asked {
            sequence: self.asked,
            subject: subject::append(&request.writer),
            inbox: Some(format!("inbox-{}", self.asked)),
            bytes: serde_json::to_vec(&request).expect("string keys").into(),
        });
    }

    fn request(&mut self, c: usize) -> Request {
        let of = 1 + self.dice.below(4);
        let claims = self.clients[c].term == 0 || self.dice.once_in(40);
        let client = &mut self.clients[c];
        let writer = client.writer.clone();
        let instance = match writer {
            Writer::Controller => client.life.to_string(),
            _ => "a".to_owned(),
        };
        if claims {
            client.series += 1;
            client.n = 0;
        }
        client.n += 1;
        let series = Series::derive(&format!("{writer}/{}", client.life), client.series);
        let (term, events) = if claims {
            let term = self.terms.get(&writer).copied().unwrap_or(0) + 1;
            let (writer, instance) = (writer.clone(), instance.clone());
            (term, vec![draft(LeadershipTaken { writer, term, instance })])
        } else {
            let text = |i| format!("{series}/{}/{i}", client.n);
            let event = |i| match &writer {
                Writer::Agent(node) => described(node, &text(i)),
                _ => note(&text(i)),
            };
            (client.term, (0..of).map(event).collect())
        };
        let basis = (writer == Writer::Controller).then(|| client.basis.max(self.end));
        let (n, absent) = (client.n, Vec::new());
        Request { writer, term, instance, series, n, basis, absent, events }
    }

    /// A client loses its memory: what it had in flight is never repeated by it.
    fn restart_client(&mut self) {
        let c = self.dice.below(self.clients.len());
        let client = &mut self.clients[c];
        (client.life, client.series, client.n, client.term) = (client.life + 1, 0, 0, 0);
        client.basis = Basis::default();
        client.flight = None;
    }

    /// Hands append requests to an instance that listens, as a group.
    fn listen(&mut self, i: usize) {
        let many = 1 + self.dice.below(6);
        let one = &mut self.instances[i];
        if !one.listening {
            return;
        }
        let unread = self.appends.iter().filter(|asked| asked.sequence > one.read);
        let group: Vec<Asked> = unread.take(many).cloned().collect();
        let Some(last) = group.last() else { return };
        one.read = last.sequence;
        one.arrived.push_back(Input::Requests(group));
    }

    /// What was published behind this place is given up; nobody remembers it.
    fn forget_after(&mut self, end: Place) {
        self.seen.split_off(&(end.position + 1));
        self.answered.retain(|_, place| place.position <= end.position);
        self.end = Basis::default();
        self.terms.clear();
        for row in self.seen.values() {
            if row.ends {
                self.end = row.place.basis();
            }
            if let Ok((_, Some(Event::LeadershipTaken(taken)))) = entry::decode(&row.bytes) {
                self.terms.insert(taken.writer, taken.term);
            }
        }
        for client in &mut self.clients {
            (client.life, client.series, client.n, client.term) = (client.life + 1, 0, 0, 0);
            (client.basis, client.flight) = (Basis::default(), None);
        }
        self.appends.clear();
    }

    /// Only this instance runs, and clients want what they want, for a while.
    fn alone(&mut self, i: usize, times: usize) {
        for _ in 0..times {
            self.offer();
            self.listen(i);
            (0..8).for_each(|_| self.step(i));
            self.deliver(i);
            self.read_stream(i);
            self.instances[i].arrived.push_back(Input::Tick);
        }
        while self.instances[i].process.is_some() && !self.instances[i].arrived.is_empty() {
            self.step(i);
        }
    }

    /// No more faults: one leads, the others follow, and all that was promised is there.
    fn calm(&mut self) {
        self.faults = false;
        self.instances.iter_mut().for_each(|one| one.paused = false);
        for _ in 0..8_000 {
            self.round();
        }
        // Nothing new any more: what is under way comes to its end.
        for _ in 0..2_000 {
            for i in 0..self.instances.len() {
                self.deliver(i);
                self.read_stream(i);
                (0..8).for_each(|_| self.step(i));
                if self.dice.once_in(8) {
                    self.instances[i].arrived.push_back(Input::Tick);
                }
            }
        }
        let leaders = self.instances.iter().filter(|one| one.leads()).count();
        let followers = self.instances.iter().filter(|one| one.follows()).count();
        let doing = self.instances.iter().flat_map(|one| &one.process).map(Sequencer::doing);
        let told = format!("{:?} {:?}", self.stream.facts(), doing.collect::<Vec<_>>());
        assert_eq!((leaders, followers), (1, self.instances.len() - 1), "{told}");
        let seen: Vec<&Row> = self.seen.values().collect();
        for one in &self.instances {
            audit(&one.store).expect("the log is whole");
            let log = rows(&one.store, 1, u64::MAX).expect("readable");
            assert!(log.iter().eq(seen.iter().copied()), "a log is not what was published");
            let process = one.process.as_ref().expect("it runs");
            assert_eq!(process.published(), process.stored());
            self.orphans += one.store.orphans().len() as u64;
        }
        let [first, rest @ ..] = &self.instances[..] else { panic!("there are some") };
        assert!(rest.iter().all(|one| one.store.indexes() == first.store.indexes()));
        self.check_answers();
    }

    /// Every answered batch is there exactly once, whole, with what was offered, where it was said.
    fn check_answers(&self) {
        let mut batches: BTreeMap<(Series, u64), (Place, Vec<String>)> = BTreeMap::new();
        let mut fold = cluster::Fold::new();
        for row in self.seen.values() {
            let Some(applied) = fold.push(&row.bytes).expect("the chain holds") else { continue };
            let Some(first) = applied.events.first() else { continue };
            let key = (first.header.batch.series.clone(), first.header.batch.n);
            let data = applied.events.iter().map(|e| e.event.data()).collect();
            let before = batches.insert(key, (row.place, data));
            assert!(before.is_none(), "a batch is there twice");
        }
        for (key, place) in &self.answered {
            let (at, data) = batches.get(key).expect("an answered batch is there");
            assert_eq!(at, place);
            let offered: Vec<&str> =
                self.offered[key].events.iter().map(|e| e.data.get()).collect();
            assert_eq!(data, &offered);
        }
    }
}

fn storm(seed: u64, protections: Protections) -> Storm {
    let mut storm = Storm::new(seed, 2 + usize::from(seed.is_multiple_of(3)), protections);
    for _ in 0..ROUNDS {
        storm.round();
    }
    storm.calm();
    storm
}

#[test]
fn several_instances_keep_one_history_in_any_weather() {
    let (mut answered, mut takes, mut orphans, mut bridged) = (0, 0, 0, 0);
    for seed in 0..20 {
        let storm = std::panic::catch_unwind(|| storm(seed, ALL));
        let storm = storm.unwrap_or_else(|_| panic!("seed {seed}"));
        answered += storm.answered.len();
        takes += storm.takes_over;
        orphans += storm.orphans;
        bridged += storm.bridged;
    }
    // A storm in which nothing happens shows nothing.
    println!("{answered} answered, {takes} takes, {orphans} orphans, {bridged} pages fetched");
    assert!(answered > 1_000 && takes > 100, "{answered} answered, {takes} takes");
    assert!(orphans > 0 && bridged > 0, "{orphans} orphans, {bridged} pages fetched");
}

#[track_caller]
fn is_noticed(protections: Protections, says: &str) {
    let failed =
        (0..20).find_map(|seed| std::panic::catch_unwind(|| storm(seed, protections)).err());
    let failed = failed.expect("one of these must fail");
    let text = failed.downcast_ref::<String>().map_or("", String::as_str);
    assert!(text.contains(says), "{text}");
}

#[test]
fn without_the_second_check_a_late_write_is_noticed() {
    is_noticed(Protections { fence: false, ..ALL }, "late: ");
}

#[test]
fn without_confirmation_a_wrong_refusal_is_noticed() {
    is_noticed(Protections { confirmation: false, ..ALL }, "refused wrongly");
}

#[test]
fn what_an_operator_gave_up_goes_from_the_log_that_had_it() {
    let mut storm = Storm::new(1, 2, ALL);
    storm.crash(1);
    storm.alone(0, 60);
    storm.start(1);
    storm.alone(1, 20);
    let end = storm.instances[1].store.head().expect("readable");
    assert!(storm.instances[1].follows() && end.position > 10, "{end}");
    storm.crash(1);
    storm.alone(0, 60);
    storm.crash(0);
    storm.late.clear();
    // The server and the other instance have not what the first one had published.
    storm.stream.lose_after(end.position);
    let lost = storm.seen.last_key_value().map(|(_, row)| row.place).expect("it was seen");
    assert!(lost.position > end.position, "{lost}");
    storm.start(1);
    storm.instances[1].arrived.push_back(Input::Known(lost));
    storm.alone(1, 60);
    let waits = storm.instances[1].process.as_ref().and_then(|process| process.waits_for());
    let waits = waits.expect("it never takes below what was published").to_string();
    assert!(waits.contains("take --accept-loss"), "{waits}");

    storm.crash(1);
    storm.instances[1].accepts_loss = true;
    storm.start(1);
    storm.instances[1].arrived.push_back(Input::Known(lost));
    storm.forget_after(end);
    storm.alone(1, 40);
    assert!(storm.instances[1].leads());
    let taken = storm.seen.get(&(end.position + 1)).expect("it was published");
    match entry::decode(&taken.bytes) {
        Ok((_, Some(Event::SequencerTaken(taken)))) => assert_eq!(taken.accept_loss, Some(end)),
        other => panic!("{other:?}"),
    }

    storm.start(0);
    storm.calm();
    assert!(storm.orphans >= lost.position - end.position, "{} orphans", storm.orphans);
}
