//! Little room on a disk: it is stated once, facts go on, and then nothing is taken until there is
//! room again.

use schemas::append::Request;
use schemas::id::Series;

use super::storm::described;
use super::world::{World, agent, published};
use crate::sequencer::{Input, Room, Short};
use crate::store::{Store as _, rows};

fn short() -> Short {
    Short { disk: "log", free_bytes: 10, needed_bytes: 100 }
}

fn look(world: &mut World, room: Room) {
    world.input(Input::Room(room));
    world.settle();
}

fn kinds(world: &World) -> Vec<String> {
    let head = world.store.head().expect("readable").position;
    let decoded = |row: crate::store::Row| crate::entry::decode(&row.bytes).expect("an entry");
    let rows = rows(&world.store, 1, head).expect("readable");
    rows.into_iter().map(|row| decoded(row).1.expect("known").kind().to_owned()).collect()
}

/// The `n`-th fact of an agent that has taken its leadership.
fn fact(world: &World, n: u64) -> Request {
    let writer = agent("n1");
    let node = schemas::id::NodeName::new("n1").expect("a name");
    world.request(&writer, "a", 1, &Series::derive("facts", 0), n, vec![described(&node, "os")])
}

fn working() -> World {
    let mut world = World::leading();
    published(world.claim(&agent("n1"), "a", 1));
    world
}

#[test]
fn little_room_is_stated_once_and_facts_go_on() {
    let mut world = working();
    for _ in 0..3 {
        look(&mut world, Room::Little(short()));
    }
    published(world.ask(&fact(&world, 1)));
    look(&mut world, Room::Enough(short()));
    look(&mut world, Room::Enough(short()));
    let expected =
        ["SequencerTaken", "LeadershipTaken", "IntakeClosed", "NodeDescribed", "IntakeOpened"];
    assert_eq!(kinds(&world), expected);
    world.check();
}

#[test]
fn without_room_nothing_is_taken_and_everything_may_be_offered_again() {
    let mut world = working();
    look(&mut world, Room::None(short()));
    let stored = kinds(&world);
    let request = fact(&world, 1);
    let inbox = world.send(std::slice::from_ref(&request));
    world.settle();
    assert!(!world.answers.iter().any(|(to, _)| *to == inbox[0]), "it is not answered");
    assert_eq!(kinds(&world), stored);
    assert_eq!(world.sequencer.counts().deferred, 1);
    look(&mut world, Room::Enough(short()));
    published(world.ask(&request));
    assert_eq!(kinds(&world).last().map(String::as_str), Some("NodeDescribed"));
    world.check();
}

#[test]
fn what_was_stated_is_remembered_over_a_restart() {
    let mut world = working();
    look(&mut world, Room::Little(short()));
    world.restart();
    world.settle();
    look(&mut world, Room::Little(short()));
    assert_eq!(kinds(&world).iter().filter(|kind| *kind == "IntakeClosed").count(), 1);
    world.check();
}

#[test]
fn with_a_little_room_again_facts_are_taken_though_the_intake_stays_closed() {
    let mut world = working();
    look(&mut world, Room::None(short()));
    look(&mut world, Room::Between);
    assert!(!world.sequencer.full());
    published(world.ask(&fact(&world, 1)));
    look(&mut world, Room::Between);
    let expected = ["SequencerTaken", "LeadershipTaken", "IntakeClosed", "NodeDescribed"];
    assert_eq!(kinds(&world), expected);
    look(&mut world, Room::Enough(short()));
    assert_eq!(kinds(&world).last().map(String::as_str), Some("IntakeOpened"));
    world.check();
}
