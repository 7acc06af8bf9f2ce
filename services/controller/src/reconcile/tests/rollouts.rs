//! Rollouts: how many at once, what is gone back to, and what is held until it went well.

use schemas::event::{RolloutPaused, RolloutPromoted, RolloutResumed};
use schemas::report::{Traffic as Went, TrafficReport};
use schemas::spec::{Step, Update, UpdateStrategy};

use super::*;

fn updated(image: &str, replicas: u32, update: Update) -> (WorkloadName, WorkloadSpec) {
    let (name, spec) = web(image, replicas);
    (name, WorkloadSpec { update, ..spec })
}

fn rolling(max_surge: Option<u32>, max_unavailable: u32, parallelism: u32) -> Update {
    Update { max_surge, max_unavailable, parallelism, ..Update::default() }
}

fn by(strategy: UpdateStrategy) -> Update {
    Update { strategy, ..Update::default() }
}

fn canary(steps: &[(u32, Option<u64>)]) -> Update {
    let steps = steps.iter().map(|(weight_percent, hold_ms)| Step {
        weight_percent: *weight_percent,
        hold_ms: *hold_ms,
    });
    by(UpdateStrategy::Canary { steps: steps.collect() })
}

impl World {
    /// A world in which `web:1` has converged.
    fn with(replicas: u32, update: &Update) -> Self {
        let mut world = World::new();
        world.deploy(&[updated("web:1", replicas, update.clone())]);
        world.settle();
        world
    }

    fn shop(&self) -> &App {
        self.state().apps.get(&app("shop")).expect("it is there")
    }

    /// How many ready replicas there are of an image.
    fn of(&self, image: &str) -> usize {
        let ready = self.state().replicas.iter().filter(|(_, r)| {
            r.phase == Phase::Ready
                && r.retired.is_none()
                && self.state().spec_of(r).is_some_and(|spec| spec.image == image)
        });
        ready.count()
    }

    fn ids(&self) -> Vec<ReplicaId> {
        self.state().replicas.iter().map(|(id, _)| id.clone()).collect()
    }

    fn has_said(&self, what: &str) -> bool {
        self.said.iter().any(|said| said == what)
    }

    fn until(&mut self, what: &str) {
        for _ in 0..500 {
            if self.has_said(what) {
                return;
            }
            self.step();
        }
        panic!("{what} never was said: {:?}", self.said);
    }

    fn of_log<T>(&self, pick: impl Fn(Event) -> Option<T>) -> Vec<T> {
        let decoded = self
            .history
            .entries
            .iter()
            .map(|entry| schemas::envelope::Envelope::decode(entry).expect("it decodes").event);
        decoded.filter_map(pick).collect()
    }

    /// Every replica got so many requests more, of which so many of an image failed.
    fn serve(&mut self, requests: u64, image: &str, failed: u64) {
        let replicas = self.state().replicas.iter().map(|(id, replica)| {
            let bad = self.state().spec_of(replica).is_some_and(|spec| spec.image == image);
            Went {
                replica: id.clone(),
                requests,
                failed: if bad { failed } else { 0 },
                in_flight: 0,
                rate_milli: 0,
                p50_us: 0,
                p95_us: 0,
                p99_us: 0,
            }
        });
        let report = TrafficReport {
            node: node("n1"),
            instance: "one".to_owned(),
            time_ms: 0,
            replicas: replicas.collect(),
            calls: Vec::new(),
            ways: Vec::new(),
        };
        let state = self.history.fold.state();
        let _ = self.traffic.hear(&report, state);
    }
}

#[test]
fn where_none_may_stand_beside_an_old_one_ends_first_and_no_more_is_missing_than_allowed() {
    let update = rolling(Some(0), 1, 2);
    let mut world = World::with(3, &update);
    (world.floor, world.ceiling) = (Some(3), 0);
    world.deploy(&[updated("web:2", 3, update)]);
    let said = world.settle();
    let expected = ["-1 web Replaced", "+1 web"].repeat(3);
    assert_eq!(said[..6], expected[..], "{said:?}");
    assert_eq!((world.floor, world.ceiling, world.of("web:2")), (Some(2), 3, 3));
}

#[test]
fn more_may_stand_beside_and_more_be_missing_at_once() {
    let update = rolling(Some(1), 1, 2);
    let mut world = World::with(4, &update);
    (world.floor, world.ceiling) = (Some(4), 0);
    world.deploy(&[updated("web:2", 4, update)]);
    let said = world.settle();
    assert_eq!(said[..2], ["+1 web", "-1 web Replaced"], "{said:?}");
    assert!(world.ceiling <= 5 && world.floor >= Some(3), "{:?} {:?}", world.ceiling, world.floor);
    assert_eq!(world.of("web:2"), 4);
}

#[test]
fn what_must_end_first_goes_one_at_a_time_too() {
    let fixed = |image: &str| {
        let (name, spec) = web(image, 2);
        (name, WorkloadSpec { overlap: Overlap::Never, ..spec })
    };
    let mut world = World::new();
    world.deploy(&[fixed("web:1")]);
    world.settle();
    world.floor = Some(2);
    world.deploy(&[fixed("web:2")]);
    let said = world.settle();
    assert_eq!(said[..4], ["-1 web Replaced", "+1 web", "-1 web Replaced", "+1 web"], "{said:?}");
    assert_eq!(world.floor, Some(1));
}

#[test]
fn recreating_ends_all_before_any_begins() {
    let update = by(UpdateStrategy::Recreate);
    let mut world = World::with(3, &update);
    world.ceiling = 0;
    world.deploy(&[updated("web:2", 3, update)]);
    assert_eq!(world.settle(), ["-3 web Replaced", "+3 web", "AppConverged"]);
    assert_eq!((world.ceiling, world.of("web:2")), (3, 3));
}

#[test]
fn a_revision_whose_replicas_fail_makes_room_for_the_one_before() {
    let mut world = World::with(3, &Update::default());
    world.scale(4);
    world.settle();
    let before = world.ids();
    world.broken = vec!["web:2"];
    world.floor = Some(4);
    world.deploy(&[web("web:2", 2)]);
    let said = world.settle();
    assert!(said.contains(&"RolloutFailed".to_owned()), "{said:?}");
    assert_eq!((said.last().map(String::as_str), world.floor), (Some("AppConverged"), Some(2)));
    assert_eq!((world.of("web:1"), world.shop().revision), (4, 3), "as many as it was scaled to");
    assert!(world.ids().iter().filter(|id| before.contains(id)).count() >= 2, "some never ended");
    let failed = world.shop().rolled_back.clone().expect("it is remembered");
    assert_eq!(failed.revision, 2);
    assert!(failed.reason.contains("3 replicas failed: exited with 1"), "{}", failed.reason);
}

#[test]
fn a_replica_that_does_not_stay_up_shows_it_with_what_it_wrote() {
    let mut world = World::with(3, &Update::default());
    let before = world.ids();
    world.looping = vec!["web:2"];
    world.floor = Some(3);
    let from_ms = world.history.now_ms;
    world.deploy(&[web("web:2", 3)]);
    world.until("RolloutFailed");
    assert!(world.history.now_ms < from_ms + 15_000, "it was seen soon");
    world.settle();
    assert_eq!((world.ids(), world.floor), (before, Some(3)), "no replica of before was touched");
    let failed = world.of_log(|event| match event {
        Event::RolloutFailed(failed) => Some(failed),
        _ => None,
    });
    let [failed] = failed.as_slice() else { panic!("{failed:?}") };
    assert_eq!((failed.revision, failed.back_to), (2, 1));
    let evidence = failed.evidence.clone().expect("there is some");
    assert_eq!((evidence.exit_code, evidence.last_lines.len()), (Some(3), 1));
    let at = usize::try_from(failed.evidence_at.expect("it says where")).expect("small");
    let told = String::from_utf8(world.history.entries[at - 1].clone()).expect("JSON");
    assert!(told.contains("RunEnded"), "{told}");
}

#[test]
fn a_revision_that_is_not_ready_in_time_has_failed() {
    let update = Update { deadline_ms: 20_000, ..Update::default() };
    let mut world = World::with(2, &update);
    world.ill = vec!["web:2"];
    world.deploy(&[updated("web:2", 2, update)]);
    let said = world.settle();
    assert!(said.contains(&"RolloutFailed".to_owned()), "{said:?}");
    assert_eq!((world.of("web:1"), world.shop().revision), (2, 3));
}

#[test]
fn an_image_that_no_node_can_get_has_failed() {
    let mut world = World::with(2, &Update::default());
    world.imageless = vec![node("n1"), node("n2")];
    world.deploy(&[web("web:2", 2)]);
    let said = world.settle();
    assert!(said.contains(&"RolloutFailed".to_owned()), "{said:?}");
    let failed = world.shop().rolled_back.clone().expect("it is remembered");
    assert!(failed.reason.contains("no node can get its image"), "{}", failed.reason);
    assert_eq!(world.of("web:1"), 2);
}

#[test]
fn what_fits_nowhere_stalls_and_is_not_taken_back() {
    let mut world = World::with(2, &Update::default());
    for name in ["n1", "n2"] {
        let event = NodeCordoned { node: node(name), drain: false };
        world.history.add(&Writer::Controller, event);
    }
    world.deploy(&[web("web:2", 2)]);
    world.step();
    let unfit = Unfit { reason: "admission".into(), nodes: 2, remedy: String::new() };
    let (app, workload) = (app("shop"), workload("web"));
    let event = ReplicasUnplaced { app, workload, waiting: 1, reasons: vec![unfit] };
    world.history.add(&Writer::Scheduler, event);
    world.until("AppStalled");
    for _ in 0..400 {
        world.step();
    }
    assert!(!world.has_said("RolloutFailed"), "{:?}", world.said);
    assert_eq!((world.of("web:1"), world.shop().revision), (2, 2));
}

#[test]
fn a_first_revision_that_fails_has_nothing_to_go_back_to() {
    let mut world = World::new();
    world.broken = vec!["web:1"];
    world.deploy(&[web("web:1", 2)]);
    for _ in 0..400 {
        world.step();
    }
    assert!(world.has_said("AppStalled") && !world.has_said("RolloutFailed"), "{:?}", world.said);
    // The second one goes nowhere back either: the first never ran.
    world.broken = vec!["web:1", "web:2"];
    world.deploy(&[web("web:2", 2)]);
    for _ in 0..400 {
        world.step();
    }
    assert!(!world.has_said("RolloutFailed"), "{:?}", world.said);
}

#[test]
fn what_was_gone_back_to_and_fails_too_stalls() {
    let update = by(UpdateStrategy::Recreate);
    let mut world = World::with(2, &update);
    world.broken = vec!["web:1", "web:2"];
    world.deploy(&[updated("web:2", 2, update)]);
    for _ in 0..600 {
        world.step();
    }
    let count = |what: &str| world.said.iter().filter(|said| *said == what).count();
    assert_eq!((count("RolloutFailed"), count("AppStalled")), (1, 1), "{:?}", world.said);
    assert_eq!(world.shop().revision, 3);
    // Somebody mends it: that is a declaration like any other.
    world.broken = Vec::new();
    world.deploy(&[web("web:3", 2)]);
    world.settle();
    assert_eq!((world.of("web:3"), world.shop().rolled_back.is_none()), (2, true));
}

#[test]
fn a_command_that_comes_meanwhile_wins() {
    let mut world = World::with(3, &Update::default());
    world.looping = vec!["web:2"];
    world.deploy(&[web("web:2", 3)]);
    for _ in 0..3 {
        world.step();
    }
    world.deploy(&[web("web:3", 3)]);
    let said = world.settle();
    assert!(!said.contains(&"RolloutFailed".to_owned()), "{said:?}");
    assert_eq!((world.of("web:3"), world.shop().revision), (3, 3));
}

#[test]
fn a_canary_stands_beside_the_old_ones_until_it_went_well() {
    let update = canary(&[(20, Some(30_000)), (50, None)]);
    let mut world = World::with(4, &update);
    let before = world.ids();
    world.floor = Some(4);
    world.deploy(&[updated("web:2", 4, update)]);
    let from_ms = world.history.now_ms;
    world.until("RolloutStepped");
    assert!(world.history.now_ms >= from_ms + 30_000, "it was held");
    assert_eq!((world.of("web:1"), world.of("web:2")), (4, 1));
    for _ in 0..100 {
        world.step();
    }
    assert_eq!((world.of("web:1"), world.of("web:2")), (4, 2), "it waits to be promoted");
    assert!(before.iter().all(|id| world.ids().contains(id)), "nothing of before has ended");
    // One of the old ones is lost with its node: another of its kind takes its place.
    world.history.add(&Writer::Health, NodeLost { node: node("n1"), silent_ms: 6_000 });
    for _ in 0..20 {
        world.step();
    }
    let known = |world: &World, image: &str| {
        let ready = world.state().replicas.iter().filter(|(_, r)| {
            r.phase == Phase::Ready
                && !world.state().is_unknown(r)
                && r.retired.is_none()
                && world.state().spec_of(r).is_some_and(|spec| spec.image == image)
        });
        ready.count()
    };
    assert_eq!((known(&world, "web:1"), known(&world, "web:2")), (4, 2));
    world.history.add(&Writer::Health, NodeReturned { node: node("n1"), silent_ms: 0 });
    world.floor = Some(4);
    let (app, workload) = (app("shop"), workload("web"));
    let promoted = RolloutPromoted { app, workload, revision: 2, measured: None };
    world.history.add(&Writer::Controller, promoted);
    world.settle();
    assert_eq!((world.of("web:1"), world.of("web:2"), world.count()), (0, 4, 4));
    assert!(world.floor >= Some(4), "{:?}", world.floor);
}

#[test]
fn a_canary_that_fails_leaves_the_old_ones_as_they_were() {
    let update = canary(&[(20, Some(30_000))]);
    let mut world = World::with(4, &update);
    let before = world.ids();
    world.looping = vec!["web:2"];
    world.floor = Some(4);
    world.deploy(&[updated("web:2", 4, update)]);
    world.settle();
    assert_eq!((world.ids(), world.floor), (before, Some(4)));
    assert_eq!(world.shop().rolled_back.as_ref().map(|failed| failed.revision), Some(2));
}

#[test]
fn blue_green_stands_beside_as_a_whole_and_then_takes_over_at_once() {
    let update = by(UpdateStrategy::BlueGreen { promote_after_ms: Some(20_000) });
    let mut world = World::with(3, &update);
    world.deploy(&[updated("web:2", 3, update)]);
    world.until("RolloutPromoted");
    assert_eq!((world.of("web:1"), world.of("web:2")), (3, 3));
    world.said.clear();
    assert_eq!(world.settle(), ["-3 web Replaced", "AppConverged"]);
    assert_eq!((world.of("web:2"), world.count()), (3, 3));
}

#[test]
fn scaling_a_held_rollout_scales_what_serves() {
    let update = canary(&[(50, None)]);
    let mut world = World::with(2, &update);
    world.deploy(&[updated("web:2", 2, update)]);
    for _ in 0..20 {
        world.step();
    }
    assert_eq!((world.of("web:1"), world.of("web:2")), (2, 1));
    world.scale(6);
    for _ in 0..20 {
        world.step();
    }
    assert_eq!((world.of("web:1"), world.of("web:2")), (6, 3));
    world.scale(2);
    for _ in 0..20 {
        world.step();
    }
    assert_eq!((world.of("web:1"), world.of("web:2")), (2, 1));
}

#[test]
fn a_paused_rollout_stays_where_it_is_and_what_is_lost_is_still_replaced() {
    let mut world = World::with(3, &Update::default());
    world.deploy(&[web("web:2", 3)]);
    world.until("-1 web Replaced");
    let (app, workload) = (app("shop"), workload("web"));
    let paused = RolloutPaused { app: app.clone(), workload: workload.clone(), revision: 2 };
    world.history.add(&Writer::Controller, paused);
    for _ in 0..60 {
        world.step();
    }
    assert_eq!(world.of("web:1"), 2, "nothing more has ended: {:?}", world.said);
    assert!(world.of("web:2") <= 2, "and no more has begun: {:?}", world.said);
    world.history.add(&Writer::Controller, RolloutResumed { app, workload, revision: 2 });
    world.settle();
    assert_eq!((world.of("web:1"), world.of("web:2")), (0, 3));
}

#[test]
fn a_revision_of_which_more_requests_fail_is_taken_back() {
    let update = canary(&[(50, None)]);
    let mut world = World::with(2, &update);
    world.serve(1_000, "web:1", 20);
    world.deploy(&[updated("web:2", 2, update.clone())]);
    for _ in 0..20 {
        world.step();
    }
    world.serve(1_010, "web:2", 100);
    world.step();
    assert!(world.has_said("RolloutFailed"), "{:?}", world.said);
    let failed = world.shop().rolled_back.clone().expect("it is remembered");
    assert!(failed.reason.contains("of 1000 requests failed"), "{}", failed.reason);
    world.settle();
    assert_eq!((world.of("web:1"), world.of("web:2")), (2, 0));

    // One that fails no more than the old one goes on, and so does one of which too little is known.
    for (requests, failed) in [(1_000, 40), (15, 15)] {
        let mut world = World::with(2, &update);
        world.serve(1_000, "web:1", 20);
        world.deploy(&[updated("web:2", 2, update.clone())]);
        for _ in 0..20 {
            world.step();
        }
        world.serve(requests, "web:2", failed);
        world.step();
        assert!(!world.has_said("RolloutFailed"), "{:?}", world.said);
    }
}

#[test]
fn two_that_are_to_take_the_same_place_are_counted_both() {
    let held = |image: &str| updated(image, 2, canary(&[(50, None)]));
    let mut world = World::with(2, &Update::default());
    world.ill = vec!["web:2"];
    world.deploy(&[web("web:2", 2)]);
    world.step();
    // What was to take the place of an old one stands beside it now, and another takes its place.
    world.deploy(&[held("web:2")]);
    world.history.add(&Writer::Controller, NodeCordoned { node: node("n1"), drain: true });
    world.step();
    let places: Vec<_> =
        world.state().replicas.iter().filter_map(|(_, r)| r.replaces.clone()).collect();
    assert!(places.len() >= 2 && places[0] == places[1], "{places:?}");
    // All of them are of the old part of this one, which has two and another for one of them.
    world.deploy(&[held("web:3")]);
    world.step();
    let old = world.state().replicas.iter().filter(|(_, replica)| {
        let spec = world.state().spec_of(replica);
        replica.retired.is_none() && spec.is_some_and(|spec| spec.image != "web:3")
    });
    assert!(old.count() <= 3, "{:?}", world.said);
    world.settle();
    assert_eq!((world.of("web:1"), world.of("web:2"), world.of("web:3")), (2, 0, 1));
}
