//! Every row of the table.

use schemas::place::Hash;

use super::*;

fn at(position: u64) -> Place {
    Place { epoch: 1, position, hash: Hash::ZERO.extend(&position.to_be_bytes()) }
}

/// A log that ends at `log`, of which `published` was published, and a stream that holds
/// `first..=last`.
fn facts(log: u64, published: u64, first: u64, last: u64) -> Facts {
    let place = |position| if position == 0 { Place::START } else { at(position) };
    Facts {
        log: place(log),
        genesis: (log > 0).then(|| "g".to_owned()),
        published: place(published),
        published_fits: true,
        witnessed_genesis: (published > 0).then(|| "g".to_owned()),
        anchor: published.min(log).min(last),
        stream: Stream { first, last, messages: (last + 1).saturating_sub(first) },
        compared: None,
        standing: Standing { only: true, begins: true, ..Standing::default() },
    }
}

fn equal(facts: Facts) -> Facts {
    Facts { compared: Some(Compared::Equal), ..facts }
}

fn differs(facts: Facts, at: u64, proven: bool, event: bool) -> Facts {
    Facts { compared: Some(Compared::Differs { at, proven, event }), ..facts }
}

#[track_caller]
fn check(facts: &Facts, expected: &Action) {
    assert_eq!(judge(facts), *expected, "{facts:?}");
}

#[track_caller]
fn check_refuses(facts: &Facts, says: &str) {
    match judge(facts) {
        Action::Refuse(refusal) => {
            let text = refusal.to_string();
            assert!(text.contains(says), "{text}");
        }
        action => panic!("{action:?} for {facts:?}"),
    }
}

#[test]
fn both_are_compared_before_anything_else_from_the_published_head_on() {
    check(&facts(10, 8, 1, 10), &Action::Compare { from: 8, to: 10 });
    check(&facts(10, 8, 1, 20), &Action::Compare { from: 8, to: 10 });
    check(&facts(10, 8, 1, 5), &Action::Compare { from: 5, to: 5 });
    check(&facts(10, 8, 10, 20), &Action::Compare { from: 10, to: 10 });
    check(&facts(10, 0, 1, 10), &Action::Compare { from: 1, to: 10 });
}

#[test]
fn equal_takes() {
    check(&equal(facts(10, 10, 1, 10)), &Action::Take);
    check(&equal(facts(10, 7, 1, 10)), &Action::Take);
}

#[test]
fn behind_publishes_the_missing_tail_again() {
    check(&equal(facts(10, 8, 1, 8)), &Action::Publish { from: 9 });
    // NATS lost what it had acknowledged.
    check(&equal(facts(10, 8, 1, 5)), &Action::Publish { from: 6 });
}

#[test]
fn ahead_catches_up() {
    check(&equal(facts(10, 10, 1, 20)), &Action::CatchUp { from: 11, proven: true });
    // The log ends below its witness, and the stream has the rest.
    check(&equal(facts(10, 15, 1, 20)), &Action::CatchUp { from: 11, proven: true });
    // The log's folder is gone; the stream still begins at 1.
    check(&facts(0, 0, 1, 20), &Action::CatchUp { from: 1, proven: false });
    check(&facts(0, 15, 1, 20), &Action::CatchUp { from: 1, proven: false });
    // The stream begins right behind the log.
    check(&facts(10, 10, 11, 20), &Action::CatchUp { from: 11, proven: false });
}

#[test]
fn ahead_with_a_gap_refuses() {
    check_refuses(&facts(10, 10, 12, 20), "begins at 12");
    check_refuses(&facts(0, 0, 5, 20), "begins at 5");
    check_refuses(&facts(0, 0, 21, 20), "(last 20)");
}

#[test]
fn a_log_below_its_published_head_refuses_when_the_stream_has_no_more() {
    check_refuses(&equal(facts(10, 15, 1, 10)), "published up to 15@1");
    check_refuses(&equal(facts(10, 15, 1, 8)), "published up to 15@1");
    check_refuses(&facts(10, 15, 1, 0), "published up to 15@1");
    check_refuses(&facts(0, 15, 1, 0), "published up to 15@1");
}

#[test]
fn different_above_the_published_head_sets_mine_aside() {
    check(&differs(facts(10, 8, 1, 10), 9, true, true), &Action::SetAside { from: 9 });
    check(&differs(facts(10, 8, 1, 30), 9, true, false), &Action::SetAside { from: 9 });
    // Nothing of mine was ever published.
    check(&differs(facts(1, 0, 1, 1), 1, true, true), &Action::SetAside { from: 1 });
    // By hand, into a stream that had just been seated.
    check(&differs(facts(10, 8, 9, 9), 9, false, false), &Action::SetAside { from: 9 });
}

#[test]
fn different_at_or_below_the_published_head_refuses() {
    check_refuses(&differs(facts(10, 8, 1, 10), 8, false, true), "differs from the log at");
    check_refuses(&differs(facts(10, 8, 1, 10), 8, false, false), "differs from the log at");
    check_refuses(&differs(facts(10, 8, 9, 10), 9, false, true), "another history");
}

#[test]
fn another_genesis_refuses() {
    let other = Facts { witnessed_genesis: Some("h".to_owned()), ..facts(10, 8, 1, 10) };
    check_refuses(&other, "history g");
    let other = Facts { published_fits: false, ..facts(10, 8, 1, 10) };
    check_refuses(&other, "not what the witness file saw");
}

#[test]
fn gone_or_empty_begins_or_is_seated() {
    check(&facts(0, 0, 1, 0), &Action::Genesis);
    check(&facts(10, 8, 1, 0), &Action::Seat { next: 9 });
    check(&facts(10, 8, 6, 5), &Action::Seat { next: 9 });
    // Seated.
    check(&facts(10, 8, 9, 8), &Action::Publish { from: 9 });
    check(&facts(10, 10, 11, 10), &Action::Take);
    // Nothing was ever published.
    check(&facts(1, 0, 1, 0), &Action::Publish { from: 1 });
}

#[test]
fn emptied_by_hand_above_the_published_head_refuses() {
    check_refuses(&facts(10, 8, 10, 9), "cannot be compared");
    check_refuses(&facts(10, 8, 13, 12), "begins at 13");
}
