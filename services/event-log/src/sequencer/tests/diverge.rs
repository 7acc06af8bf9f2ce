//! A service whose state differs is stated, once for each place, and not more than once a minute.

use schemas::event::Event;
use schemas::id::Writer;
use schemas::place::Place;
use schemas::report::{Beat, GatewayReport, Mark, StandbyReport};

use super::world::{WINDOW, World, published};
use crate::sequencer::{Input, Output, Room, Said, Seat, Sequencer, Setup, Short, Tally, Who};
use crate::store::{Store as _, rows};

/// A world in which the scheduler leads, and event-log has the mark of that place.
fn world() -> (World, Mark) {
    let mut world = World::leading();
    published(world.claim(&Writer::Scheduler, "s-1", 1));
    let mark = marked(&world);
    (world, mark)
}

/// A mark of the published head, which event-log has from now on.
fn marked(world: &World) -> Mark {
    let mark = Mark {
        place: world.sequencer.published(),
        fold_version: cluster::FOLD_VERSION,
        state_hash: "a".repeat(32),
    };
    world.bound.mark.replace(Some(mark.clone()));
    mark
}

fn says(mark: Mark) -> Beat {
    Beat {
        writer: Writer::Scheduler,
        term: 1,
        instance: "s-1".to_owned(),
        place: mark.place,
        mark: Some(mark),
    }
}

fn wrong(mark: &Mark) -> Mark {
    Mark { state_hash: "b".repeat(32), ..mark.clone() }
}

fn hear(world: &mut World, beat: Beat) {
    if let Some(said) = Said::leading(beat) {
        say(world, said);
    }
}

fn say(world: &mut World, said: Said) {
    world.input(Input::Marked(said));
    world.settle();
}

fn tally(world: &World, who: &Who) -> Tally {
    world.sequencer.counts().states.get(who).copied().unwrap_or_default()
}

fn scheduler() -> Who {
    Who::Service(Writer::Scheduler)
}

/// What was stated to differ: of whom, of which of their instances.
fn named(world: &World) -> Vec<(String, String)> {
    let head = world.store.head().expect("readable").position;
    let rows = rows(&world.store, 1, head).expect("readable");
    let decoded = |row: crate::store::Row| crate::entry::decode(&row.bytes).expect("an entry").1;
    let name = |event| match event {
        Some(Event::StateDiverged(e)) => Some((e.writer.to_string(), e.instance)),
        Some(Event::GatewayDiverged(e)) => Some((format!("gateway of {}", e.node), e.instance)),
        _ => None,
    };
    rows.into_iter().map(decoded).filter_map(name).collect()
}

/// The places of which it was stated that a state differs.
fn stated(world: &World) -> Vec<Place> {
    let head = world.store.head().expect("readable").position;
    let decoded = |row: crate::store::Row| crate::entry::decode(&row.bytes).expect("an entry").1;
    let rows = rows(&world.store, 1, head).expect("readable");
    let diverged = |event| match event {
        Some(Event::StateDiverged(e)) => {
            assert_eq!((&e.writer, e.instance.as_str()), (&Writer::Scheduler, "s-1"));
            assert_ne!(e.theirs, e.ours);
            Some(e.place)
        }
        _ => None,
    };
    rows.into_iter().map(decoded).filter_map(diverged).collect()
}

#[test]
fn a_state_that_differs_is_stated_once_for_a_place() {
    let (mut world, mark) = world();
    hear(&mut world, says(mark.clone()));
    assert!(stated(&world).is_empty(), "they agree");
    for _ in 0..3 {
        hear(&mut world, says(wrong(&mark)));
    }
    (0..2_000).for_each(|_| world.input(Input::Tick));
    hear(&mut world, says(wrong(&mark)));
    assert_eq!(stated(&world), [mark.place]);
    let counted = Tally { compared: 1, other_fold: 0, diverged: 1 };
    assert_eq!(tally(&world, &scheduler()), counted, "a place counts once");
    assert_eq!(world.sequencer.published().position, mark.place.position + 1);
    world.check();
}

#[test]
fn of_a_next_place_it_is_stated_a_minute_later() {
    let (mut world, first) = world();
    hear(&mut world, says(wrong(&first)));
    let next = marked(&world);
    hear(&mut world, says(wrong(&next)));
    (0..599).for_each(|_| world.input(Input::Tick));
    hear(&mut world, says(wrong(&next)));
    assert_eq!(stated(&world), [first.place]);
    world.input(Input::Tick);
    hear(&mut world, says(wrong(&next)));
    assert_eq!(stated(&world), [first.place, next.place]);
    world.check();
}

#[test]
fn what_does_not_compare_is_not_stated() {
    let (mut world, mark) = world();
    let other = wrong(&mark);
    let place = other.place;
    let elsewhere = [
        Place { position: place.position + 1, ..place },
        Place { epoch: place.epoch + 1, ..place },
        Place { hash: Place::START.hash, ..place },
    ];
    for place in elsewhere {
        hear(&mut world, says(Mark { place, ..other.clone() }));
    }
    hear(&mut world, says(Mark { fold_version: other.fold_version + 1, ..other.clone() }));
    hear(&mut world, says(Mark { state_hash: "b".repeat(1 << 20), ..other.clone() }));
    hear(&mut world, Beat { mark: None, ..says(other.clone()) });
    // Who does not lead is nobody to speak of.
    hear(&mut world, Beat { instance: "s-2".to_owned(), ..says(other.clone()) });
    hear(&mut world, Beat { writer: Writer::Controller, ..says(other.clone()) });
    assert!(stated(&world).is_empty());
    assert_eq!(tally(&world, &scheduler()), Tally { other_fold: 1, ..Tally::default() });
    let short = Short { disk: "log", free_bytes: 1, needed_bytes: 2 };
    world.input(Input::Room(Room::None(short.clone())));
    world.settle();
    hear(&mut world, says(other.clone()));
    assert!(stated(&world).is_empty(), "there is no room for it");
    world.input(Input::Room(Room::Enough(short)));
    world.settle();
    hear(&mut world, says(other));
    assert_eq!(stated(&world), [mark.place]);
    world.check();
}

fn gateway(node: &str, instance: &str, mark: Mark) -> Said {
    let (node, instance) = (cluster::history::node(node), instance.to_owned());
    let report = GatewayReport {
        standing: schemas::report::Standing::Serves,
        node,
        instance,
        place: mark.place,
        open: vec![],
        mark: Some(mark),
        ordered: Vec::new(),
    };
    Said::serving(report).expect("it has a mark")
}

fn standby(writer: Writer, instance: &str, mark: Mark) -> Said {
    Said::standing_by(StandbyReport { writer, instance: instance.to_owned(), mark })
}

#[test]
fn gateways_and_those_who_stand_by_are_compared_each_by_name() {
    let (mut world, mark) = world();
    let other = wrong(&mark);
    say(&mut world, gateway("n1", "g-1", mark.clone()));
    say(&mut world, standby(Writer::EventLog, "log-1", mark.clone()));
    say(&mut world, standby(Writer::Health, "h-2", mark.clone()));
    assert_eq!(named(&world), [], "they agree");
    for who in ["gateway.n1", "event-log", "health"] {
        let of = world.sequencer.counts().states.iter().find(|(known, _)| known.to_string() == who);
        let compared = Tally { compared: 1, ..Tally::default() };
        assert_eq!(of.map(|(_, tally)| *tally), Some(compared), "{who}");
    }
    for _ in 0..2 {
        say(&mut world, gateway("n2", "g-2", other.clone()));
        say(&mut world, standby(Writer::EventLog, "log-2", other.clone()));
        say(&mut world, standby(Writer::Health, "h-3", other.clone()));
        say(&mut world, gateway("n3", "g-3", Mark { fold_version: 0, ..other.clone() }));
    }
    let pair = |who: &str, instance: &str| (who.to_owned(), instance.to_owned());
    let expected =
        [pair("gateway of n2", "g-2"), pair("event-log", "log-2"), pair("health", "h-3")];
    assert_eq!(named(&world), expected);
    let n2 = Who::Gateway(cluster::history::node("n2"));
    assert_eq!(tally(&world, &n2), Tally { compared: 1, other_fold: 0, diverged: 1 });
    world.check();
}

/// An instance on a copy of what the world has, which stands by.
#[test]
fn one_that_stands_by_says_what_its_state_is_and_one_that_leads_does_not() {
    let (mut world, mark) = world();
    let setup = Setup {
        instance: "log-1".to_owned(),
        genesis: "history-1".to_owned(),
        witnessed: None,
        seat: Seat::OneOf { begins: false },
        accepts_loss: false,
        window: WINDOW,
    };
    let mut second = Sequencer::new(world.store.clone(), world.bound.clone(), setup)
        .expect("the store is readable");
    let mut told = Vec::new();
    let mut inputs = vec![Input::Connected];
    for _ in 0..25 {
        while let Some(input) = inputs.pop() {
            for output in second.on(input, 1) {
                match output {
                    Output::Inspect => inputs.push(Input::Stream(world.stream.borrow().facts())),
                    Output::Read { from, to } => {
                        inputs.push(Input::Messages(world.stream.borrow().read(from, to, 7)));
                    }
                    Output::StandsBy(report) => told.push(report),
                    Output::Published(_) | Output::Witness(_) | Output::Follow(_) => {}
                    Output::Notice(_) | Output::Probe => {}
                    other => panic!("it stands by: {other:?}"),
                }
            }
        }
        inputs.push(Input::Tick);
    }
    assert!(second.follows());
    let report = StandbyReport { writer: Writer::EventLog, instance: "log-1".to_owned(), mark };
    assert_eq!(told, [report.clone(), report], "about once a second");
    // The world has none of it to do: it panics when the one that leads says so.
    (0..25).for_each(|_| world.input(Input::Tick));
    world.settle();
}
