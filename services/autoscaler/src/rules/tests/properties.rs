//! What holds for any load.

use proptest::prelude::*;

use super::bench::{Bench, spread};
use super::*;

fn autoscaled() -> impl Strategy<Value = (Autoscale, u32)> {
    let windows = (0..4_u64, 1..6_u64);
    (1..6_u32, 0..12_u32, 10..200_u32, windows, 0..12_u32).prop_map(
        |(min, more, percent, (up, down), start)| {
            let autoscale = Autoscale {
                cpu_percent: Some(percent),
                up_window_ms: up * 5_000,
                down_window_ms: down * 20_000,
                ..Autoscale::of_bounds(min, min + more)
            };
            (autoscale, autoscale.nearest(start))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The bench itself asserts it of every command.
    #[test]
    fn nothing_is_asked_for_outside_the_bounds(
        (autoscale, start) in autoscaled(),
        loads in prop::collection::vec((0..5_000_u64, 1..80_u64, any::<bool>()), 1..12),
    ) {
        let mut bench = Bench::of(start, autoscale);
        for (load, seconds, heard) in loads {
            bench.silent = if heard { Vec::new() } else { vec!["n1"] };
            bench.pass(seconds * 1_000, spread(load));
            prop_assert_eq!(autoscale.nearest(bench.replicas()), bench.replicas());
        }
        prop_assert_eq!(bench.anomalies(), 0);
    }

    #[test]
    fn a_constant_load_is_met_and_then_nothing_more_is_asked_for(
        (autoscale, start) in autoscaled(),
        load in 0..3_000_u64,
    ) {
        let mut bench = Bench::of(start, autoscale);
        bench.pass(400_000, spread(load));
        let met = bench.replicas();
        prop_assert_eq!(bench.pass(400_000, spread(load)), [""; 0]);
        // Not too few: at the bound, or within the tolerance of the target.
        let target = u64::from(autoscale.cpu_percent.expect("it is given"));
        let average = load / u64::from(met);
        prop_assert!(met == autoscale.max || average * 10 <= target * 11, "{average} of {target}");
        // Nor too many: one fewer would not do, or the target is near enough.
        let fewer = u64::from(met - 1);
        prop_assert!(
            met == autoscale.min || load > fewer * target || average * 10 >= target * 9 - 10,
            "{load} over {met} of {target}"
        );
    }

    #[test]
    fn what_is_stale_never_changes_anything(
        (autoscale, start) in autoscaled(),
        before in 0..3_000_u64,
        after in 0..3_000_u64,
    ) {
        let mut bench = Bench::of(start, autoscale);
        bench.pass(30_000, spread(before));
        bench.silent = vec!["n1", "n2"];
        // The last samples are fresh for 15 s.
        bench.pass(15_500, spread(after));
        let held = bench.replicas();
        prop_assert_eq!(bench.pass(600_000, spread(after)), [""; 0]);
        prop_assert_eq!(bench.replicas(), held);
    }

    #[test]
    fn a_load_that_returns_within_the_window_down_never_costs_a_replica(
        peak in 100..1_000_u64,
        lulls in prop::collection::vec((0..100_u64, 1..9_u64), 1..8),
    ) {
        let autoscale = Autoscale { down_window_ms: 60_000, ..super::autoscale(1, 20) };
        let mut bench = Bench::of(1, autoscale);
        bench.pass(300_000, spread(peak));
        let met = bench.replicas();
        for (lull, fives) in lulls {
            bench.pass(fives * 5_000, spread(lull));
            prop_assert_eq!(bench.replicas(), met);
            bench.pass(20_000, spread(peak));
            prop_assert_eq!(bench.replicas(), met);
        }
    }
}
