//! Several instances on one stream: each crashes, is paused, loses its connection and its
//! acknowledgements, at any point. What was published stays, once, whole and in order; and when that
//! stops, one leads, the others follow, and all logs are equal.
//!
//! Controls take away the server's second check, and the confirmation of refusals: both are noticed.

mod around;
mod clients;

use std::collections::{BTreeMap, VecDeque};

use schemas::append::Request;
use schemas::event::Event;
use schemas::id::{Series, Writer};
use schemas::place::{Basis, Place};

use self::clients::Client;
use super::storm::Dice;
use super::world::{Bound, WINDOW, agent};
use crate::entry;
use crate::sequencer::{Asked, Input, Message, Outcome, Output, Room, Sequencer, Short, Window};
use crate::start::Waiting;
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

    fn published(&self) -> u64 {
        self.process.as_ref().map_or(0, |process| process.published().position)
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
    for seed in 0..10 {
        let storm = std::panic::catch_unwind(|| storm(seed, ALL));
        let storm = storm.unwrap_or_else(|_| panic!("seed {seed}"));
        answered += storm.answered.len();
        takes += storm.takes_over;
        orphans += storm.orphans;
        bridged += storm.bridged;
    }
    // A storm in which nothing happens shows nothing.
    println!("{answered} answered, {takes} takes, {orphans} orphans, {bridged} pages fetched");
    assert!(answered > 1_000 && takes > 50, "{answered} answered, {takes} takes");
    assert!(orphans > 0 && bridged > 0, "{orphans} orphans, {bridged} pages fetched");
}

#[track_caller]
fn is_noticed(protections: Protections, says: &str) {
    let failed =
        (0..60).find_map(|seed| std::panic::catch_unwind(|| storm(seed, protections)).err());
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
fn one_without_room_leads_only_when_it_has_some_again() {
    let mut storm = Storm::new(2, 2, ALL);
    storm.crash(1);
    storm.alone(0, 60);
    storm.start(1);
    storm.alone(1, 20);
    assert!(storm.instances[1].follows());
    let short = Short { disk: "log", free_bytes: 1, needed_bytes: 2 };
    storm.instances[1].arrived.push_back(Input::Room(Room::None(short.clone())));
    storm.crash(0);
    storm.alone(1, 100);
    let process = storm.instances[1].process.as_ref().expect("it runs");
    assert!(process.follows() && !process.rules(), "{}", process.doing());
    // The same for one that begins so, and has the stream to mend.
    storm.crash(1);
    let head = storm.instances[1].store.head().expect("readable");
    storm.late.clear();
    storm.stream.lose_after(head.position - 2);
    storm.start(1);
    storm.instances[1].arrived.push_back(Input::Room(Room::None(short.clone())));
    storm.alone(1, 100);
    let process = storm.instances[1].process.as_ref().expect("it runs");
    assert_eq!(process.waits_for(), Some(&Waiting::Room), "{}", process.doing());
    assert!(!process.rules());
    storm.instances[1].arrived.push_back(Input::Room(Room::Enough(short)));
    storm.alone(1, 40);
    assert!(storm.instances[1].leads());
    storm.calm();
}

/// The one that led has stored what it never published, and looks at the stream behind another that
/// took in its place: the moment before it reads what it compares. The first such position.
fn about_to_compare(storm: &mut Storm) -> u64 {
    storm.crash(1);
    storm.alone(0, 60);
    storm.start(1);
    storm.alone(1, 20);
    assert!(storm.instances[1].follows());
    let from = storm.instances[0].published() + 1;
    while storm.instances[0].store.head().expect("readable").position < from {
        storm.offer();
        storm.listen(0);
        storm.step(0);
    }
    storm.instances[0].paused = true;
    storm.alone(1, 60);
    assert!(storm.instances[1].leads() && storm.stream.last > from + 5);
    // It notices: nothing of what it had sent got through.
    storm.instances[0].paused = false;
    storm.instances[0].network.clear();
    storm.reconnect(0);
    let sent = (from..from + 50).map(|at| (at, Outcome::Unknown("timeout".to_owned())));
    storm.instances[0].arrived.push_front(Input::Outcomes(sent.collect()));
    while !matches!(storm.instances[0].todo.front(), Some(Output::Read { .. })) {
        storm.step(0);
    }
    from
}

#[test]
fn what_leaves_the_stream_between_two_looks_is_not_taken_for_mine() {
    let mut storm = Storm::new(4, 2, ALL);
    let from = about_to_compare(&mut storm);
    assert_eq!(storm.instances[0].todo.front(), Some(&Output::Read { from: from - 1, to: from }));
    // The stream keeps so many messages, and gets one more.
    storm.stream.messages.retain(|message| message.sequence > from);
    storm.calm();
    assert!(storm.orphans > 0, "{} orphans", storm.orphans);
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

/// Stored by one that led and knows not that it was published, where the stream goes on, empty, behind
/// it. The last position of it.
fn emptied(storm: &mut Storm) -> Place {
    storm.crash(1);
    storm.alone(0, 60);
    let from = storm.instances[0].published() + 1;
    let head = |storm: &Storm| storm.instances[0].store.head().expect("readable");
    while head(storm).position < from + 2 {
        storm.offer();
        storm.listen(0);
        storm.step(0);
    }
    storm.crash(0);
    storm.late.clear();
    let head = head(storm);
    storm.stream.messages.clear();
    storm.stream.last = head.position;
    storm.start(0);
    storm.alone(0, 200);
    head
}

#[test]
fn one_that_waits_at_an_emptied_stream_waits_on_when_nobody_leads() {
    let mut storm = Storm::new(3, 2, ALL);
    let head = emptied(&mut storm);
    let process = storm.instances[0].process.as_ref().expect("it has not ended");
    let known = process.published();
    assert!(known.position < head.position);
    let waits = Waiting::Emptied { published: known, last: head.position };
    assert_eq!(process.waits_for(), Some(&waits), "{}", process.doing());
    // An operator does what it says.
    storm.stream.last = 0;
    storm.alone(0, 60);
    assert!(storm.instances[0].leads());
    storm.start(1);
    storm.calm();
}

#[test]
fn one_that_hears_that_what_it_has_was_published_goes_on_at_an_emptied_stream() {
    let mut storm = Storm::new(3, 2, ALL);
    let head = emptied(&mut storm);
    storm.instances[0].arrived.push_back(Input::Known(head));
    storm.alone(0, 60);
    let process = storm.instances[0].process.as_ref().expect("it runs");
    assert!(process.leads(), "{}", process.doing());
    assert!(storm.stream.messages.front().is_some_and(|first| first.sequence == head.position + 1));
    storm.start(1);
    storm.calm();
}
