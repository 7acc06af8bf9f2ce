//! A standby joins where the stream begins inside what was pipelined behind a foreign message.

use bytes::Bytes;
use schemas::id::{Series, Writer};

use super::world::{Bound, World, note, published};
use crate::sequencer::{Input, Output, Seat, Sequencer, Setup, Streamed};
use crate::store::fake::FakeStore;
use crate::store::{Store, rows};

const CONTROLLER: Writer = Writer::Controller;

/// A history in which somebody published by hand before two events that were on their way, and the
/// position of the first of these that the stream has. The stream has let go of what lies before.
fn begins_at_an_orphan() -> (World, u64) {
    let mut world = World::leading();
    published(world.claim(&CONTROLLER, "c1", 1));
    let series = Series::derive("c1", 0);
    let events = vec![note("a"), note("b"), note("c")];
    let request = world.request(&CONTROLLER, "c1", 1, &series, 1, events);
    world.stream.borrow_mut().add("muster.v1.evt.main.note.all.added", Bytes::from("by hand"));
    let first = world.stream.borrow().last + 1;
    world.send(std::slice::from_ref(&request));
    world.settle();
    published(world.ask(&request));
    world.stream.borrow_mut().messages.retain(|message| message.sequence >= first);
    (world, first)
}

/// Does what a standby asks for until it follows, or for long enough. `fetched` says what the other
/// instance has.
fn join(
    world: &World,
    store: &FakeStore,
    fetched: impl Fn(u64, u64) -> Input,
) -> Sequencer<FakeStore, Bound> {
    let setup = Setup {
        instance: "log-1".to_owned(),
        genesis: "history-1".to_owned(),
        witnessed: None,
        seat: Seat::OneOf { begins: false },
        accepts_loss: false,
        window: world.window,
    };
    let standby = Sequencer::new(store.clone(), world.bound.clone(), setup);
    let mut standby = standby.expect("the store is readable");
    let mut todo = standby.on(Input::Connected, 1);
    for _ in 0..10 {
        while !todo.is_empty() {
            let input = match todo.remove(0) {
                Output::Inspect => Input::Stream(world.stream.borrow().facts()),
                Output::Read { from, to } => {
                    Input::Messages(world.stream.borrow().read(from, to, 7))
                }
                Output::Fetch { from, to } => fetched(from, to),
                Output::Stop(stop) => panic!("{stop}"),
                Output::Publish(message) => panic!("a standby published {message:?}"),
                _ => continue,
            };
            todo.extend(standby.on(input, 1));
        }
        if !standby.follows() {
            todo.extend(standby.on(Input::Tick, 1));
        }
    }
    standby
}

fn of(store: &FakeStore, from: u64, to: u64) -> Input {
    let streamed = |row: crate::store::Row| Streamed {
        sequence: row.position(),
        subject: row.subject,
        bytes: row.bytes,
    };
    let entries = rows(store, from, to).expect("readable");
    Input::Messages(entries.into_iter().map(streamed).collect())
}

#[test]
fn what_the_stream_begins_with_is_void_if_another_instance_says_so() {
    let (world, first) = begins_at_an_orphan();
    let store = FakeStore::new();
    let standby = join(&world, &store, |from, to| of(&world.store, from, to));
    assert!(standby.follows(), "{}", standby.doing());
    let all = |store| rows(store, 1, u64::MAX).expect("readable");
    assert!(all(&world.store).len() as u64 > first);
    assert_eq!(all(&store), all(&world.store));
    assert_eq!(store.indexes(), world.store.indexes());
}

#[test]
fn while_no_instance_says_so_it_waits() {
    let (world, first) = begins_at_an_orphan();
    let store = FakeStore::new();
    let standby = join(&world, &store, |from, to| match from {
        1 => of(&world.store, from, to),
        _ => Input::Failed("nobody answers".to_owned()),
    });
    let waits = standby.waits_for().expect("it waits").to_string();
    assert!(waits.contains(&format!("positions {first} to {first}")), "{waits}");
    assert_eq!(store.head().expect("readable").position, first - 1);
    // It goes on when there is one.
    assert!(join(&world, &store, |from, to| of(&world.store, from, to)).follows());
}
