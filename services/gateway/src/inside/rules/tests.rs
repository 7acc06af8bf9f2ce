//! What the packet filter is told.

use proptest::prelude::*;

use super::*;

const SOCKETS: Sockets = Sockets { streams: 4001, names_tcp: 4002, names_udp: 4003 };

fn none() -> Rules {
    let range = Range::DEFAULT.parse().expect("the default is one");
    Rules::of(range, SOCKETS, &Map::default(), &BTreeMap::new())
}

#[test]
fn only_the_name_server_is_served_at_first_and_all_else_is_refused() {
    let text = none().install();
    for line in [
        "table ip muster_10_201",
        "delete table ip muster_10_201",
        "ip daddr 10.201.0.0/16 meta l4proto { tcp, udp } meta l4proto . ip daddr . th dport != @served goto closed",
        "ip daddr 10.201.0.0/16 meta l4proto tcp dnat to 10.201.0.1:4001",
        "add element ip muster_10_201 served { tcp . 10.201.0.1 . 53, udp . 10.201.0.1 . 53 }",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert_eq!(none().change(&none()), "");
    let one = Rules { datagrams: [((Ipv4Addr::new(10, 201, 0, 9), 53), 5000)].into(), ..none() };
    let moved = Rules { datagrams: [((Ipv4Addr::new(10, 201, 0, 9), 53), 5001)].into(), ..none() };
    assert_eq!(
        one.change(&moved),
        "delete element ip muster_10_201 datagrams { 10.201.0.9 . 53 }\n\
         add element ip muster_10_201 datagrams { 10.201.0.9 . 53 : 10.201.0.1 . 5001 }\n",
    );
}

/// The sets after a text, by name.
fn follow(
    mut sets: BTreeMap<String, BTreeSet<String>>,
    text: &str,
) -> BTreeMap<String, BTreeSet<String>> {
    for line in text.lines() {
        let (head, elements) = line.split_once(" { ").expect("elements");
        let elements = elements.strip_suffix(" }").expect("their end").split(", ");
        let words: Vec<&str> = head.split(' ').collect();
        let set = sets.entry(words[4].to_owned()).or_default();
        for element in elements {
            let key = element.split(" : ").next().unwrap_or_default().to_owned();
            match words[0] {
                "delete" => {
                    let there = set.iter().find(|e| e.split(" : ").next() == Some(&key)).cloned();
                    // One that is not there makes the kernel refuse everything.
                    assert!(set.remove(&there.expect("what goes was there")), "{element}");
                }
                "add" => {
                    let taken = set.iter().any(|e| e.split(" : ").next() == Some(&key));
                    assert!(!taken, "{element} is there already");
                    set.insert(element.to_owned());
                }
                other => panic!("{other}"),
            }
        }
    }
    sets.retain(|_, set| !set.is_empty());
    sets
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let port = || (any::<bool>(), 0_u8..4, 0_u16..4);
    let ports = || prop::collection::btree_set(port(), 0..8);
    let datagrams = prop::collection::btree_map((0_u8..4, 0_u16..4), 4000_u16..4003, 0..6);
    let sources = prop::collection::btree_set(0_u8..6, 0..5);
    (ports(), ports(), datagrams, sources).prop_map(|(served, far, datagrams, sources)| {
        let port = |(udp, host, port): (bool, u8, u16)| {
            let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
            (protocol, Ipv4Addr::new(10, 201, 1, host), port)
        };
        Rules {
            near: served.iter().map(|entry| (port(*entry).0, entry.2)).collect(),
            served: served.into_iter().map(port).collect(),
            far: far.into_iter().map(port).collect(),
            datagrams: datagrams
                .into_iter()
                .map(|((host, port), to)| ((Ipv4Addr::new(10, 201, 1, host), port), to))
                .collect(),
            sources: sources
                .into_iter()
                .map(|net| Ipv4Net::new_assert(Ipv4Addr::new(172, 18 + net, 0, 0), 16))
                .collect(),
            ..none()
        }
    })
}

proptest! {
    #[test]
    fn a_change_leads_from_any_rules_to_any_others(one in any_rules(), other in any_rules()) {
        let empty = || Rules { served: BTreeSet::new(), ..none() };
        let whole = |rules: &Rules| follow(BTreeMap::new(), &empty().change(rules));
        prop_assert_eq!(follow(whole(&one), &one.change(&other)), whole(&other));
    }
}
