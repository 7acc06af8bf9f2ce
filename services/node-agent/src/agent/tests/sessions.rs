//! Sessions: who is admitted, and what stays of it.

use schemas::live::{ExecWanted, LogWanted, SESSIONS_MAX};

use super::*;
use crate::agent::{Asking, Wanted};

fn asking(session: usize, wanted: Wanted) -> Input {
    let (session, reply) = (format!("s{session}"), "_INBOX.ana.x.0".to_owned());
    Input::Asked(Asking { session, reply, replica: id(), wanted })
}

fn log() -> Wanted {
    Wanted::Log(LogWanted::default())
}

fn exec(command: &[&str]) -> Wanted {
    let command = command.iter().map(ToString::to_string).collect();
    Wanted::Exec(ExecWanted { command, ..ExecWanted::default() })
}

fn running() -> World {
    let mut world = World::new();
    world.assign(&spec(r#"{"image":"web"}"#));
    world.done(started());
    world.told();
    world
}

fn code(world: &mut World) -> u16 {
    match world.sessions.pop() {
        Some(Output::Refuse { code, .. }) => code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_command_that_is_run_is_told_with_who_runs_it() {
    let mut world = running();
    world.on([asking(1, exec(&["ls", "a\nb"]))]);
    assert!(matches!(world.sessions.pop(), Some(Output::Open { run: 1, .. })));
    let Some(Event::ExecStarted(told)) = world.log.last() else { panic!("{:?}", world.log) };
    assert_eq!((told.actor.as_str(), told.run), ("ana", 1));
    assert_eq!(told.command, ["ls", "a\u{fffd}b"]);
    world.on([asking(2, log())]);
    assert!(matches!(world.sessions.pop(), Some(Output::Open { run: 1, .. })));
    assert_eq!(world.told(), ["ExecStarted"], "looking leaves no trace");
}

#[test]
fn what_cannot_be_is_refused_and_not_told() {
    let mut world = World::new();
    world.on([asking(1, log())]);
    assert_eq!(code(&mut world), 404);
    let mut world = running();
    world.on([asking(1, exec(&[]))]);
    assert_eq!(code(&mut world), 400);
    world.on([Input::EngineHint]);
    world.list([]);
    world.done(exited(1));
    world.on([asking(2, exec(&["ls"]))]);
    assert_eq!(code(&mut world), 409, "nothing runs in which it could");
    assert_eq!(world.told(), ["RunEnded"]);
}

#[test]
fn sessions_are_bounded_and_one_that_ends_makes_room() {
    let mut world = running();
    for session in 0..SESSIONS_MAX {
        // Asked twice, as by a bus that delivers twice: one session.
        world.on([asking(session, log()), asking(session, log())]);
    }
    assert_eq!(world.sessions.len(), SESSIONS_MAX);
    world.on([asking(SESSIONS_MAX, log())]);
    assert_eq!(code(&mut world), 429);
    world.on([Input::SessionOver("s0".to_owned()), asking(SESSIONS_MAX, log())]);
    assert!(matches!(world.sessions.pop(), Some(Output::Open { .. })));
}

#[test]
fn an_agent_that_does_not_speak_for_its_node_admits_nobody() {
    let mut world = World::held();
    world.list([]);
    world.assign(&spec(r#"{"image":"web"}"#));
    world.done(started());
    world.on([asking(1, log())]);
    assert_eq!(code(&mut world), 409);
}
