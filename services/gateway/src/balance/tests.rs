//! Turns, loads, failures.

use proptest::prelude::*;
use schemas::id::ReplicaId;

use super::*;

fn endpoint(number: u16) -> Endpoint {
    Endpoint {
        replica: ReplicaId::new(&format!("shop-web-{number}")).expect("an id"),
        run: 1,
        address: "127.0.0.1".to_owned(),
        port: number,
        weight: 1,
    }
}

fn of(ports: &[u16]) -> Balancer {
    let mut balancer = Balancer::default();
    let endpoints: Vec<Endpoint> = ports.iter().map(|port| endpoint(*port)).collect();
    balancer.lead(&endpoints);
    balancer
}

fn pick(balancer: &mut Balancer, now_ms: u64) -> Pick {
    balancer.pick(&[], now_ms).expect("there is one")
}

#[test]
fn connections_that_end_at_once_take_turns() {
    let mut balancer = of(&[1, 2, 3]);
    let mut counts = [0; 4];
    for _ in 0..300 {
        let pick = pick(&mut balancer, 0);
        counts[usize::from(pick.endpoint.port)] += 1;
        balancer.closed(pick.id);
    }
    assert_eq!(counts, [0, 100, 100, 100]);
}

#[test]
fn one_that_keeps_its_connections_gets_fewer() {
    let mut balancer = of(&[1, 2, 3]);
    let mut counts = [0; 4];
    for _ in 0..300 {
        let pick = pick(&mut balancer, 0);
        counts[usize::from(pick.endpoint.port)] += 1;
        if pick.endpoint.port != 1 {
            balancer.closed(pick.id);
        }
    }
    assert!(counts[1] < 60 && counts[1] > 0, "{counts:?}");
}

#[test]
fn a_failed_one_is_put_aside_for_longer_and_longer() {
    let mut balancer = of(&[1, 2]);
    let bad = (0..2).map(|_| pick(&mut balancer, 0)).find(|p| p.endpoint.port == 1);
    let bad = bad.expect("both had their turn").id;
    let mut now_ms = 0;
    for wait in [1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
        balancer.failed(bad, now_ms);
        for _ in 0..10 {
            assert_ne!(pick(&mut balancer, now_ms + wait - 1).id, bad);
        }
        now_ms += wait;
        let tried = (0..10).filter(|_| pick(&mut balancer, now_ms).id == bad).count();
        assert_eq!(tried, 1, "after {wait} ms one tries it, and the others wait for what it finds");
    }
    balancer.reached(bad);
    assert!((0..30).any(|_| pick(&mut balancer, now_ms).id == bad));
}

#[test]
fn what_failed_is_tried_last_and_nothing_twice() {
    let mut balancer = of(&[1, 2, 3]);
    let first = pick(&mut balancer, 0);
    balancer.failed(first.id, 0);
    let mut tried = Vec::new();
    while let Some(pick) = balancer.pick(&tried, 0) {
        tried.push(pick.id);
    }
    assert_eq!(tried.len(), 3);
    assert_eq!(tried.last(), Some(&first.id));
}

#[test]
fn what_is_known_stays_with_those_who_stay() {
    let mut balancer = of(&[1, 2]);
    let first = pick(&mut balancer, 0);
    balancer.failed(first.id, 0);
    balancer.lead(&[endpoint(3), first.endpoint.clone()]);
    assert!(balancer.has(first.id));
    assert_ne!(pick(&mut balancer, 0).id, first.id);
    balancer.lead(&[endpoint(3)]);
    assert!(!balancer.has(first.id));
    // It was gone: the same place is another endpoint, which owes nothing to the first.
    balancer.lead(&[endpoint(3), first.endpoint.clone()]);
    balancer.closed(first.id);
    assert!(!balancer.has(first.id));
    assert!((0..2).any(|_| pick(&mut balancer, 0).endpoint == first.endpoint));
}

proptest! {
    /// Whatever happens, only endpoints of the last table are picked, none twice for one client, and
    /// when everything is closed nothing is counted as open.
    #[test]
    fn picks_are_of_the_table_and_are_counted(
        steps in proptest::collection::vec((0_u8..5, 0_u16..6, 0_u64..3_000), 1..200),
    ) {
        let mut balancer = Balancer::default();
        let mut table: Vec<Endpoint> = Vec::new();
        let mut open: Vec<u64> = Vec::new();
        let mut now_ms = 0;
        for (what, number, later) in steps {
            now_ms += later;
            let number = usize::from(number);
            match what {
                0 => {
                    table = (0..6).filter(|n| usize::from(*n) != number).map(endpoint).collect();
                    if number == 0 {
                        table.clear();
                    }
                    balancer.lead(&table);
                }
                1 if number < open.len() => balancer.closed(open.swap_remove(number)),
                2 if number < open.len() => balancer.failed(open[number], now_ms),
                3 if number < open.len() => balancer.reached(open[number]),
                _ => {
                    let mut tried = Vec::new();
                    while let Some(pick) = balancer.pick(&tried, now_ms) {
                        prop_assert!(table.contains(&pick.endpoint));
                        prop_assert!(!tried.contains(&pick.id));
                        tried.push(pick.id);
                        open.push(pick.id);
                    }
                    prop_assert_eq!(tried.len(), table.len());
                }
            }
        }
        for id in open {
            balancer.closed(id);
        }
        prop_assert!(balancer.slots.iter().all(|slot| slot.open == 0));
    }
}
