//! Random requests, repeats, lost acknowledgements, foreign messages, power cuts at any point and
//! restarts: whatever happens, the log keeps its promises.
//!
//! A seed replays exactly. The control at the end turns durability off and must be caught.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use schemas::append::{Answer, Code, Draft, Request, Verdict};
use schemas::event::{NodeDescribed, NodeDescription};
use schemas::id::{NodeName, Series, Writer};
use schemas::place::{Basis, Place};

use super::world::{WINDOW, World, agent, draft, note};
use crate::sequencer::{Asked, Input, Message, Outcome, Window};
use crate::store::Store;
use crate::store::fake::FakeStore;

/// How many rounds of one storm, and one in how many is a fault.
const ROUNDS: usize = 6_000;
const FAULT_EVERY: usize = 60;

/// Numbers that follow from a seed.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a small number")
    }

    pub(super) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// A deciding service, as the design wants it: one batch in flight, offered until it is answered.
struct Client {
    writer: Writer,
    instance: u64,
    restarts: u64,
    term: u64,
    series: u64,
    n: u64,
    basis: Basis,
    flight: Option<Request>,
}

impl Client {
    fn series(&self) -> Series {
        Series::derive(&format!("{}/{}", self.writer, self.restarts), self.series)
    }

    fn fresh(&mut self) {
        self.series += 1;
        self.n = 0;
        self.flight = None;
    }

    /// The request to offer now.
    fn offer(&mut self, world: &World, dice: &mut Dice) -> Request {
        if let Some(request) = &self.flight {
            return request.clone();
        }
        self.n += 1;
        let instance = self.instance.to_string();
        let mut request = if self.term == 0 || dice.once_in(40) {
            self.series += 1;
            self.n = 1;
            let term = world.store.writer(&self.writer).expect("readable").map_or(0, |r| r.term);
            let claim = world.claim_request(&self.writer, &instance, term + 1);
            Request { series: self.series(), ..claim }
        } else {
            let of = 1 + dice.below(4);
            let text = |i| format!("{}/{}/{i}", self.series(), self.n);
            let events = (0..of).map(|i| match &self.writer {
                Writer::Agent(node) => described(node, &text(i)),
                _ => note(&text(i)),
            });
            let events = events.collect();
            world.request(&self.writer, &instance, self.term, &self.series(), self.n, events)
        };
        if let Some(basis) = &mut request.basis {
            *basis = (*basis).max(self.basis);
        }
        self.flight = Some(request.clone());
        request
    }

    fn answered(&mut self, answer: &Answer, basis: Basis) {
        let Some(request) = &self.flight else { return };
        if (&request.series, request.n) != (&answer.series, answer.n) {
            return;
        }
        match &answer.verdict {
            Verdict::Published(place) | Verdict::Duplicate { place, .. } => {
                if request.events[0].kind == "LeadershipTaken" {
                    self.term = request.term;
                }
                self.basis = place.basis();
                self.flight = None;
            }
            Verdict::Refused { code, .. } => {
                if *code == Code::StaleTerm {
                    self.term = 0;
                }
                self.basis = basis;
                self.fresh();
            }
        }
    }
}

/// A node's agent says what it is.
pub(super) fn described(node: &NodeName, os: &str) -> Draft {
    let description = NodeDescription {
        address: "10.0.0.1".to_owned(),
        arch: "amd64".to_owned(),
        os: os.to_owned(),
        engine: "1".to_owned(),
        agent: "1".to_owned(),
        cpu_millis: 1,
        memory_bytes: 1,
        disk_bytes: 1,
        pids: 0,
        labels: BTreeMap::new(),
    };
    draft(NodeDescribed { node: node.clone(), description })
}

struct Storm {
    world: World,
    dice: Dice,
    clients: Vec<Client>,
    /// The append stream: what was asked and is not purged.
    appends: VecDeque<Asked>,
    read: u64,
    /// What every request said, and where it was answered to be.
    offered: BTreeMap<(Series, u64), Request>,
    answered: BTreeMap<(Series, u64), Place>,
    outcomes: Vec<(u64, Outcome)>,
    /// What a process that is gone had sent. Nobody waits for what becomes of it.
    late: VecDeque<Message>,
    faults: bool,
    crashes: u64,
}

impl Storm {
    fn new(seed: u64, store: FakeStore) -> Self {
        let client = |writer| Client {
            writer,
            instance: 0,
            restarts: 0,
            term: 0,
            series: 0,
            n: 0,
            basis: Basis::default(),
            flight: None,
        };
        let mut world = World::on(store, Window { messages: 60, ..WINDOW });
        world.input(Input::Connected);
        Self {
            world,
            dice: Dice(seed),
            clients: vec![client(Writer::Controller), client(agent("n1")), client(agent("n2"))],
            appends: VecDeque::new(),
            read: 0,
            offered: BTreeMap::new(),
            answered: BTreeMap::new(),
            outcomes: Vec::new(),
            late: VecDeque::new(),
            faults: true,
            crashes: 0,
        }
    }

    fn round(&mut self) {
        if self.faults && self.dice.once_in(FAULT_EVERY) {
            self.fault();
        } else {
            self.progress();
        }
        if self.world.stopped.is_some() {
            let stop = self.world.stopped.as_ref().map(ToString::to_string);
            let failed = stop.as_ref().is_some_and(|stop| stop.contains("failed to"));
            assert!(failed, "{stop:?}");
            self.crash();
        }
        self.take_answers();
    }

    fn progress(&mut self) {
        match self.dice.below(10) {
            0 | 1 => self.offer(),
            2 | 3 => self.listen(),
            4..7 => {
                for _ in 0..self.dice.below(6) {
                    self.world.step();
                }
            }
            7 | 8 => self.deliver(),
            _ if self.dice.once_in(3) => self.world.input(Input::Tick),
            _ => self.acknowledge(),
        }
    }

    fn fault(&mut self) {
        match self.dice.below(7) {
            0 => self.crash(),
            1 => self.lose_acknowledgements(),
            2 => self.by_hand(),
            3 => self.lose_tail(),
            4 => self.repeat_something(),
            5 => self.restart_client(),
            _ => self.world.store.fail_next(),
        }
    }

    fn offer(&mut self) {
        let client = self.dice.below(self.clients.len());
        let request = self.clients[client].offer(&self.world, &mut self.dice);
        let key = (request.series.clone(), request.n);
        let before = self.offered.entry(key).or_insert_with(|| request.clone());
        assert_eq!(
            serde_json::to_string(&before.events).ok(),
            serde_json::to_string(&request.events).ok(),
            "the client keeps its own rule"
        );
        let asked = self.world.asked(&request);
        self.appends.push_back(asked);
    }

    /// Hands some append requests to the machine, as a group.
    fn listen(&mut self) {
        if !self.world.listening {
            self.read = 0;
            return;
        }
        let many = 1 + self.dice.below(6);
        let unread = self.appends.iter().filter(|asked| asked.sequence > self.read);
        let group: Vec<Asked> = unread.take(many).cloned().collect();
        let Some(last) = group.last() else { return };
        self.read = last.sequence;
        self.world.input(Input::Requests(group));
        if self.dice.once_in(2) {
            self.appends.retain(|asked| asked.sequence > self.read);
        }
    }

    fn deliver(&mut self) {
        if let Some(message) = self.late.pop_front() {
            self.world.serve(&message);
            return;
        }
        let Some(message) = self.world.network.pop_front() else { return };
        let outcome = self.world.serve(&message);
        self.outcomes.push((message.place.position, outcome));
    }

    /// The connection breaks: some of what was sent arrives, of none is it known.
    fn lose_acknowledgements(&mut self) {
        let arrive = self.dice.below(self.world.network.len() + 1);
        let mut unknown = std::mem::take(&mut self.outcomes);
        for (i, message) in std::mem::take(&mut self.world.network).into_iter().enumerate() {
            if i < arrive {
                self.world.serve(&message);
            }
            unknown.push((message.place.position, Outcome::Unknown("timeout".to_owned())));
        }
        for (_, outcome) in &mut unknown {
            *outcome = Outcome::Unknown("timeout".to_owned());
        }
        self.world.input(Input::Outcomes(unknown));
        self.world.input(Input::Connected);
    }

    /// Power is cut: what the process had not done is not done, what it had sent may still arrive.
    fn crash(&mut self) {
        self.crashes += 1;
        self.outcomes.clear();
        let arrive = self.dice.below(self.world.network.len() + 1);
        self.world.network.truncate(arrive);
        let late = self.dice.once_in(2);
        for message in std::mem::take(&mut self.world.network) {
            if late {
                self.late.push_back(message);
            } else {
                self.world.serve(&message);
            }
        }
        let survive = self.dice.below(self.world.store.unsynced() + 1);
        self.world.store.crash(survive);
        self.read = 0;
        self.world.restart();
    }

    /// Somebody publishes an event by hand. While the stream lacks what was published, that would
    /// be another history, which is refused; a test of its own says so.
    fn by_hand(&mut self) {
        let seen = self.world.seen.last_key_value().map_or(0, |(at, _)| *at);
        let published = seen.max(self.world.sequencer.published().position);
        if self.world.stream.borrow().last < published || self.dice.once_in(3) {
            return;
        }
        let subjects =
            ["muster.v1.evt.main.app.shop.deployed", "muster.v1.evt.cluster.log.sequencer.taken"];
        let subject = subjects[self.dice.below(2)];
        let bytes = Bytes::from(self.dice.next().to_be_bytes().to_vec());
        self.world.stream.borrow_mut().add(subject, bytes);
    }

    /// The server restarts without its last messages.
    fn lose_tail(&mut self) {
        // What was on its way to the old server gets there before that, or is gone.
        self.lose_acknowledgements();
        self.late.clear();
        let last = self.world.stream.borrow().last;
        let lost = self.dice.below(8) as u64;
        self.world.stream.borrow_mut().lose_after(last.saturating_sub(lost));
    }

    fn repeat_something(&mut self) {
        let requests: Vec<Request> = self.offered.values().cloned().collect();
        if requests.is_empty() {
            return;
        }
        let request = requests[self.dice.below(requests.len())].clone();
        let asked = self.world.asked(&request);
        self.appends.push_back(asked);
    }

    /// A client loses its memory: what it had in flight is never repeated by it.
    fn restart_client(&mut self) {
        let client = self.dice.below(self.clients.len());
        let client = &mut self.clients[client];
        if client.writer == Writer::Controller {
            client.instance += 1;
        }
        client.restarts += 1;
        client.term = 0;
        client.basis = Basis::default();
        client.fresh();
    }

    fn take_answers(&mut self) {
        let basis = self.world.basis();
        for (_, answer) in std::mem::take(&mut self.world.answers) {
            let key = (answer.series.clone(), answer.n);
            if let Verdict::Published(place) = &answer.verdict {
                let before = self.answered.insert(key, *place);
                assert!(before.is_none_or(|before| before == *place), "answered twice: {answer:?}");
            }
            for client in &mut self.clients {
                client.answered(&answer, basis);
            }
        }
    }

    /// No more faults: everything comes to rest, and what was promised is there.
    fn calm(&mut self) {
        self.faults = false;
        self.settle();
        for _ in 0..400 {
            self.round();
        }
        self.settle();
        self.take_answers();
        assert!(self.world.sequencer.leads(), "{:?}", self.world.notices.last());
        assert_eq!(self.world.sequencer.backlog(), 0);
        self.world.check();
        self.check_answers();
    }

    fn settle(&mut self) {
        self.acknowledge();
        while !self.late.is_empty() {
            self.deliver();
        }
        self.world.settle();
    }

    fn acknowledge(&mut self) {
        let outcomes = std::mem::take(&mut self.outcomes);
        self.world.input(Input::Outcomes(outcomes));
    }

    /// Every answered batch is there exactly once, whole, with what was offered, where it was said.
    fn check_answers(&self) {
        let mut batches: BTreeMap<(Series, u64), (Place, Vec<String>)> = BTreeMap::new();
        let mut fold = cluster::Fold::new();
        let head = self.world.store.head().expect("readable").position;
        for row in crate::store::rows(&self.world.store, 1, head).expect("readable") {
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

fn storm(seed: u64, store: FakeStore) -> Storm {
    let mut storm = Storm::new(seed, store);
    for _ in 0..ROUNDS {
        storm.round();
    }
    storm.calm();
    storm
}

#[test]
fn the_log_keeps_its_promises_in_any_weather() {
    let (mut answered, mut crashes, mut voided, mut orphans) = (0, 0, 0, 0);
    for seed in 0..60 {
        let storm = std::panic::catch_unwind(|| {
            let storm = storm(seed, FakeStore::new());
            let counts = storm.world.sequencer.counts();
            let orphans = storm.world.store.orphans().len() as u64;
            (storm.answered.len(), storm.crashes, counts.voided, orphans)
        });
        let (a, c, v, o) = storm.unwrap_or_else(|_| panic!("seed {seed}"));
        answered += a;
        crashes += c;
        voided += v;
        orphans += o;
    }
    // A storm in which nothing happens shows nothing.
    assert!(answered > 1_000 && crashes > 500, "{answered} answered, {crashes} crashes");
    assert!(voided > 0 && orphans > 0, "{voided} voided, {orphans} orphans");
}

#[test]
fn without_durability_the_storm_notices() {
    let noticed = (0..10)
        .filter(|seed| {
            let storm = std::panic::catch_unwind(|| {
                storm(*seed, FakeStore::without_durability());
            });
            storm.is_err()
        })
        .count();
    assert_eq!(noticed, 10, "a store that does not sync must be caught every time");
}
