//! What follows from traffic, beside gateways that count.

use super::bench::Asked;
use super::*;

/// 100 requests a second of each replica, with the usual windows.
fn by_requests(max: u32) -> Autoscale {
    Autoscale { requests_per_second: Some(100), ..Autoscale::of_bounds(1, max) }
}

/// So many requests a second, each answered in 10 ms.
fn requests(per_second: u64) -> Option<Asked> {
    Some(Asked { per_second, p95_us: 10_000, in_flight: per_second / 100 })
}

#[test]
fn more_requests_bring_more_replicas_fewer_take_them_away_and_both_say_what_was_measured() {
    let mut bench = Bench::of(1, by_requests(10));
    bench.asked = requests(200);
    let said = bench.pass(60_000, spread(0));
    let reason = "1 → 2: target tracking: 200.0 requests a second each over 1 replica, target 100, \
                  for 15 s: 1 → 2; term 1";
    assert_eq!(said, [reason]);
    assert_eq!(bench.pass(600_000, spread(0)), [""; 0]);
    bench.asked = requests(0);
    assert_eq!(bench.steps(300_000, spread(0)), [""; 0]);
    assert_eq!(bench.steps(20_000, spread(0)), ["2 → 1"]);
    let said = &bench.said[0];
    assert!(said.contains("0.0 requests a second each over 2 replicas, target 100"), "{said}");
    assert!(said.contains("for 300 s: 2 → 1 (0 wanted, 1 at least)"), "{said}");
    assert_eq!(bench.anomalies(), 0);
}

#[test]
fn traffic_of_which_nothing_is_heard_is_not_taken_for_gone() {
    let mut bench = Bench::of(4, by_requests(10));
    // No gateway was ever heard.
    assert_eq!(bench.pass(2_000_000, spread(0)), [""; 0]);
    bench.asked = requests(400);
    assert_eq!(bench.pass(600_000, spread(0)), [""; 0]);
    // All of them fall silent, and stay so for longer than they are remembered.
    bench.mute = vec!["n1", "n2"];
    assert_eq!(bench.pass(2_000_000, spread(0)), [""; 0]);
    assert_eq!(bench.replicas(), 4);
}

#[test]
fn a_silent_gateway_counts_against_fewer_until_it_is_forgotten() {
    let quick = Autoscale { down_window_ms: 10_000, ..by_requests(10) };
    let mut bench = Bench::of(4, quick);
    bench.asked = requests(400);
    bench.pass(60_000, spread(0));
    // Half of what there is goes through it still.
    bench.mute = vec!["n2"];
    assert_eq!(bench.pass(60_000, spread(0)), [""; 0]);
    assert_eq!(bench.steps(30_000, spread(0)), ["4 → 2"]);
}

#[test]
fn a_gateway_that_joins_does_not_make_what_it_has_not_told_yet_nothing() {
    let quick = Autoscale { up_window_ms: 0, down_window_ms: 0, ..by_requests(10) };
    let mut bench = Bench::of(4, quick);
    bench.asked = requests(400);
    // Its counts of 400 s are no requests of this moment, and its first report says nothing of a rate.
    bench.mute = vec!["n1", "n2"];
    assert_eq!(bench.pass(400_000, spread(0)), [""; 0]);
    bench.mute.clear();
    assert_eq!(bench.pass(60_000, spread(0)), [""; 0]);
}

#[test]
fn a_gateway_that_restarts_counts_from_zero() {
    let quick = Autoscale { up_window_ms: 0, down_window_ms: 0, ..by_requests(10) };
    let mut bench = Bench::of(4, quick);
    bench.asked = requests(400);
    bench.pass(60_000, spread(0));
    for _ in 0..10 {
        bench.restart_gateway("n1");
        assert_eq!(bench.pass(7_000, spread(0)), [""; 0]);
    }
    assert_eq!(bench.replicas(), 4);
}

#[test]
fn slow_answers_bring_more_and_quick_ones_one_fewer_at_a_time() {
    let by_time = Autoscale { p95_ms: Some(200), ..Autoscale::of_bounds(1, 10) };
    let mut bench = Bench::of(2, by_time);
    bench.asked = Some(Asked { per_second: 40, p95_us: 500_000, in_flight: 20 });
    let said = bench.pass(30_000, spread(0));
    assert_eq!(said.len(), 1, "{said:?}");
    let reason = "2 → 4: target tracking: p95 500.0 ms over 2 replicas, target 200 ms, for 15 s";
    assert!(said[0].starts_with(reason), "{said:?}");
    bench.asked = requests(40);
    assert_eq!(bench.steps(1_000_000, spread(0)), ["4 → 3", "3 → 2", "2 → 1"]);
}

#[test]
fn requests_that_nobody_answers_are_no_quick_answers() {
    let by_time = Autoscale { p95_ms: Some(200), ..Autoscale::of_bounds(1, 10) };
    let mut bench = Bench::of(4, by_time);
    bench.asked = requests(40);
    bench.pass(60_000, spread(0));
    bench.asked = Some(Asked { per_second: 40, p95_us: 0, in_flight: 400 });
    assert_eq!(bench.pass(2_000_000, spread(0)), [""; 0]);
}

#[test]
fn what_is_under_way_is_tracked() {
    let by_flight = Autoscale { in_flight: Some(8), ..Autoscale::of_bounds(1, 10) };
    let mut bench = Bench::of(2, by_flight);
    bench.asked = Some(Asked { per_second: 800, p95_us: 1, in_flight: 32 });
    let said = bench.pass(30_000, spread(0));
    assert_eq!(said.len(), 1, "{said:?}");
    let reason = "2 → 4: target tracking: 16.0 requests under way each over 2 replicas, target 8";
    assert!(said[0].starts_with(reason), "{said:?}");
    assert_eq!(bench.pass(600_000, spread(0)), [""; 0]);
}

#[test]
fn of_use_and_traffic_the_one_that_asks_for_more_decides_and_what_is_not_heard_asks_for_what_is() {
    let both = Autoscale { cpu_percent: Some(50), ..by_requests(10) };
    let mut bench = Bench::of(4, both);
    // Idle, and nothing is known of traffic.
    assert_eq!(bench.pass(600_000, spread(0)), [""; 0]);
    // Busy: that is enough for more.
    assert_eq!(bench.steps(40_000, spread(300)), ["4 → 6"]);
    // Traffic asks for eight, also while no use is heard.
    bench.silent = vec!["n1", "n2"];
    bench.asked = requests(800);
    assert_eq!(bench.steps(40_000, spread(0)), ["6 → 8"]);
    bench.asked = requests(100);
    assert_eq!(bench.pass(600_000, spread(0)), [""; 0]);
    bench.silent.clear();
    assert_eq!(bench.steps(400_000, spread(0)), ["8 → 1"]);
}
