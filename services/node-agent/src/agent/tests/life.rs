//! Documents, restarts of the agent, strays, and who speaks for the node.

use super::*;

const WEB: &str = r#"{"image":"web"}"#;

#[test]
fn nothing_is_started_before_the_engine_has_said_what_runs() {
    let mut world = World::from(Kept::default());
    world.assign(&spec(WEB));
    assert!(world.ops.is_empty(), "{:?}", world.ops);
    world.list([]);
    assert!(matches!(world.op(), Op::Start { run: 1, .. }));
}

#[test]
fn what_runs_is_adopted_after_a_restart_and_told_once() {
    let mut world = World::new();
    world.assign(&spec(WEB));
    world.done(started());
    assert_eq!(world.told(), ["RunStarted", "ReplicaReady"]);

    let mut next = World::from(world.kept());
    next.list([listed(1, true)]);
    next.pass(60_000);
    assert!(next.ops.is_empty(), "{:?}", next.ops);
    assert!(next.told().is_empty());
    assert_eq!(next.agent.running().len(), 1);
}

#[test]
fn what_ended_while_the_agent_was_away_is_examined_and_run_again() {
    let mut world = World::new();
    world.assign(&spec(WEB));
    world.done(started());
    let mut next = World::from(world.kept());
    next.list([listed(1, false)]);
    assert!(matches!(next.done(exited(1)), Op::Examine { run: 1, .. }));
    assert_eq!(next.told(), ["RunEnded"]);
    next.pass(500);
    assert!(matches!(next.op(), Op::Start { run: 2, .. }));
}

#[test]
fn a_crash_between_creating_and_telling_makes_no_second_container() {
    let mut world = World::new();
    world.assign(&spec(WEB));
    assert!(matches!(world.op(), Op::Start { run: 1, .. }));
    // The process goes before it hears what came of it. The container was made:
    let mut made = World::from(world.kept());
    made.list([listed(1, true)]);
    assert!(made.ops.is_empty(), "{:?}", made.ops);
    assert_eq!(made.told(), ["RunStarted", "ReplicaReady"]);
    // It was not:
    let mut not_made = World::from(world.kept());
    not_made.list([]);
    assert!(matches!(not_made.op(), Op::Start { run: 1, .. }));
}

#[test]
fn a_replica_that_must_end_while_it_starts_is_stopped_when_it_has() {
    let mut world = World::new();
    let web = spec(WEB);
    world.assign(&web);
    let start = world.op();
    let end = Assignment { end: true, ..assignment(&web) };
    world.on([Input::Document(document(2, Some(end)))]);
    assert!(world.ops.is_empty(), "one thing at a time: {:?}", world.ops);
    world.on([Input::Done(start, started())]);
    assert!(matches!(world.done(Done::Stopped), Op::Stop { run: 1, remove: true, .. }));
    assert_eq!(world.told(), ["RunStarted", "ReplicaReady", "ReplicaEnded"]);
    world.on([Input::Document(document(3, None))]);
    assert!(world.agent.kept().runners.is_empty());
}

#[test]
fn a_crash_while_stopping_stops_again() {
    let mut world = World::new();
    let web = spec(WEB);
    world.assign(&web);
    world.done(started());
    world.on([Input::Document(document(2, None))]);
    assert!(matches!(world.op(), Op::Stop { remove: true, .. }));
    let mut next = World::from(world.kept());
    next.list([listed(1, true)]);
    assert!(matches!(next.done(Done::Stopped), Op::Stop { remove: true, .. }));
    assert_eq!(next.told().last(), Some(&"ReplicaEnded"));
}

#[test]
fn strays_go_only_after_a_document_was_read_in_this_life() {
    let mut world = World::new();
    world.on([Input::Document(document(1, None))]);
    let mut next = World::from(world.kept());
    next.list([listed(1, true)]);
    assert!(next.ops.is_empty(), "an old document says nothing of it: {:?}", next.ops);
    next.on([Input::Document(document(1, None))]);
    next.list([listed(1, true)]);
    let removed = next.done(Done::StrayRemoved);
    assert_eq!(removed, Op::RemoveStray { container: container_name(&id(), 1) });
    assert_eq!(next.told(), ["StrayRemoved"]);
}

#[test]
fn an_older_document_and_that_of_another_node_change_nothing() {
    let mut world = World::new();
    let web = spec(WEB);
    world.on([Input::Document(document(5, None))]);
    world.on([Input::Document(document(4, Some(assignment(&web))))]);
    let mut other = document(6, Some(assignment(&web)));
    other.node = NodeName::new("n2").expect("a name");
    world.on([Input::Document(other)]);
    world.on([Input::Spec(web)]);
    assert!(world.ops.is_empty(), "{:?}", world.ops);
}

#[test]
fn a_node_that_another_instance_holds_is_claimed_again_and_facts_wait() {
    let mut world = World::held();
    world.list([]);
    world.pass(10_000);
    assert!(world.agent.waits_for().is_some_and(|why| why.contains("another machine")));
    world.assign(&spec(WEB));
    world.done(started());
    assert!(world.told().is_empty());
    assert!(!world.agent.at_rest());
    // The other one goes.
    world.held = false;
    world.pass(3_000);
    world.pass(1_000);
    assert_eq!(world.told(), ["RunStarted", "ReplicaReady"]);
    assert_eq!(world.agent.waits_for(), None);
}

#[test]
fn a_removed_node_joins_again_and_says_so_once() {
    let removed = |position| NodeDocument { removed: true, ..document(position, None) };
    let mut world = World::new();
    world.described(1);
    // Written before the description was read: it is on record already.
    world.on([Input::Document(removed(1))]);
    assert_eq!(world.told(), ["NodeDescribed"]);
    world.assign(&spec(WEB));
    world.done(started());
    world.told();
    world.on([Input::Document(removed(5))]);
    assert!(matches!(world.done(Done::Stopped), Op::Stop { remove: true, .. }));
    assert_eq!(world.told(), ["NodeDescribed", "ReplicaEnded"]);
    // What was removed while its agent was away is told as soon as that is read.
    let mut next = World::from(world.kept());
    next.on([Input::Document(removed(5))]);
    assert_eq!(next.told(), ["NodeDescribed"], "and may be told again");
    next.described(1);
    next.pass(60_000);
    assert!(next.told().is_empty());
    next.on([Input::Document(document(6, None))]);
    assert!(next.told().is_empty());
}

#[test]
fn what_is_of_another_cluster_is_neither_adopted_nor_stopped() {
    let of = |cluster: Option<&str>, (name, container)| {
        (name, Listed { cluster: cluster.map(str::to_owned), ..container })
    };
    let ours = |position, assigned| NodeDocument {
        cluster: Some("ours".to_owned()),
        ..document(position, assigned)
    };
    let mut world = World::new();
    world.on([Input::Document(ours(1, None))]);
    world.on([Input::EngineHint]);
    world.list([of(Some("theirs"), listed(1, true))]);
    world.pass(10_000);
    assert!(world.ops.is_empty(), "{:?}", world.ops);
    world.list([of(Some("ours"), listed(1, true))]);
    world.pass(10_000);
    assert!(matches!(world.done(Done::StrayRemoved), Op::RemoveStray { .. }));
    world.list([of(None, listed(1, true))]);
    world.pass(10_000);
    assert!(matches!(world.done(Done::StrayRemoved), Op::RemoveStray { .. }));

    let web = spec(WEB);
    world.on([Input::Spec(web.clone()), Input::Document(ours(2, Some(assignment(&web))))]);
    world.on([Input::Spec(web)]);
    let Op::Start { cluster, .. } = world.op() else { panic!("it starts") };
    assert_eq!(cluster.as_deref(), Some("ours"));
    // A crash before that was heard of: what runs under its name is not what was begun.
    let mut next = World::from(world.kept());
    next.list([of(Some("theirs"), listed(1, true))]);
    next.pass(1_000);
    assert!(matches!(next.op(), Op::Start { run: 1, .. }));
    let mut next = World::from(world.kept());
    next.list([of(Some("ours"), listed(1, true))]);
    assert_eq!(next.told(), ["RunStarted", "ReplicaReady"]);
}
