//! A service whose state differs is stated, once for each place, and not more than once a minute.

use schemas::event::Event;
use schemas::id::Writer;
use schemas::place::Place;
use schemas::report::{Beat, Mark};

use super::world::{World, published};
use crate::sequencer::{Input, Room, Short};
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
    world.input(Input::Marked(beat));
    world.settle();
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
    assert_eq!(world.sequencer.counts().diverged, 1);
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
