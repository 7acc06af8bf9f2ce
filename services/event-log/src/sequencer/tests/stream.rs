//! The stream misbehaves: what the sequencer makes of it.

use bytes::Bytes;
use schemas::append::Verdict;
use schemas::event::Event;
use schemas::id::{Series, Writer};
use schemas::subject::SEQUENCER_TAKEN;

use super::world::{WINDOW, World, note, published};
use crate::entry;
use crate::sequencer::{Input, Outcome, Output, Window};
use crate::start::Refusal;
use crate::store::fake::FakeStore;
use crate::store::{Store, rows};
use crate::witness::Heads;

const CONTROLLER: Writer = Writer::Controller;

/// A world in which the controller leads and has appended `batches` batches of two events.
fn filled(batches: u64) -> World {
    let mut world = World::leading();
    published(world.claim(&CONTROLLER, "c1", 1));
    for n in 1..=batches {
        published(append(&mut world, n));
    }
    world
}

fn append(world: &mut World, n: u64) -> Verdict {
    let series = Series::derive("c1", 0);
    let events = vec![note("a"), note("b")];
    let request = world.request(&CONTROLLER, "c1", 1, &series, n, events);
    world.ask(&request)
}

fn kinds(world: &World) -> Vec<&'static str> {
    let head = world.store.head().expect("readable").position;
    let events = rows(&world.store, 1, head).expect("readable");
    events
        .iter()
        .map(|row| entry::decode(&row.bytes).expect("it decodes").1.expect("known").kind())
        .collect()
}

#[test]
fn the_first_start_begins_a_history_and_every_start_an_epoch() {
    let mut world = World::leading();
    let first = rows(&world.store, 1, 1).expect("readable");
    let (header, event) = entry::decode(&first[0].bytes).expect("it decodes");
    assert_eq!((header.epoch, header.position), (1, 1));
    assert_eq!(event.as_ref().and_then(entry::genesis_of), Some("history-0"));
    world.restart();
    world.settle();
    let second = rows(&world.store, 2, 2).expect("readable");
    let (header, event) = entry::decode(&second[0].bytes).expect("it decodes");
    assert_eq!((header.epoch, header.position), (2, 2));
    assert_eq!(event.as_ref().and_then(entry::genesis_of), None);
    assert_eq!(world.store.genesis().expect("readable").as_deref(), Some("history-0"));
    world.check();
}

#[test]
fn an_event_published_by_hand_becomes_a_void() {
    let mut world = filled(2);
    world.stream.borrow_mut().add("muster.v1.evt.main.app.shop.deployed", Bytes::from("by hand"));
    // The pipelined ones behind it are in the stream, and not history.
    let series = Series::derive("c1", 0);
    let request = world.request(&CONTROLLER, "c1", 1, &series, 3, vec![note("a"), note("b")]);
    let inbox = world.send(std::slice::from_ref(&request));
    world.settle();
    assert!(world.answers.iter().all(|(to, _)| *to != inbox[0]), "nothing was recorded of it");
    published(world.ask(&request));
    let kinds = kinds(&world);
    assert!(kinds.contains(&"PositionVoided"), "{kinds:?}");
    assert!(!world.store.orphans().is_empty());
    world.check();
}

#[test]
fn a_batch_that_was_orphaned_is_offered_again_and_recorded_once() {
    let mut world = filled(1);
    let series = Series::derive("c1", 0);
    let request = world.request(&CONTROLLER, "c1", 1, &series, 2, vec![note("c"), note("d")]);
    let inbox = world.send(std::slice::from_ref(&request));
    while world.step() {}
    world.stream.borrow_mut().add(SEQUENCER_TAKEN, Bytes::from("by hand"));
    world.settle();
    assert!(world.answers.iter().all(|(to, _)| *to != inbox[0]), "nothing was recorded of it");
    assert_eq!(world.store.series(&series).expect("readable").expect("there").n, 1);
    published(world.ask(&request));
    world.check();
}

#[test]
fn a_message_by_hand_inside_a_batch_leaves_it_void() {
    let mut world = filled(0);
    let series = Series::derive("c1", 0);
    let request = world.request(&CONTROLLER, "c1", 1, &series, 1, vec![note("a"), note("b")]);
    world.send(std::slice::from_ref(&request));
    while world.step() {}
    assert!(world.deliver(), "the first event is in the stream");
    world.stream.borrow_mut().add("muster.v1.evt.main.note.all.added", Bytes::from("by hand"));
    world.settle();
    assert_eq!(
        kinds(&world),
        ["SequencerTaken", "LeadershipTaken", "NoteAdded", "PositionVoided", "SequencerTaken"]
    );
    assert_eq!(world.store.series(&series).expect("readable"), None, "its number was not used");
    published(world.ask(&request));
    world.check();
}

#[test]
fn what_the_server_lost_is_published_again_byte_for_byte() {
    let mut world = filled(5);
    let before = world.stream.borrow().messages.clone();
    world.stream.borrow_mut().lose_after(6);
    published(append(&mut world, 6)); // meets the loss
    let after = world.stream.borrow().messages.clone();
    assert!(before.iter().zip(&after).all(|(before, after)| before == after));
    world.check();
}

/// Lets it look at the stream until it publishes again.
fn refilling(world: &mut World) {
    world.input(Input::Connected);
    while world.network.is_empty() {
        assert!(world.step() || world.rest(), "{:?}", world.stopped);
    }
    while world.step() {}
}

#[test]
fn what_the_server_lost_is_on_its_way_many_at_a_time_and_in_order() {
    let mut world = World::on(FakeStore::new(), Window { messages: 4_000, ..WINDOW });
    world.input(Input::Connected);
    world.settle();
    published(world.claim(&CONTROLLER, "c1", 1));
    (1..=700).for_each(|n| {
        published(append(&mut world, n));
    });
    let before = world.stream.borrow().messages.clone();
    let end = world.stream.borrow().last;
    world.stream.borrow_mut().lose_after(6);
    refilling(&mut world);
    let sent: Vec<u64> = world.network.iter().map(|message| message.place.position).collect();
    assert_eq!(sent, (7..7 + 512).collect::<Vec<_>>());
    assert!(world.network.iter().all(|m| m.expected_last + 1 == m.place.position));
    // Acknowledged out of order, in whatever bursts: more goes out as what was sent comes back.
    let served: Vec<_> = std::mem::take(&mut world.network)
        .into_iter()
        .map(|message| (message.place.position, world.serve(&message)))
        .collect();
    for outcomes in served.chunks(100) {
        let outcomes = outcomes.iter().rev().cloned().collect();
        world.input(Input::Outcomes(outcomes));
        while world.step() {}
    }
    assert_eq!(world.network.front().map(|message| message.place.position), Some(7 + 512));
    assert_eq!(world.sequencer.published().position, end, "what is known to be published stays so");
    world.settle();
    assert!(world.sequencer.leads());
    let after = world.stream.borrow().messages.clone();
    assert!(before.iter().zip(&after).all(|(before, after)| before == after));
    assert_eq!(world.sequencer.counts().disturbed, 1, "it looked at the stream once");
    published(append(&mut world, 701));
    world.check();
}

#[test]
fn trouble_in_the_midst_of_what_is_published_again_is_looked_at_when_all_is_known() {
    for arrives in [true, false] {
        let mut world = filled(20);
        let before = world.stream.borrow().messages.clone();
        world.stream.borrow_mut().lose_after(6);
        refilling(&mut world);
        let sent: Vec<_> = std::mem::take(&mut world.network).into();
        let mut outcomes = Vec::new();
        for (i, message) in sent.iter().enumerate() {
            let outcome = match i {
                10 => Outcome::Unknown("no answer in time".to_owned()),
                _ => world.serve(message),
            };
            if i == 10 && arrives {
                world.serve(message);
            }
            outcomes.push((message.place.position, outcome));
        }
        let refused = outcomes.iter().filter(|(_, of)| matches!(of, Outcome::Refused(_))).count();
        assert_eq!(refused, if arrives { 0 } else { sent.len() - 11 }, "none leaves its place");
        let rest = outcomes.split_off(11);
        world.input(Input::Outcomes(outcomes));
        assert!(world.todo.iter().all(|to_do| matches!(to_do, Output::Notice(_))), "it waits");
        world.input(Input::Outcomes(rest));
        world.settle();
        assert!(world.sequencer.leads());
        let after = world.stream.borrow().messages.clone();
        assert!(before.iter().zip(&after).all(|(before, after)| before == after));
        published(append(&mut world, 21));
        world.check();
    }
}

#[test]
fn a_stream_that_is_gone_is_seated_and_goes_on() {
    let mut world = filled(5);
    let head = world.sequencer.published().position;
    world.stream.borrow_mut().lose_after(0);
    world.input(Input::Connected);
    world.settle();
    let facts = world.stream.borrow().facts();
    assert_eq!(facts.first, head + 1, "what is below is in the log");
    published(append(&mut world, 6));
    world.check();
}

#[test]
fn a_log_that_is_gone_is_rebuilt_from_the_stream() {
    let mut world = filled(5);
    world.stream.borrow_mut().add("muster.v1.evt.main.app.shop.deployed", Bytes::from("by hand"));
    world.input(Input::Connected);
    world.settle();
    published(append(&mut world, 6));
    assert!(kinds(&world).contains(&"PositionVoided"));
    let before = rows(&world.store, 1, u64::MAX).expect("readable");
    let indexes = world.store.indexes();
    for witnessed in [None, world.witnessed.clone()] {
        world.store = FakeStore::new();
        world.witnessed = witnessed;
        world.restart();
        while !world.sequencer.leads() {
            assert!(world.step() || world.deliver(), "{:?}", world.stopped);
            if world.store.head().expect("readable").position == before.len() as u64 {
                assert_eq!(world.store.indexes(), indexes);
            }
        }
        world.settle();
        let after = rows(&world.store, 1, before.len() as u64).expect("readable");
        assert_eq!(after, before, "the voids too are the same bytes");
        world.check();
    }
}

#[test]
fn a_log_that_lost_its_end_gets_it_back_from_the_stream() {
    let mut world = filled(5);
    let before = rows(&world.store, 1, u64::MAX).expect("readable");
    world.store.lose_after(7); // inside a batch
    world.restart();
    world.settle();
    let after = rows(&world.store, 1, before.len() as u64).expect("readable");
    assert_eq!(after, before);
    published(append(&mut world, 6));
}

#[test]
fn a_log_below_its_witness_refuses_when_the_stream_has_no_more() {
    let mut world = filled(5);
    world.store.lose_after(6);
    world.stream.borrow_mut().lose_after(6);
    world.restart();
    world.settle();
    let stop = world.stopped.as_ref().expect("it refuses").to_string();
    assert!(stop.contains("published up to 12@1"), "{stop}");
}

#[test]
fn another_history_is_refused_whatever_is_lost() {
    let mut world = filled(5);
    let mut other = World::leading();
    published(other.claim(&Writer::Health, "h1", 1));
    // Our log, their stream.
    world.stream.clone_from(&other.stream);
    world.restart();
    world.settle();
    let stop = world.stopped.clone().expect("it refuses").to_string();
    assert!(stop.contains("differs from the log"), "{stop}");
    // Our witness, their log and stream.
    let mut world = filled(5);
    world.store = other.store.clone();
    world.stream.clone_from(&other.stream);
    world.witnessed.as_mut().expect("it was written").published.position = 2;
    world.restart();
    world.settle();
    let stop = world.stopped.clone().expect("it refuses").to_string();
    assert!(stop.contains("not what the witness file saw"), "{stop}");
    // The log of a history whose beginning is nowhere.
    let mut world = World::new();
    world.stream.borrow_mut().last = 9;
    world.restart();
    world.settle();
    let stop = world.stopped.clone().expect("it refuses").to_string();
    assert!(stop.contains("begins at 10"), "{stop}");
}

#[test]
fn a_stream_of_events_that_follow_from_nothing_is_refused_by_an_empty_log() {
    let other = filled(2);
    let mut world = World::new();
    let second = other.stream.borrow().messages[1].clone();
    world.stream.borrow_mut().add(&second.subject, second.bytes);
    world.restart();
    world.settle();
    let refusal = world.stopped.clone().expect("it refuses");
    let expected = Refusal::Differs { at: 1, published: schemas::place::Place::START };
    assert_eq!(refusal.to_string(), expected.to_string());
}

#[test]
fn junk_before_the_first_start_is_voided() {
    let mut world = World::new();
    world.stream.borrow_mut().add("muster.v1.evt.main.app.shop.deployed", Bytes::from("early"));
    world.restart();
    world.settle();
    assert!(world.sequencer.leads());
    assert_eq!(kinds(&world), ["PositionVoided", "SequencerTaken"]);
    assert!(world.store.genesis().expect("readable").is_some());
    world.check();
}

#[test]
fn an_unknown_outcome_is_looked_up_and_not_guessed() {
    for lost in [true, false] {
        let mut world = filled(1);
        let series = Series::derive("c1", 0);
        let request = world.request(&CONTROLLER, "c1", 1, &series, 2, vec![note("c"), note("d")]);
        let inbox = world.send(std::slice::from_ref(&request));
        while world.step() {}
        for message in std::mem::take(&mut world.network) {
            if !lost {
                let outcome = world.serve(&message);
                assert!(matches!(outcome, Outcome::Stored(_)));
            }
            let unknown = Outcome::Unknown("no answer in time".to_owned());
            world.input(Input::Outcomes(vec![(message.place.position, unknown)]));
        }
        world.settle();
        let place = published(world.verdict(&inbox[0]));
        assert_eq!(world.ask(&request), Verdict::Duplicate { last_n: 2, place });
        world.check();
    }
}

#[test]
fn it_takes_again_before_its_own_message_leaves_the_stream() {
    let window = Window { messages: 40, ..WINDOW };
    let mut world = World::on(FakeStore::new(), window);
    world.input(Input::Connected);
    world.settle();
    published(world.claim(&CONTROLLER, "c1", 1));
    for n in 1..=200 {
        published(append(&mut world, n));
    }
    let takes = kinds(&world).iter().filter(|kind| **kind == "SequencerTaken").count();
    assert!((400 / 40..=400 / 15).contains(&takes), "{takes}");
    assert_eq!(world.sequencer.counts().disturbed, 0);
    world.check();
}

#[test]
fn a_failed_store_stops_and_nothing_of_the_group_is_seen() {
    for survive in [0, 1] {
        let mut world = filled(1);
        world.store.fail_next();
        let series = Series::derive("c1", 0);
        let request = world.request(&CONTROLLER, "c1", 1, &series, 2, vec![note("c")]);
        world.send(std::slice::from_ref(&request));
        while world.step() {}
        let stop = world.stopped.as_ref().expect("it stops").to_string();
        assert!(stop.contains("failed to store a group"), "{stop}");
        assert_eq!(world.network.len(), 0);
        world.store.crash(survive);
        world.restart();
        world.settle();
        match world.ask(&request) {
            Verdict::Published(_) if survive == 0 => {}
            Verdict::Duplicate { last_n: 2, .. } if survive == 1 => {}
            other => panic!("{other:?}"),
        }
        world.check();
    }
}

#[test]
fn the_witness_is_a_lower_bound_and_holds_the_genesis() {
    let world = filled(3);
    let Heads { stored, published, genesis } = world.witnessed.clone().expect("it was written");
    assert_eq!((stored, published), (world.sequencer.stored(), world.sequencer.published()));
    assert_eq!(genesis.as_deref(), Some("history-0"));
    let event = entry::decode(&rows(&world.store, 1, 1).expect("readable")[0].bytes);
    assert!(matches!(event.expect("it decodes").1, Some(Event::SequencerTaken(_))));
}

#[test]
fn until_a_lost_stream_is_filled_again_it_says_up_to_where() {
    let mut world = World::leading();
    published(world.claim(&Writer::Scheduler, "s-1", 1));
    assert_eq!(world.sequencer.refills(), None, "it leads");
    let stored = world.sequencer.stored().position;
    world.stream.borrow_mut().lose_after(0);
    world.witnessed = None;
    world.restart();
    let mut published = Vec::new();
    while !world.sequencer.leads() {
        assert!(world.sequencer.refills().is_some_and(|to| to >= stored));
        published.push(world.sequencer.published().position);
        assert!(world.step() || world.deliver(), "{:?}", world.stopped);
    }
    assert!(published.contains(&1), "it goes through the past: {published:?}");
    assert_eq!(world.sequencer.refills(), None);
    world.settle();
    world.check();
}
