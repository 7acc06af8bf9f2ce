//! Making room: what goes, what stays, and when.

use super::*;

const GIB: u64 = 1 << 30;

/// An agent on a disk of 100 GiB that pulled two images one after the other, and `IMAGE`.
fn world() -> World {
    let mut world = World::new();
    world.agent = std::mem::replace(
        &mut world.agent,
        Agent::new(node(), "x".to_owned(), Kept::default(), "x"),
    )
    .with_image_mark(85);
    world.described(100 * GIB);
    for (image, at_ms) in [("old@sha256:2", 10), ("young@sha256:3", 20), (IMAGE, 0)] {
        world.now_ms += at_ms;
        world.on([Input::Pulled(image.to_owned(), format!("sha256:{image}"))]);
    }
    world.assign(&spec(r#"{"image":"web"}"#));
    world.done(started());
    world
}

fn removal(op: Op) -> String {
    match op {
        Op::RemoveImage { image, .. } => image,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_goes_while_there_is_room() {
    let mut world = world();
    world.on([Input::DiskFree(15 * GIB)]);
    assert!(world.ops.is_empty(), "{:?}", world.ops);
}

#[test]
fn the_oldest_go_first_until_there_is_room_again_and_what_is_used_stays() {
    let mut world = world();
    world.on([Input::DiskFree(14 * GIB)]);
    assert_eq!(removal(world.done(Done::ImageRemoved { freed_bytes: 6 * GIB })), "old@sha256:2");
    // 80 % is below the mark, and not yet as far as it goes once it has begun.
    assert_eq!(removal(world.done(Done::ImageRemoved { freed_bytes: 6 * GIB })), "young@sha256:3");
    world.on([Input::DiskFree(GIB)]);
    assert!(world.ops.is_empty(), "{IMAGE} is used: {:?}", world.ops);
}

#[test]
fn it_stops_as_soon_as_there_is_room() {
    let mut world = world();
    world.on([Input::DiskFree(14 * GIB)]);
    world.done(Done::ImageRemoved { freed_bytes: 11 * GIB });
    assert!(world.ops.is_empty(), "{:?}", world.ops);
}

#[test]
fn an_image_that_others_use_is_left_and_one_that_was_not_pulled_here_never_asked_for() {
    let mut world = world();
    world.on([Input::DiskFree(GIB)]);
    assert_eq!(removal(world.done(Done::ImageInUse)), "old@sha256:2");
    assert_eq!(removal(world.done(Done::ImageInUse)), "young@sha256:3");
    world.pass(600_000);
    world.on([Input::DiskFree(GIB)]);
    assert!(!world.ops.iter().any(|op| matches!(op, Op::RemoveImage { .. })), "{:?}", world.ops);
}

#[test]
fn nothing_goes_before_the_document_is_known_or_while_an_image_is_not() {
    let mut world = world();
    let mut next = World::from(world.kept());
    next.agent = next.agent.with_image_mark(85);
    next.list([listed(1, true)]);
    next.on([Input::DiskFree(GIB)]);
    assert!(next.ops.is_empty(), "{:?}", next.ops);
    let web = spec(r#"{"image":"web"}"#);
    let unresolved = Assignment { image: None, ..assignment(&web) };
    world.on([Input::Document(document(2, Some(unresolved))), Input::DiskFree(GIB)]);
    assert!(!world.ops.iter().any(|op| matches!(op, Op::RemoveImage { .. })), "{:?}", world.ops);
}
