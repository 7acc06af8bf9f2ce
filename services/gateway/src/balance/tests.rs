//! Turns, loads, speeds, failures, weights, keys.

use proptest::prelude::*;
use schemas::id::ReplicaId;

use super::*;

fn endpoint(number: u16) -> Endpoint {
    Endpoint {
        replica: ReplicaId::new(&format!("shop-web-{number}")).expect("an id"),
        run: 1,
        node: node(if number.is_multiple_of(2) { "even" } else { "odd" }),
        address: "127.0.0.1".to_owned(),
        port: number,
        weight: 1,
    }
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).expect("a name")
}

fn lead(balancer: &mut Balancer<u16>, endpoints: &[Endpoint], now_ms: u64) {
    balancer.lead(endpoints, now_ms, |endpoint| endpoint.port);
}

fn of(ports: &[u16]) -> Balancer<u16> {
    let mut balancer = Balancer::default();
    let endpoints: Vec<Endpoint> = ports.iter().map(|port| endpoint(*port)).collect();
    lead(&mut balancer, &endpoints, 0);
    balancer
}

fn pick(balancer: &mut Balancer<u16>, now_ms: u64) -> Pick<u16> {
    balancer.pick(Want::Any, &[], now_ms).expect("there is one")
}

/// How often each of them is picked out of so many times, each ending before the next.
fn counts(balancer: &mut Balancer<u16>, times: u32, want: Want, now_ms: u64) -> [u32; 10] {
    let mut counts = [0; 10];
    for _ in 0..times {
        let pick = balancer.pick(want, &[], now_ms).expect("there is one");
        counts[usize::from(pick.site)] += 1;
        balancer.closed(pick.id);
    }
    counts
}

#[test]
fn what_ends_at_once_is_spread_evenly() {
    let counts = counts(&mut of(&[1, 2, 3]), 300, Want::Any, 0);
    assert!(counts[1..4].iter().all(|count| (90..=110).contains(count)), "{counts:?}");
}

#[test]
fn in_turn_means_exactly_so() {
    let mut balancer = of(&[1, 2, 3]);
    balancer.choose(How::RoundRobin);
    let order: Vec<u16> = (0..6).map(|_| pick(&mut balancer, 0).site).collect();
    assert_eq!(order, [1, 2, 3, 1, 2, 3]);
}

#[test]
fn one_that_keeps_its_connections_gets_fewer() {
    let mut balancer = of(&[1, 2, 3]);
    let mut counts = [0; 4];
    for _ in 0..300 {
        let pick = pick(&mut balancer, 0);
        counts[usize::from(pick.site)] += 1;
        if pick.site != 1 {
            balancer.closed(pick.id);
        }
    }
    assert!(counts[1] < 60 && counts[1] > 0, "{counts:?}");
}

#[test]
fn a_slow_one_gets_fewer_until_that_is_long_ago() {
    let mut balancer = of(&[1, 3]);
    let take = |balancer: &mut Balancer<u16>, now_ms| {
        let mut slow = 0;
        for _ in 0..100 {
            let pick = pick(balancer, now_ms);
            let after_us = if pick.site == 1 { 50_000 } else { 1_000 };
            slow += u32::from(pick.site == 1);
            balancer.answered(pick.id, after_us, now_ms);
            balancer.closed(pick.id);
        }
        slow
    };
    take(&mut balancer, 0);
    let slow = take(&mut balancer, 1);
    assert!((1..10).contains(&slow), "{slow}");
    assert!(counts(&mut balancer, 100, Want::Any, 300_000)[1] > 30, "it is tried again");
}

#[test]
fn of_those_that_are_as_good_more_goes_to_the_one_on_the_same_node() {
    let mut balancer = Balancer::on(node("odd"));
    let endpoints: Vec<Endpoint> = [1, 2, 4].map(endpoint).to_vec();
    lead(&mut balancer, &endpoints, 0);
    let even = counts(&mut balancer, 300, Want::Any, 0);
    assert!(even[1] > 140 && even[2] > 40 && even[4] > 40, "{even:?}");
    let busy: Vec<_> = (0..60).map(|_| pick(&mut balancer, 0)).collect();
    let local = busy.iter().filter(|pick| pick.site == 1).count();
    assert!((18..=30).contains(&local), "a busy one is not as good: {local} of 60");
}

#[test]
fn weights_split_whatever_else_is_known() {
    let mut balancer = Balancer::on(node("odd"));
    let mut endpoints = [1, 2, 4].map(endpoint);
    endpoints[0].weight = 10;
    endpoints[1].weight = 45;
    endpoints[2].weight = 45;
    lead(&mut balancer, &endpoints, 0);
    let split = counts(&mut balancer, 1_000, Want::Any, 0);
    assert!((80..=120).contains(&split[1]), "{split:?}");
    balancer.choose(How::RoundRobin);
    let split = counts(&mut balancer, 1_000, Want::Any, 0);
    assert_eq!(split[1], 100);
    endpoints[0].weight = 0;
    lead(&mut balancer, &endpoints, 0);
    assert_eq!(counts(&mut balancer, 100, Want::Any, 0)[1], 0);
    lead(&mut balancer, &endpoints[..1], 0);
    assert_eq!(counts(&mut balancer, 10, Want::Any, 0)[1], 10, "the last one serves");
}

#[test]
fn one_that_joins_others_gets_its_share_little_by_little() {
    let mut balancer = of(&[1, 3]);
    let endpoints = [1, 3, 5].map(endpoint);
    lead(&mut balancer, &endpoints, 1_000);
    let mut shares = Vec::new();
    for now_ms in [1_000, 6_000, 11_000] {
        shares.push(counts(&mut balancer, 300, Want::Any, now_ms)[5]);
    }
    assert!(shares[0] < 40 && shares[0] > 0, "{shares:?}");
    assert!((40..90).contains(&shares[1]), "{shares:?}");
    assert!((85..115).contains(&shares[2]), "{shares:?}");
}

#[test]
fn a_failed_one_is_put_aside_for_longer_and_longer() {
    let mut balancer = of(&[1, 2]);
    let bad = (0..9).map(|_| pick(&mut balancer, 0)).find(|p| p.site == 1);
    let bad = bad.expect("both had their turn").id;
    let mut now_ms = 0;
    for wait in [1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
        balancer.failed(bad, now_ms);
        for _ in 0..10 {
            assert_ne!(pick(&mut balancer, now_ms + wait - 1).id, bad);
        }
        now_ms += wait;
        let tried = (0..60).filter(|_| pick(&mut balancer, now_ms).id == bad).count();
        assert_eq!(tried, 1, "after {wait} ms one tries it, and the others wait for what it finds");
    }
    balancer.reached(bad);
    assert!((0..60).any(|_| pick(&mut balancer, now_ms).id == bad));
}

#[test]
fn one_that_is_looked_after_is_tried_by_no_client_until_it_is_reached_or_nothing_else_is_left() {
    let mut balancer = of(&[1, 2]);
    let ids: Vec<u64> = balancer.sites().map(|(id, _)| id).collect();
    let [bad, other] = ids[..] else { panic!("{ids:?}") };
    balancer.failed(bad, 0);
    assert!(balancer.look_after(bad));
    assert!(!balancer.look_after(bad), "by one at a time");
    assert_eq!(balancer.next_look(bad, 400), Some(600));
    balancer.failed(bad, 1_000);
    assert_eq!(balancer.next_look(bad, 1_000), Some(2_000));
    assert!((0..60).all(|_| pick(&mut balancer, 3_600_000).id == other));
    let last = balancer.pick(Want::Any, &[other], 3_600_000);
    assert_eq!(last.map(|pick| pick.id), Some(bad), "it is better than nothing");
    balancer.reached(bad);
    assert!((0..60).any(|_| pick(&mut balancer, 3_600_000).id == bad), "at once");
    assert_eq!(balancer.next_look(bad, 3_600_000), None);
    balancer.failed(bad, 3_600_000);
    assert!(balancer.look_after(bad), "the one before looks no more");
    lead(&mut balancer, &[endpoint(2)], 0);
    assert_eq!(balancer.next_look(bad, 3_600_000), None);
    assert!(!balancer.look_after(bad));
}

#[test]
fn what_is_on_a_machine_that_says_nothing_is_found_out_before_it_is_picked() {
    let at = |number: u16, address: &str| Endpoint { address: address.into(), ..endpoint(number) };
    let mut balancer = Balancer::default();
    let endpoints = [at(1, "10.0.0.1"), at(2, "10.0.0.1"), at(3, "10.0.0.2"), at(4, "10.0.0.1")];
    lead(&mut balancer, &endpoints, 0);
    let ids: Vec<u64> = balancer.sites().map(|(id, _)| id).collect();
    balancer.failed(ids[0], 0);
    balancer.failed(ids[3], 0);
    assert_eq!(balancer.doubted(ids[0], 500), [ids[1]], "one failed already, one is elsewhere");
    assert!(balancer.look_after(ids[1]));
    assert_eq!(balancer.next_look(ids[1], 500), Some(0), "that is done at once");
    assert!((0..60).all(|_| pick(&mut balancer, 999).id == ids[2]));
    balancer.reached(ids[1]);
    assert!((0..60).any(|_| pick(&mut balancer, 999).id == ids[1]));
    assert!(balancer.doubted(999, 0).is_empty(), "it is not there any more");
}

#[test]
fn those_that_answer_badly_are_put_aside_and_never_more_than_half() {
    let mut balancer = of(&[1, 3, 5, 7]);
    let ids: Vec<u64> = balancer.sites().map(|(id, _)| id).collect();
    for _ in 0..4 {
        assert!(!balancer.disappointed(ids[0], 0), "a few times is no reason");
    }
    balancer.answered(ids[0], 10, 0);
    for _ in 0..4 {
        assert!(!balancer.disappointed(ids[0], 0), "only in a row it is");
    }
    assert!(balancer.disappointed(ids[0], 0));
    assert_eq!(counts(&mut balancer, 100, Want::Any, 4_999)[1], 0);
    for id in &ids[1..] {
        for _ in 0..20 {
            balancer.disappointed(*id, 0);
        }
    }
    assert_eq!(balancer.ejected(0), 2);
    assert!(counts(&mut balancer, 100, Want::Any, 5_000)[1] > 0, "it gets another chance");
    for _ in 0..5 {
        balancer.disappointed(ids[0], 5_000);
    }
    assert_eq!(counts(&mut balancer, 100, Want::Any, 14_999)[1], 0, "the next time is longer");
    assert!(counts(&mut balancer, 100, Want::Any, 15_000)[1] > 0);
    let mut alone = of(&[1]);
    assert!((0..100).all(|_| !alone.disappointed(1, 0)), "the only one always serves");
}

#[test]
fn what_failed_is_tried_last_and_nothing_twice() {
    let mut balancer = of(&[1, 2, 3]);
    let first = pick(&mut balancer, 0);
    balancer.failed(first.id, 0);
    let mut tried = Vec::new();
    while let Some(pick) = balancer.pick(Want::Any, &tried, 0) {
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
    let mut same = endpoint(first.site);
    same.weight = 7;
    lead(&mut balancer, &[endpoint(3), same.clone()], 0);
    assert!(balancer.has(first.id), "another weight makes it no other endpoint");
    assert_ne!(pick(&mut balancer, 0).id, first.id);
    lead(&mut balancer, &[endpoint(3)], 0);
    assert!(!balancer.has(first.id));
    // It was gone: the same place is another endpoint, which owes nothing to the first.
    lead(&mut balancer, &[endpoint(3), same], 0);
    balancer.closed(first.id);
    assert!(!balancer.has(first.id));
    assert!((0..60).any(|_| pick(&mut balancer, 0).site == first.site));
}

#[test]
fn a_mark_leads_back_as_long_as_its_endpoint_is_well() {
    let mut balancer = of(&[1, 2, 3]);
    let want = Want::Marked(mark(endpoint(2).replica.as_str().as_bytes()));
    assert_eq!(counts(&mut balancer, 10, want, 0)[2], 10);
    let marked = balancer.pick(want, &[], 0).expect("it is there");
    balancer.failed(marked.id, 0);
    assert_eq!(counts(&mut balancer, 10, want, 0)[2], 0);
}

proptest! {
    /// One that goes moves only the keys it had, and one that comes takes only what it gets.
    #[test]
    fn keys_stay_where_they_are(gone in 1_u16..8, keys in proptest::collection::vec(any::<u64>(), 50)) {
        let all: Vec<u16> = (1..8).collect();
        let rest: Vec<u16> = all.iter().copied().filter(|port| *port != gone).collect();
        let (mut before, mut after) = (of(&all), of(&rest));
        for key in keys {
            let had = before.pick(Want::Key(key), &[], 0).expect("there is one").site;
            let has = after.pick(Want::Key(key), &[], 0).expect("there is one").site;
            prop_assert!(had == gone || had == has, "key {key} was at {had} and is at {has}");
        }
    }

    /// Keys are spread as the weights say.
    #[test]
    fn keys_are_spread(seed in any::<u64>()) {
        let mut balancer = Balancer::default();
        let mut endpoints = [1, 2].map(endpoint);
        endpoints[0].weight = 3;
        lead(&mut balancer, &endpoints, 0);
        let first = (0..2_000_u64)
            .filter(|n| balancer.pick(Want::Key(seed.wrapping_add(*n)), &[], 0).expect("one").site == 1)
            .count();
        prop_assert!((1_350..1_650).contains(&first), "{first} of 2000");
    }

    /// Whatever happens, only endpoints of the last table are picked, none twice for one client, at
    /// most half of them are put aside for their answers, and when everything is closed nothing is
    /// counted as open.
    #[test]
    fn picks_are_of_the_table_and_are_counted(
        steps in proptest::collection::vec((0_u8..8, 0_u16..6, 0_u64..3_000), 1..200),
        in_turn in any::<bool>(),
    ) {
        let mut balancer = Balancer::on(node("even"));
        if in_turn {
            balancer.choose(How::RoundRobin);
        }
        let mut table: Vec<Endpoint> = Vec::new();
        let mut open: Vec<u64> = Vec::new();
        let mut now_ms = 0;
        for (what, number, later) in steps {
            now_ms += later;
            let at = usize::from(number);
            match what {
                0 => {
                    table = (0..6).filter(|n| *n != number).map(endpoint).collect();
                    table.iter_mut().for_each(|e| e.weight = u32::from(e.port % 3));
                    if number == 0 {
                        table.clear();
                    }
                    lead(&mut balancer, &table, now_ms);
                }
                1 if at < open.len() => balancer.closed(open.swap_remove(at)),
                2 if at < open.len() => balancer.failed(open[at], now_ms),
                3 if at < open.len() => balancer.reached(open[at]),
                4 if at < open.len() => balancer.answered(open[at], later, now_ms),
                5 if at < open.len() => {
                    for _ in 0..5 {
                        let before = balancer.ejected(now_ms);
                        let now = before + usize::from(balancer.disappointed(open[at], now_ms));
                        prop_assert!(now == before || now * 2 <= table.len());
                    }
                }
                _ => {
                    let mut tried = Vec::new();
                    let want = [Want::Any, Want::Key(later), Want::Marked(later)][at % 3];
                    while let Some(pick) = balancer.pick(want, &tried, now_ms) {
                        prop_assert!(table.iter().any(|endpoint| endpoint.port == pick.site));
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
