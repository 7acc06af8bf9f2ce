//! What is recorded, what is a repeat, and what is refused with which code.

use schemas::append::{Code, Request, Verdict};
use schemas::event::{
    AppDeleted, Event, LeadershipReleased, NodeDescribed, NodeDescription, NodeLost, NodeRemoved,
    NodeReturned, ReplicaReady, StrayRemoved,
};
use schemas::id::{AppKey, NodeName, ReplicaId, Series, Tenant, Writer};
use schemas::place::Basis;

use super::storm::described;
use super::world::{World, agent, draft, note, published, refused};
use crate::sequencer::{Asked, Input};
use crate::store::Store;

const CONTROLLER: Writer = Writer::Controller;

fn led() -> (World, Series) {
    let mut world = World::leading();
    published(world.claim(&CONTROLLER, "c1", 1));
    (world, Series::derive("c1", 0))
}

fn notes(world: &World, series: &Series, n: u64, texts: &[&str]) -> Request {
    let events = texts.iter().map(|text| note(text)).collect();
    world.request(&CONTROLLER, "c1", 1, series, n, events)
}

#[test]
fn a_batch_is_recorded_whole_and_answered_with_its_end() {
    let (mut world, series) = led();
    let request = notes(&world, &series, 1, &["a", "b", "c"]);
    let place = published(world.ask(&request));
    assert_eq!(place.position, 5, "taken, claim, three notes");
    assert_eq!(world.sequencer.published(), place);
    assert_eq!(world.stream.borrow().last, 5);
    world.check();
}

#[test]
fn a_group_sees_its_own_effects_and_is_stored_once() {
    let mut world = World::leading();
    let groups = world.sequencer.counts().groups;
    let claim = world.claim_request(&CONTROLLER, "c1", 1);
    let health = world.claim_request(&Writer::Health, "h1", 1);
    let again = claim.clone();
    let inboxes = world.send(&[claim, health, again]);
    world.settle();
    let place = published(world.verdict(&inboxes[0]));
    published(world.verdict(&inboxes[1]));
    assert_eq!(world.verdict(&inboxes[2]), Verdict::Duplicate { last_n: 1, place });
    assert_eq!(world.sequencer.counts().groups, groups + 1);
    world.check();
}

#[test]
fn a_repeat_is_answered_before_anything_else_is_checked() {
    let (mut world, series) = led();
    let request = notes(&world, &series, 1, &["a"]);
    let place = published(world.ask(&request));
    let duplicate = Verdict::Duplicate { last_n: 1, place };
    assert_eq!(world.ask(&request), duplicate);
    // Under another term, on another basis, with other content.
    published(world.claim(&CONTROLLER, "c2", 2));
    assert_eq!(world.ask(&request), duplicate);
    let other = Request { basis: Some(Basis { epoch: 9, position: 9 }), ..request };
    assert_eq!(world.ask(&other), duplicate);
}

#[test]
fn an_answer_waits_until_everything_before_it_is_published() {
    let (mut world, series) = led();
    let first = notes(&world, &series, 1, &["a"]);
    let refused_one = Request { n: 7, ..notes(&world, &Series::derive("x", 0), 1, &["b"]) };
    let inboxes = world.send(&[first, refused_one]);
    while world.step() {}
    assert!(
        world.answers.iter().all(|(inbox, _)| !inboxes.contains(inbox)),
        "nothing is published"
    );
    world.settle();
    published(world.verdict(&inboxes[0]));
    refused(world.verdict(&inboxes[1]), Code::Gap, "does not follow 0");
}

#[test]
fn numbers_follow_each_other() {
    let (mut world, series) = led();
    let gap = notes(&world, &series, 2, &["a"]);
    refused(world.ask(&gap), Code::Gap, "number 2");
    let zero = notes(&world, &series, 0, &["a"]);
    refused(world.ask(&zero), Code::Invalid, "begin at 1");
    let first = notes(&world, &series, 1, &["a"]);
    published(world.ask(&first));
    let second = notes(&world, &series, 2, &["b"]);
    published(world.ask(&second));
    world.check();
}

#[test]
fn a_series_belongs_to_its_writer() {
    let (mut world, series) = led();
    let request = notes(&world, &series, 1, &["a"]);
    published(world.ask(&request));
    published(world.claim(&Writer::Health, "h1", 1));
    let lost = NodeLost { node: NodeName::new("n1").expect("a name"), silent_ms: 1 };
    let stolen = world.request(&Writer::Health, "h1", 1, &series, 2, vec![draft(lost)]);
    refused(world.ask(&stolen), Code::NotPermitted, "is controller's");
}

#[test]
fn only_the_leader_of_the_term_may_append() {
    let mut world = World::leading();
    let series = Series::derive("c1", 0);
    let early = notes(&world, &series, 1, &["a"]);
    refused(world.ask(&early), Code::StaleTerm, "has not taken");
    published(world.claim(&CONTROLLER, "c1", 1));
    published(world.claim(&CONTROLLER, "c2", 2));
    let stale = notes(&world, &series, 1, &["a"]);
    refused(world.ask(&stale), Code::StaleTerm, "held by instance c2");
    let forged = world.request(&CONTROLLER, "c1", 2, &series, 1, vec![note("a")]);
    refused(world.ask(&forged), Code::StaleTerm, "held by instance c2");
    refused(world.claim(&CONTROLLER, "c3", 2), Code::StaleTerm, "next term of controller is 3");
    let release = LeadershipReleased { writer: CONTROLLER, term: 2 };
    let request = world.request(&CONTROLLER, "c2", 2, &series, 1, vec![draft(release)]);
    published(world.ask(&request));
    let late = world.request(&CONTROLLER, "c2", 2, &series, 2, vec![note("a")]);
    refused(world.ask(&late), Code::StaleTerm, "was released");
    published(world.claim(&CONTROLLER, "c2", 3));
    world.check();
}

#[test]
fn a_claim_says_what_its_request_says() {
    let mut world = World::leading();
    let claim = world.claim_request(&CONTROLLER, "c1", 1);
    let two = Request { events: vec![claim.events[0].clone(), note("a")], ..claim.clone() };
    refused(world.ask(&two), Code::Invalid, "request of its own");
    let other = Request { instance: "c2".to_owned(), ..claim.clone() };
    refused(world.ask(&other), Code::Invalid, "differs");
    let groundless = Request { basis: None, ..claim };
    refused(world.ask(&groundless), Code::Invalid, "must say on what");
}

#[test]
fn an_agents_leadership_is_held_until_released_or_lost() {
    let mut world = World::leading();
    let n1 = agent("n1");
    let node = NodeName::new("n1").expect("a name");
    published(world.claim(&n1, "a", 1));
    describe(&mut world, "a", 1);
    refused(world.claim(&n1, "b", 2), Code::Held, "is instance a");
    published(world.claim(&n1, "a", 2));

    published(world.claim(&Writer::Health, "h", 1));
    let series = Series::derive("h", 0);
    let health = |world: &World, n, event: Event| {
        world.request(&Writer::Health, "h", 1, &series, n, vec![draft(event)])
    };
    let lost = NodeLost { node: node.clone(), silent_ms: 1 };
    let returned = NodeReturned { node, silent_ms: 1 };
    let request = health(&world, 1, lost.clone().into());
    published(world.ask(&request));
    let request = health(&world, 2, returned.into());
    published(world.ask(&request));
    refused(world.claim(&n1, "b", 3), Code::Held, "is instance a");
    let request = health(&world, 3, lost.into());
    published(world.ask(&request));
    published(world.claim(&n1, "b", 3));
    refused(world.claim(&n1, "a", 4), Code::Held, "is instance b");

    let release = LeadershipReleased { writer: n1.clone(), term: 3 };
    let series = Series::derive("b", 0);
    let request = world.request(&n1, "b", 3, &series, 1, vec![draft(release)]);
    published(world.ask(&request));
    published(world.claim(&n1, "a", 4));
}

#[test]
fn a_removed_node_is_free_even_when_health_says_late_that_it_returned() {
    let mut world = World::leading();
    let (n1, node) = (agent("n1"), NodeName::new("n1").expect("a name"));
    published(world.claim(&n1, "a", 1));
    describe(&mut world, "a", 1);
    published(world.claim(&CONTROLLER, "c", 1));
    published(world.claim(&Writer::Health, "h", 1));
    let removed = vec![draft(NodeRemoved { node: node.clone() })];
    let request = world.request(&CONTROLLER, "c", 1, &Series::derive("c", 0), 1, removed);
    published(world.ask(&request));
    let returned = vec![draft(NodeReturned { node, silent_ms: 1 })];
    let request = world.request(&Writer::Health, "h", 1, &Series::derive("h", 0), 1, returned);
    published(world.ask(&request));
    // Its agent may claim again, and is then gone before it has said what it is.
    published(world.claim(&n1, "a", 2));
    published(world.claim(&n1, "b", 3));
    describe(&mut world, "b", 3);
    refused(world.claim(&n1, "a", 4), Code::Held, "is instance b");
    world.check();
}

#[test]
fn a_lost_node_that_was_removed_and_joined_again_is_held() {
    let mut world = World::leading();
    let (n1, node) = (agent("n1"), NodeName::new("n1").expect("a name"));
    published(world.claim(&n1, "a", 1));
    describe(&mut world, "a", 1);
    published(world.claim(&CONTROLLER, "c", 1));
    published(world.claim(&Writer::Health, "h", 1));
    let lost = vec![draft(NodeLost { node: node.clone(), silent_ms: 1 })];
    let request = world.request(&Writer::Health, "h", 1, &Series::derive("h", 0), 1, lost);
    published(world.ask(&request));
    let removed = vec![draft(NodeRemoved { node: node.clone() })];
    let request = world.request(&CONTROLLER, "c", 1, &Series::derive("c", 0), 1, removed);
    published(world.ask(&request));
    // It joins under the leadership that it has, and nobody will say that it returned.
    let events = vec![described(&node, "linux")];
    let request = world.request(&n1, "a", 1, &Series::derive("again", 0), 1, events);
    published(world.ask(&request));
    refused(world.claim(&n1, "b", 2), Code::Held, "is instance a");
    world.check();
}

/// The agent of n1 says what its node is: from then on the cluster knows it.
fn describe(world: &mut World, instance: &str, term: u64) {
    let node = NodeName::new("n1").expect("a name");
    let series = Series::derive(&format!("described/{instance}"), term);
    let events = vec![described(&node, "linux")];
    let request = world.request(&agent("n1"), instance, term, &series, 1, events);
    published(world.ask(&request));
}

#[test]
fn a_basis_is_a_place_of_this_history_and_not_before_ones_own_events() {
    let (mut world, series) = led();
    let request = notes(&world, &series, 1, &["a", "b"]);
    let inside = request.basis.expect("it decides").position + 1;
    let place = published(world.ask(&request));
    let fresh = Series::derive("fresh", 0);
    let based = |world: &World, epoch, position| Request {
        basis: Some(Basis { epoch, position }),
        ..notes(world, &fresh, 1, &["c"])
    };
    let Basis { epoch, position } = place.basis();
    let cases = [
        (epoch, inside, "not a place"),        // inside a batch
        (epoch, position + 1, "not a place"),  // not there yet
        (epoch + 1, position, "not a place"),  // of another epoch
        (0, 0, "own last event"),              // before everything
        (epoch, inside - 1, "own last event"), // before its own
    ];
    for (epoch, position, says) in cases {
        let request = based(&world, epoch, position);
        refused(world.ask(&request), Code::StaleBasis, says);
    }
    let request = based(&world, epoch, position);
    published(world.ask(&request));
    world.check();
}

#[test]
fn the_first_who_needs_an_entity_absent_wins() {
    let (mut world, series) = led();
    let shop = AppKey::parse("shop").expect("a name");
    let receipt = |world: &World, series: &Series, n| Request {
        absent: vec!["app/main/shop".to_owned()],
        ..world.request(
            &CONTROLLER,
            "c1",
            1,
            series,
            n,
            vec![draft(AppDeleted { app: shop.clone() })],
        )
    };
    let first = receipt(&world, &series, 1);
    published(world.ask(&first));
    let second = receipt(&world, &series, 2);
    match world.ask(&second) {
        Verdict::Refused { code: Code::Exists, entity, term: 1, .. } => {
            assert_eq!(entity.as_deref(), Some("app/main/shop"));
        }
        other => panic!("{other:?}"),
    }
    // The beginning of an entity's name is not that entity.
    let other = Request { absent: vec!["app/main/sho".to_owned()], ..second };
    published(world.ask(&other));
}

#[test]
fn who_may_not_state_an_event_is_refused() {
    let (mut world, series) = led();
    let n1 = NodeName::new("n1").expect("a name");
    let lost = world.request(
        &CONTROLLER,
        "c1",
        1,
        &series,
        1,
        vec![draft(NodeLost { node: n1.clone(), silent_ms: 1 })],
    );
    refused(world.ask(&lost), Code::NotPermitted, "may not state NodeLost");

    let writer = agent("n1");
    published(world.claim(&writer, "a", 1));
    let description = NodeDescription {
        address: "10.0.0.1".to_owned(),
        arch: "amd64".to_owned(),
        os: "linux".to_owned(),
        engine: "1".to_owned(),
        agent: "1".to_owned(),
        cpu_millis: 1,
        memory_bytes: 1,
        disk_bytes: 1,
        pids: 0,
        labels: std::collections::BTreeMap::new(),
    };
    let n2 = NodeName::new("n2").expect("a name");
    let spool = Series::derive("spool", 0);
    let states = |world: &World, events| world.request(&writer, "a", 1, &spool, 1, events);
    let described = NodeDescribed { node: n2.clone(), description };
    let stray = StrayRemoved { node: n2.clone(), container: "c".to_owned() };
    for event in [draft(described.clone()), draft(stray)] {
        let request = states(&world, vec![event]);
        refused(world.ask(&request), Code::NotPermitted, "speaks of n2");
    }
    let own = NodeDescribed { node: n1, ..described };
    let request =
        Request { basis: Some(world.basis()), ..states(&world, vec![draft(own.clone())]) };
    refused(world.ask(&request), Code::Invalid, "no basis");
    let request = states(&world, vec![draft(own)]);
    published(world.ask(&request));
}

#[test]
fn an_agent_speaks_only_for_replicas_of_its_node() {
    let mut world = World::new();
    let replica = ReplicaId::new("shop-web-aaaaa").expect("a replica");
    world.bound.nodes.insert(replica.clone(), NodeName::new("n2").expect("a name"));
    world.restart();
    world.settle();
    let ready = draft(ReplicaReady { replica, run: 1 });
    for (node, fits) in [("n1", false), ("n2", true)] {
        let writer = agent(node);
        published(world.claim(&writer, "a", 1));
        let series = Series::derive(node, 0);
        let request = world.request(&writer, "a", 1, &series, 1, vec![ready.clone()]);
        let verdict = world.ask(&request);
        if fits {
            published(verdict);
        } else {
            refused(verdict, Code::NotPermitted, "which is on n2");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let (mut world, series) = led();
    let many = notes(&world, &series, 1, &["a"; 501]);
    refused(world.ask(&many), Code::TooLarge, "501 events");
    let large = notes(&world, &series, 1, &["x".repeat(600 * 1024).as_str()]);
    refused(world.ask(&large), Code::TooLarge, "bytes");
    let none = notes(&world, &series, 1, &[]);
    refused(world.ask(&none), Code::Invalid, "without events");
    let mut sung = notes(&world, &series, 1, &["a"]);
    sung.events[0].kind = "AppSung".to_owned();
    refused(world.ask(&sung), Code::Invalid, "no event of this release");
    let mut torn = notes(&world, &series, 1, &["a"]);
    torn.events[0].kind = "AppDeleted".to_owned();
    refused(world.ask(&torn), Code::Invalid, "does not decode");
    // A message that the stream would not take.
    world.window.message_bytes = 2_000;
    world.restart();
    world.settle();
    let fits = notes(&world, &series, 1, &["x".repeat(3_000).as_str()]);
    refused(world.ask(&fits), Code::TooLarge, "the stream takes 2000");
    let first = notes(&world, &series, 1, &["a"]);
    published(world.ask(&first));
}

#[test]
fn names_that_would_break_a_subject_or_an_index_are_refused() {
    let (mut world, series) = led();
    let entity = |object: &str| {
        let fields = std::collections::BTreeMap::new();
        draft(schemas::event::NoteAdded { object: object.to_owned(), text: String::new(), fields })
    };
    for object in ["", "a\0b", "x\n", "x".repeat(600).as_str()] {
        let events = vec![entity(object)];
        let request = world.request(&CONTROLLER, "c1", 1, &series, 1, events);
        refused(world.ask(&request), Code::Invalid, "is not an entity");
    }
    let request = Request { absent: vec!["\0".to_owned()], ..notes(&world, &series, 1, &["a"]) };
    refused(world.ask(&request), Code::Invalid, "is not an entity");
    let mut draft = entity("app/main/shop");
    draft.tenant = Tenant::new("other").expect("a name");
    let request = world.request(&CONTROLLER, "c1", 1, &series, 1, vec![draft]);
    published(world.ask(&request));
}

#[test]
fn junk_is_counted_and_changes_nothing() {
    let (mut world, series) = led();
    let good = notes(&world, &series, 1, &["a"]);
    let good = world.asked(&good);
    let junk = |subject: &str, bytes: &'static [u8]| Asked {
        sequence: 100,
        subject: subject.to_owned(),
        inbox: Some("nobody".to_owned()),
        bytes: bytes.into(),
    };
    let halves = format!(r#"{{"series":"{series}","n":1}}"#);
    let halves = Asked { bytes: halves.into(), ..junk("muster.v1.append.controller", b"") };
    let forged = Asked { subject: "muster.v1.append.health".to_owned(), ..good.clone() };
    let own = Asked { subject: "muster.v1.append.event-log".to_owned(), ..good.clone() };
    world.input(Input::Requests(vec![
        junk("muster.v1.append.controller", b"\xff junk"),
        junk("muster.v1.append.nobody", b"{}"),
        Asked { inbox: Some("halves".to_owned()), ..halves },
        Asked { inbox: Some("forged".to_owned()), ..forged },
        Asked { inbox: Some("own".to_owned()), ..own },
        good.clone(),
    ]));
    world.settle();
    assert_eq!(world.sequencer.counts().junk, 2);
    refused(world.verdict("halves"), Code::Invalid, "does not decode");
    refused(world.verdict("forged"), Code::NotPermitted, "controller may not append on");
    refused(world.verdict("own"), Code::NotPermitted, "may not append on");
    published(world.verdict(&good.inbox.expect("it has one")));
    assert_eq!(world.store.head().expect("readable").position, 3);
}
