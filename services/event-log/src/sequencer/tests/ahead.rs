//! Groups that are made while others are on their way to the disk.

use schemas::append::{Code, Request, Verdict};
use schemas::event::{ReplicaReady, replica_entity};
use schemas::id::{ReplicaId, Series};

use super::world::{World, agent, draft, published, refused};
use crate::sequencer::Output;

fn replica() -> ReplicaId {
    ReplicaId::new("shop-web-aaaaa").expect("an id")
}

/// The `n`-th request of a series.
fn ready(world: &World, n: u64) -> Request {
    let series = Series::derive("ahead", 0);
    let event = draft(ReplicaReady { replica: replica(), run: 1 });
    world.request(&agent("n1"), "a", 1, &series, n, vec![event])
}

#[test]
fn a_group_is_checked_against_those_that_are_not_stored_and_nothing_of_them_is_shown() {
    let mut world = World::leading();
    published(world.claim(&agent("n1"), "a", 1));
    let before = world.sequencer.stored();
    let one = ready(&world, 1);
    let exists = Request { absent: vec![replica_entity(&replica())], ..ready(&world, 2) };
    let gap = ready(&world, 3);
    let two = ready(&world, 2);
    let mut inboxes = Vec::new();
    for request in [&one, &exists, &gap, &two, &one] {
        inboxes.extend(world.send(std::slice::from_ref(request)));
    }
    assert_eq!(world.sequencer.stored(), before);
    assert_eq!(world.sequencer.ordered().position, before.position + 2);
    assert_eq!(world.sequencer.backlog(), 2);
    let shown = |output: &Output| {
        matches!(output, Output::Publish(_) | Output::Answer { .. } | Output::Purge { .. })
    };
    assert!(!world.todo.iter().any(shown), "{:?}", world.todo);
    world.settle();
    assert_eq!(published(world.verdict(&inboxes[0])).position, before.position + 1);
    refused(world.verdict(&inboxes[1]), Code::Exists, "replica/shop-web-aaaaa");
    refused(world.verdict(&inboxes[2]), Code::Gap, "does not follow 1");
    let place = published(world.verdict(&inboxes[3]));
    assert_eq!(place.position, before.position + 2);
    assert_eq!(world.verdict(&inboxes[4]), Verdict::Duplicate { last_n: 2, place });
    world.check();
}

#[test]
fn when_the_disk_fails_nothing_behind_that_is_stored_or_shown() {
    let mut world = World::leading();
    published(world.claim(&agent("n1"), "a", 1));
    let (before, answered) = (world.sequencer.published(), world.answers.len());
    let (one, two) = (ready(&world, 1), ready(&world, 2));
    world.store.fail_next();
    world.send(std::slice::from_ref(&one));
    world.send(std::slice::from_ref(&two));
    world.settle();
    let stop = world.stopped.as_ref().map(ToString::to_string);
    assert!(stop.as_ref().is_some_and(|stop| stop.contains("failed to")), "{stop:?}");
    assert_eq!((world.sequencer.published(), world.answers.len()), (before, answered));
    // Whatever is on disk: after a start, what is offered again is there once.
    world.store.crash(0);
    world.restart();
    world.settle();
    published(world.ask(&one));
    published(world.ask(&two));
    world.check();
}

#[test]
fn a_disturbance_waits_for_the_disk() {
    let mut world = World::leading();
    published(world.claim(&agent("n1"), "a", 1));
    let one = ready(&world, 1);
    let inboxes = world.send(std::slice::from_ref(&one));
    world.input(crate::sequencer::Input::Connected);
    assert!(!world.sequencer.leads());
    assert!(!world.todo.contains(&Output::Inspect), "{:?}", world.todo);
    world.settle();
    assert!(world.sequencer.leads());
    published(world.verdict(&inboxes[0]));
    world.check();
}
