//! The autoscaler beside a cluster that does what it asks for, second by second.

mod bench;
mod properties;
mod traffic;

use schemas::event::{IntakeClosed, IntakeOpened, NodeLost, WorkloadScaled};
use schemas::id::Writer;

use super::*;
use bench::{Bench, autoscale, key, spread, web};

#[test]
fn more_use_for_the_whole_window_brings_more_replicas_and_says_why() {
    let mut bench = Bench::of(1, autoscale(1, 10));
    // The first sample that counts is the first after 10 s of being ready; then 15 s of window.
    assert_eq!(bench.pass(28_500, spread(83)), [""; 0]);
    let said = bench.pass(1_000, spread(83));
    assert_eq!(
        said,
        [
            "1 → 2: target tracking: cpu 83 % of reserved over 1 replica, target 50 %, for 15 s: 1 → 2; term 1"
        ]
    );
    assert_eq!(bench.pass(600_000, spread(83)), [""; 0]);
    assert_eq!(bench.anomalies(), 0);
}

#[test]
fn while_disks_are_full_nothing_is_asked_and_afterwards_it_is() {
    let mut bench = Bench::of(1, autoscale(1, 10));
    let (disk, free_bytes) = ("log".to_owned(), 1);
    let closed = IntakeClosed { disk: disk.clone(), free_bytes, needed_bytes: 2 };
    bench.history.add(&Writer::EventLog, closed);
    assert_eq!(bench.pass(120_000, spread(83)), [""; 0]);
    bench.history.add(&Writer::EventLog, IntakeOpened { disk, free_bytes: 3 });
    assert_eq!(bench.steps(5_000, spread(83)), ["1 → 2"]);
}

#[test]
fn a_step_up_at_most_doubles() {
    let mut bench = Bench::of(1, autoscale(1, 10));
    let said = bench.steps(120_000, spread(400));
    assert_eq!(said, ["1 → 2", "2 → 4", "4 → 8"]);
    assert!(bench.said[0].contains("1 → 2 (8 wanted, 2 at once)"), "{}", bench.said[0]);
}

#[test]
fn bounds_hold() {
    let mut bench = Bench::of(2, autoscale(2, 3));
    assert_eq!(bench.steps(120_000, spread(100_000)), ["2 → 3"]);
    assert!(bench.said[0].contains("(2000 wanted, 3 at most)"), "{}", bench.said[0]);
    assert_eq!(bench.steps(900_000, spread(0)), ["3 → 2"]);
    assert!(bench.said[0].contains("(0 wanted, 2 at least)"), "{}", bench.said[0]);
}

#[test]
fn less_use_takes_replicas_away_only_after_the_whole_window() {
    let mut bench = Bench::of(6, autoscale(1, 10));
    assert_eq!(bench.steps(20_000, spread(300)), [""; 0]);
    assert_eq!(bench.steps(290_000, spread(60)), [""; 0]);
    assert_eq!(bench.steps(30_000, spread(60)), ["6 → 2"]);
    let said = &bench.said[0];
    assert!(said.contains("cpu 10 % of reserved over 6 replicas"), "{said}");
    assert!(said.contains("for 300 s: 6 → 2"), "{said}");
}

#[test]
fn a_step_down_goes_to_the_most_of_the_window() {
    let mut bench = Bench::of(6, autoscale(1, 10));
    bench.pass(200_000, spread(60));
    bench.pass(20_000, spread(190));
    assert_eq!(bench.steps(200_000, spread(60)), ["6 → 4"]);
    assert!(bench.said[0].contains("6 → 4 (2 by now)"), "{}", bench.said[0]);
}

#[test]
fn a_peak_shorter_than_the_window_up_changes_nothing() {
    let mut bench = Bench::of(2, autoscale(1, 10));
    for _ in 0..6 {
        assert_eq!(bench.pass(10_000, spread(400)), [""; 0]);
        assert_eq!(bench.pass(10_000, spread(100)), [""; 0]);
    }
}

#[test]
fn of_two_resources_the_one_that_asks_for_more_decides() {
    let both = Autoscale { memory_percent: Some(80), ..autoscale(1, 10) };
    let mut bench = Bench::of(2, both);
    // Cpu would have one; memory, of which 1,000 bytes are reserved, wants four.
    let said = bench.pass(40_000, |_, replicas| (10, 3_000 / replicas));
    assert_eq!(said.len(), 1);
    assert!(said[0].contains("memory 150 % of reserved over 2 replicas, target 80 %"), "{said:?}");
    assert!(said[0].contains("2 → 4"), "{said:?}");
}

#[test]
fn what_is_not_heard_is_held() {
    let mut bench = Bench::of(2, autoscale(1, 10));
    bench.pass(22_000, spread(400));
    bench.silent = vec!["n1", "n2"];
    // One look falls into what is left of the window, with samples still fresh; the rest does not.
    assert_eq!(bench.steps(2_000_000, spread(400)), ["2 → 4"]);
    assert_eq!(bench.steps(2_000_000, spread(0)), [""; 0]);
}

#[test]
fn less_than_half_a_picture_is_none_and_half_a_picture_counts_against_a_change() {
    // Replicas alternate between n1 and n2: two of n1's, one of n2's.
    let mut bench = Bench::of(3, autoscale(1, 10));
    bench.silent = vec!["n1"];
    assert_eq!(bench.steps(600_000, spread(1_000)), [""; 0]);
    bench.silent = vec!["n2"];
    // Two of three at 50 %, the third as idle: enough. At 180 % each, eight are wanted.
    assert_eq!(bench.steps(600_000, |_, _| (50, 0)), [""; 0]);
    let said = bench.pass(20_000, |_, _| (180, 0));
    assert_eq!(said.len(), 1);
    assert!(said[0].contains("cpu 180 % of reserved over 2 of 3 replicas"), "{said:?}");
    assert!(said[0].contains("3 → 6 (8 wanted, 6 at once)"), "{said:?}");
}

#[test]
fn a_replica_is_not_judged_by_its_start() {
    let mut bench = Bench::of(1, autoscale(1, 10));
    // Busy for its first 10 s, then idle: nothing follows, though a window of nothing else passed.
    let quick = Autoscale { up_window_ms: 0, ..autoscale(1, 10) };
    bench.declare(quick);
    assert_eq!(bench.pass(9_500, spread(1_000)), [""; 0]);
    assert_eq!(bench.pass(5_000, spread(40)), [""; 0]);
    assert_eq!(bench.pass(60_000, spread(40)), [""; 0]);
}

#[test]
fn replicas_of_a_lost_node_say_nothing() {
    let mut bench = Bench::of(2, autoscale(2, 10));
    bench.pass(20_000, spread(100));
    let node = cluster::history::node("n2");
    bench.history.add(&Writer::Health, NodeLost { node, silent_ms: 6_000 });
    bench.silent = vec!["n2"];
    // The one that is left bears all of it: what the target asks of two, which are declared.
    assert_eq!(bench.steps(60_000, |_, _| (100, 0)), [""; 0]);
}

#[test]
fn a_new_leader_waits_for_whole_windows() {
    let mut bench = Bench::of(4, autoscale(1, 10));
    bench.pass(290_000, spread(40));
    bench.lead_anew();
    assert_eq!(bench.steps(300_000, spread(40)), [""; 0]);
    let said = bench.pass(20_000, spread(40));
    assert_eq!(said.len(), 1);
    assert!(said[0].ends_with("term 2"), "{said:?}");
}

#[test]
fn a_leader_that_did_not_look_waits_for_whole_windows() {
    let mut bench = Bench::of(2, autoscale(1, 10));
    bench.pass(24_000, spread(400));
    bench.mono_ms += 20_000;
    assert_eq!(bench.pass(14_000, spread(400)), [""; 0]);
    assert_eq!(bench.pass(6_000, spread(400)).len(), 1);
}

#[test]
fn a_command_is_sent_again_until_it_has_an_outcome_and_always_the_same() {
    let mut bench = Bench::of(1, autoscale(1, 10));
    bench.deaf = true;
    bench.pass(29_500, spread(83));
    let first = bench.sent.clone();
    assert_eq!(first.len(), 1);
    // Even where more is wanted by now: one command at a time.
    bench.pass(60_000, spread(400));
    assert!((4..8).contains(&bench.sent.len()), "{}", bench.sent.len());
    assert!(bench.sent.iter().all(|request| *request == first[0]));
    bench.deaf = false;
    bench.answer(first[0].clone());
    bench.sent.clear();
    assert_eq!(bench.replicas(), 2);
    bench.pass(10_000, spread(83));
    assert_eq!(bench.sent, []);
}

#[test]
fn what_a_person_does_first_stands_and_is_judged_anew() {
    let mut bench = Bench::of(1, autoscale(1, 10));
    bench.deaf = true;
    bench.pass(29_500, spread(83));
    let late = bench.sent.remove(0);
    bench.deaf = false;
    bench.scale(5);
    bench.answer(late.clone());
    assert_eq!(bench.replicas(), 5, "the command was about another number");
    assert_eq!(bench.rejected, ["changed_meanwhile"]);
    // A whole window down passes before the chosen number is moved.
    assert_eq!(bench.steps(300_000, spread(83)), [""; 0]);
    assert_eq!(bench.steps(20_000, spread(83)), ["5 → 2"]);
    assert!(bench.sent.iter().all(|request| request.id != late.id));
}

#[test]
fn a_number_that_was_left_and_come_back_to_between_two_looks_stands_for_a_window() {
    let mut bench = Bench::of(1, autoscale(1, 10));
    bench.pass(25_000, spread(83));
    bench.scale(2);
    bench.scale(1);
    assert_eq!(bench.steps(14_000, spread(83)), [""; 0]);
    assert_eq!(bench.steps(4_000, spread(83)), ["1 → 2"]);
}

#[test]
fn a_command_that_others_overtook_is_not_sent_again() {
    let mut bench = Bench::of(1, autoscale(1, 10));
    bench.deaf = true;
    bench.pass(29_500, spread(83));
    assert_eq!(bench.sent.len(), 1);
    bench.scale(5);
    bench.pass(60_000, spread(83));
    assert_eq!(bench.sent.len(), 1);
}

#[test]
fn a_refused_command_is_not_sent_again_for_the_same_state() {
    let mut bench = Bench::of(1, autoscale(1, 10));
    bench.refuse = true;
    bench.pass(300_000, spread(83));
    assert_eq!(bench.sent.len(), 1);
}

#[test]
fn of_one_app_one_command_is_on_its_way_at_a_time() {
    let mut bench = Bench::with(&["api", "web"], 1, autoscale(1, 10));
    assert_eq!(bench.pass(60_000, spread(83)).len(), 2);
    assert_eq!(bench.rejected, [""; 0]);
    let state = bench.history.fold.state();
    let workloads = &state.apps.get(&key()).expect("it is there").workloads;
    assert!(workloads.values().all(|workload| workload.replicas == 2));
}

#[test]
fn another_workload_s_change_only_defers() {
    let mut bench = Bench::with(&["api", "web"], 1, autoscale(1, 10));
    bench.deaf = true;
    bench.pass(29_500, spread(83));
    let late = bench.sent.remove(0);
    bench.deaf = false;
    assert_eq!(late.scale.workload.as_str(), "api");
    // Whatever else changes the app: the position that the command expects is passed.
    let (app, workload) = (key(), web());
    let same = WorkloadScaled { app, workload, from: 1, to: 1, reason: None };
    bench.history.add(&Writer::Controller, same);
    bench.answer(late);
    assert_eq!(bench.steps(1_000, spread(83)), ["1 → 2"]);
}

#[test]
fn without_a_target_nothing_is_done() {
    let mut bench = Bench::of(1, autoscale(1, 10));
    bench.pass(20_000, spread(400));
    bench.declare(None);
    assert_eq!(bench.pass(60_000, spread(400)), [""; 0]);
    bench.declare(autoscale(1, 10));
    assert_eq!(bench.pass(28_000, spread(400)), [""; 0]);
    assert_eq!(bench.pass(3_000, spread(400)).len(), 1);
}
