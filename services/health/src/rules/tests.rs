//! Silence, step by step.

use cluster::history::{History, node};
use schemas::event::Event;
use schemas::place::Place;

use super::*;

/// Health beside a history that takes in what it decides.
struct Bench {
    history: History,
    rules: Health,
    mono_ms: u64,
}

impl Bench {
    fn of(nodes: &[&str]) -> Self {
        let mut history = History::default();
        for name in nodes {
            history.node(name, 1, 1);
        }
        let mut rules = Health::default();
        rules.connected(Now { utc_ms: 0, mono_ms: 0 });
        Self { history, rules, mono_ms: 0 }
    }

    /// A heartbeat of the agent that leads a node, or that will be the first to.
    fn heard(&mut self, name: &str) {
        let leader = self.history.fold.state().leaders.get(&Writer::Agent(node(name)));
        let (term, instance) = leader
            .map_or((1, format!("{name}-1")), |leader| (leader.term, leader.instance.clone()));
        self.heard_of(name, term, &instance);
    }

    fn heard_of(&mut self, name: &str, term: u64, instance: &str) {
        let heartbeat = Heartbeat {
            node: node(name),
            instance: instance.to_owned(),
            term,
            time_ms: 0,
            place: Place::START,
            document: None,
            spooled: 0,
            disk_free_bytes: 0,
        };
        let now = Now { utc_ms: 0, mono_ms: self.mono_ms };
        self.rules.input(heartbeat, self.history.fold.state(), now);
    }

    /// The same for a while in which an agent of `n1` is heard, too.
    fn pass_with(&mut self, ms: u64, alive: &[&str], term: u64, instance: &str) -> Vec<String> {
        let mut said = Vec::new();
        for _ in 0..ms / 500 {
            self.heard_of("n1", term, instance);
            said.extend(self.pass(500, alive));
        }
        said
    }

    fn taken(&mut self, term: u64, instance: &str) {
        let writer = Writer::Agent(node("n1"));
        let instance = instance.to_owned();
        let taken = schemas::event::LeadershipTaken { writer: writer.clone(), term, instance };
        self.history.add(&writer, taken);
    }

    fn ignored(&self) -> u64 {
        self.rules.levels().iter().map(|level| level.value).sum()
    }

    /// Lets time pass in steps of a heartbeat in which only `alive` are heard; says what was decided.
    fn pass(&mut self, ms: u64, alive: &[&str]) -> Vec<String> {
        let mut said = Vec::new();
        for _ in 0..ms / 500 {
            self.mono_ms += 500;
            for name in alive {
                self.heard(name);
            }
            let now = Now { utc_ms: self.mono_ms, mono_ms: self.mono_ms };
            let decision = self.rules.decide(self.history.fold.state_mut(), now);
            for draft in decision.events {
                let event = Event::decode(&draft.kind, draft.data.get());
                let event = event.expect("known").expect("it decodes");
                said.push(format!("{} {}", draft.kind, event.about().id));
                self.history.add(&Writer::Health, event);
            }
        }
        said
    }
}

#[test]
fn a_silent_node_is_suspected_then_lost_then_back() {
    let mut bench = Bench::of(&["n1", "n2", "n3"]);
    assert_eq!(bench.pass(2_500, &["n1", "n2"]), [""; 0]);
    assert_eq!(bench.pass(1_000, &["n1", "n2"]), ["NodeSuspected n3"]);
    assert_eq!(bench.pass(3_000, &["n1", "n2"]), ["NodeLost n3"]);
    assert_eq!(bench.pass(5_000, &["n1", "n2"]), [""; 0]);
    assert_eq!(bench.pass(500, &["n1", "n2", "n3"]), ["NodeReturned n3"]);
    assert_eq!(bench.pass(5_000, &["n1", "n2", "n3"]), [""; 0]);
}

#[test]
fn what_changed_is_not_collected() {
    let mut bench = Bench::of(&["n1"]);
    assert!(!bench.history.fold.state().touched.nodes.is_empty());
    bench.pass(500, &["n1"]);
    assert_eq!(bench.history.fold.state().touched, Touched::default());
    // Nor by an instance that only stands by.
    let mut machine = decider::Decider::new(Health::default(), "h-2".to_owned(), "s".to_owned());
    let entries = bench.history.entries.iter().cloned().map(decider::Input::Entry);
    machine.on(entries.chain([decider::Input::CaughtUp]), Now { utc_ms: 1, mono_ms: 1 });
    assert_eq!(machine.role(), decider::Role::Standby);
    assert_eq!(machine.fold().place(), bench.history.fold.place());
    assert_eq!(machine.fold().state().touched, Touched::default());
}

#[test]
fn a_single_node_that_is_silent_is_lost_all_the_same() {
    let mut bench = Bench::of(&["n1"]);
    assert_eq!(bench.pass(7_000, &[]), ["NodeSuspected n1", "NodeLost n1"]);
}

#[test]
fn when_most_are_silent_none_is_lost() {
    let mut bench = Bench::of(&["n1", "n2", "n3"]);
    let said = bench.pass(20_000, &["n1"]);
    assert_eq!(said, ["EvictionPaused eviction", "NodeSuspected n2", "NodeSuspected n3"]);
    let said = bench.pass(1_000, &["n1", "n2"]);
    assert_eq!(
        said,
        ["EvictionResumed eviction", "NodeReturned n2", "NodeLost n3"].map(String::from).to_vec()
    );
}

#[test]
fn one_node_a_second_at_most_is_lost() {
    let mut bench = Bench::of(&["n1", "n2", "n3", "n4", "n5", "n6"]);
    let alive = ["n1", "n2", "n3", "n4"];
    let said = bench.pass(6_000, &alive);
    assert_eq!(said, ["NodeSuspected n5", "NodeSuspected n6", "NodeLost n5"]);
    assert_eq!(bench.pass(500, &alive), [""; 0]);
    assert_eq!(bench.pass(500, &alive), ["NodeLost n6"]);
}

#[test]
fn silence_is_not_counted_across_our_own_absence() {
    let mut bench = Bench::of(&["n1", "n2"]);
    bench.pass(1_000, &["n1", "n2"]);
    bench.mono_ms += 60_000;
    bench.rules.connected(Now { utc_ms: 0, mono_ms: bench.mono_ms });
    assert_eq!(bench.pass(2_500, &["n1"]), [""; 0]);
    assert_eq!(bench.pass(500, &["n1"]), ["NodeSuspected n2"]);
}

#[test]
fn a_node_that_joins_or_joins_again_was_not_silent_before() {
    let mut bench = Bench::of(&["n1"]);
    assert_eq!(bench.pass(60_000, &["n1", "n2"]), [""; 0]);
    bench.history.node("n2", 1, 1);
    assert_eq!(bench.pass(2_500, &["n1"]), [""; 0]);
    assert_eq!(bench.pass(1_000, &["n1", "n2"]), [""; 0]);
    let removed = schemas::event::NodeRemoved { node: node("n2") };
    bench.history.add(&Writer::Controller, removed);
    assert_eq!(bench.pass(60_000, &["n1"]), [""; 0]);
    bench.history.node("n2", 1, 1);
    assert_eq!(bench.pass(2_500, &["n1"]), [""; 0]);
    assert_eq!(bench.pass(1_000, &["n1"]), ["NodeSuspected n2"]);
}

#[test]
fn only_the_agent_that_leads_a_node_speaks_for_it() {
    let mut bench = Bench::of(&["n1", "n2"]);
    assert_eq!(bench.pass(1_000, &["n1", "n2"]), [""; 0]);
    assert_eq!(bench.ignored(), 0);
    bench.taken(2, "other");
    // The one before does not know yet, and goes on.
    let said = bench.pass_with(7_000, &["n2"], 1, "n1-1");
    assert_eq!(said, ["NodeSuspected n1", "NodeLost n1"]);
    assert_eq!(bench.ignored(), 14);
    assert_eq!(bench.pass_with(500, &["n2"], 2, "n1-1"), [""; 0], "the term alone is no proof");
    assert_eq!(bench.pass_with(500, &["n2"], 2, "other"), ["NodeReturned n1"]);
    assert_eq!(bench.ignored(), 15);
    // One that has said that it stops is not heard any more, whatever was on its way.
    let writer = Writer::Agent(node("n1"));
    let released = schemas::event::LeadershipReleased { writer: writer.clone(), term: 2 };
    bench.history.add(&writer, released);
    assert_eq!(bench.pass_with(3_500, &["n2"], 2, "other"), ["NodeSuspected n1"]);
}

#[test]
fn a_heartbeat_that_is_ahead_of_the_history_counts_once_that_says_whose_it_is() {
    let mut bench = Bench::of(&["n1", "n2"]);
    bench.pass(1_000, &["n1", "n2"]);
    let said = bench.pass_with(3_500, &["n2"], 2, "next");
    assert_eq!(said, ["NodeSuspected n1"], "nobody knows yet that it leads");
    bench.taken(2, "next");
    assert_eq!(bench.pass(500, &["n2"]), ["NodeReturned n1"]);
    assert_eq!(bench.ignored(), 0);
    // It was another's.
    bench.pass_with(500, &["n2"], 3, "third");
    bench.taken(3, "fourth");
    assert_eq!(bench.pass(3_500, &["n2"]), ["NodeSuspected n1"]);
    assert_eq!(bench.ignored(), 1);
}
