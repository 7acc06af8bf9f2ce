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
        known_fits: false,
        witnessed_genesis: (published > 0).then(|| "g".to_owned()),
        anchor: published.min(log).min(last),
        stream: Stream { first, last, messages: (last + 1).saturating_sub(first) },
        compared: None,
        sought: None,
        standing: Standing { only: true, begins: true, ..Standing::default() },
    }
}

fn equal(facts: Facts) -> Facts {
    Facts { compared: Some(Compared::Equal { proven: true }), ..facts }
}

fn gone(facts: Facts, at: u64, proven: bool) -> Facts {
    Facts { compared: Some(Compared::Gone { at, proven }), ..facts }
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

#[test]
fn one_of_several_waits_for_what_follows_in_a_stream_that_the_leader_made_go_on() {
    let emptied = one_of_several(facts(45, 42, 46, 45));
    check(&emptied, &Action::Wait(Waiting::Leader));
    // Nobody leads any more: it goes on waiting, and says for whom.
    let waits = Waiting::Emptied { published: at(42), last: 45 };
    assert!(waits.to_string().contains("delete the stream"), "{waits}");
    check(&silent(emptied.clone()), &Action::Wait(waits.clone()));
    // One that led has lost what it was about: it ends, and others need not wait for it.
    check_refuses(&leading(emptied.clone()), "cannot be compared");
    // What others have seen is in its log, or not.
    let seen = |position, known_fits| Facts { known_fits, ..known(emptied.clone(), 1, position) };
    check(&seen(45, true), &Action::Believe { head: at(45) });
    check(&seen(44, true), &Action::Believe { head: at(44) });
    check(&seen(45, false), &Action::Wait(waits.clone()));
    check(&seen(42, true), &Action::Wait(waits));
    check(&silent(facts(45, 45, 46, 45)), &Action::Take);
    check(&silent(facts(46, 45, 46, 45)), &Action::Publish { from: 46 });
    // Its next event is there.
    let went_on = one_of_several(facts(45, 42, 46, 46));
    check(&went_on, &Action::SetAside { from: 43 });
    check(&one_of_several(facts(42, 42, 46, 46)), &Action::Bridge { from: 43, to: 45 });
}

/// The same, for one of several of which nothing else is known.
fn one_of_several(facts: Facts) -> Facts {
    Facts { standing: Standing::default(), ..facts }
}

fn silent(facts: Facts) -> Facts {
    Facts { standing: Standing { silent: true, ..Standing::default() }, ..facts }
}

fn leading(facts: Facts) -> Facts {
    Facts { standing: Standing { leads: true, ..Standing::default() }, ..facts }
}

fn known(facts: Facts, epoch: u64, position: u64) -> Facts {
    let known = Place { epoch, ..at(position) };
    Facts { standing: Standing { silent: true, known, ..Standing::default() }, ..facts }
}

#[test]
fn one_of_several_follows_until_the_leader_is_silent() {
    check(&one_of_several(equal(facts(10, 10, 1, 10))), &Action::Follow);
    check(&one_of_several(facts(10, 10, 11, 10)), &Action::Follow);
    check(&silent(equal(facts(10, 10, 1, 10))), &Action::Take);
    // It catches up whoever leads.
    let ahead = Action::CatchUp { from: 11, proven: true };
    check(&one_of_several(equal(facts(10, 10, 1, 20))), &ahead);
    check(&silent(equal(facts(10, 10, 1, 20))), &ahead);
}

#[test]
fn one_without_room_takes_nothing_over() {
    let full = |facts: Facts| {
        let standing = Standing { full: true, ..facts.standing };
        Facts { standing, ..facts }
    };
    check(&full(silent(equal(facts(10, 10, 1, 10)))), &Action::Follow);
    let room = Action::Wait(Waiting::Room);
    check(&full(silent(equal(facts(10, 10, 1, 5)))), &room);
    check(&full(silent(facts(10, 8, 1, 0))), &room);
    let begins = Standing { begins: true, silent: true, full: true, ..Standing::default() };
    check(&Facts { standing: begins, ..facts(0, 0, 1, 0) }, &room);
    // What it is for already it goes on with, and the only one has nobody to leave it to.
    check(&full(leading(equal(facts(10, 10, 1, 10)))), &Action::Take);
    check(&full(equal(facts(10, 10, 1, 10))), &Action::Take);
}

#[test]
fn only_the_leader_mends_the_stream_while_it_is_heard() {
    for (behind, mends) in [
        (equal(facts(10, 10, 1, 5)), Action::Publish { from: 6 }),
        (facts(10, 8, 1, 0), Action::Seat { next: 9 }),
    ] {
        check(&one_of_several(behind.clone()), &Action::Wait(Waiting::Leader));
        check(&leading(behind.clone()), &mends);
        check(&silent(behind), &mends);
    }
    check(&leading(equal(facts(10, 10, 1, 10))), &Action::Take);
}

#[test]
fn one_below_a_known_head_never_takes() {
    let waits = |known| Action::Wait(Waiting::Below { log: at(10), known });
    let higher = Place { epoch: 1, ..at(11) };
    check(&known(equal(facts(10, 10, 1, 10)), 1, 11), &waits(higher));
    check(&known(equal(facts(10, 10, 1, 5)), 1, 11), &waits(higher));
    // Epoch before position.
    check(&known(equal(facts(10, 10, 1, 10)), 2, 3), &waits(Place { epoch: 2, ..at(3) }));
    check(&known(equal(facts(10, 10, 1, 10)), 0, 50), &Action::Take);
    // The same by its own witness.
    check(&silent(equal(facts(10, 15, 1, 10))), &waits(at(15)));
}

#[test]
fn an_operator_may_give_up_what_is_lost() {
    let accepts = |facts, only| {
        let standing = Standing {
            only,
            silent: true,
            accepts_loss: true,
            known: at(15),
            ..Standing::default()
        };
        Facts { standing, ..facts }
    };
    for only in [true, false] {
        check(&accepts(equal(facts(10, 15, 1, 10)), only), &Action::Take);
        check(&accepts(equal(facts(10, 15, 1, 8)), only), &Action::Publish { from: 9 });
        check(&accepts(facts(10, 15, 1, 0), only), &Action::Seat { next: 11 });
    }
}

#[test]
fn what_another_gave_up_goes() {
    let differs = one_of_several(differs(facts(10, 8, 1, 30), 7, false, true));
    check(&differs, &Action::Seek { to: 7 });
    let sought = |sought| Facts { sought: Some(sought), ..differs.clone() };
    check(&sought(Sought::GivenUp { at: 5 }), &Action::SetAside { from: 5 });
    check_refuses(&sought(Sought::Nothing), "differs from the log at position 7");
}

#[test]
fn a_gap_is_bridged_by_one_of_several_behind_what_it_published() {
    check(&one_of_several(facts(10, 10, 15, 20)), &Action::Bridge { from: 11, to: 14 });
    check(&silent(facts(10, 10, 15, 20)), &Action::Bridge { from: 11, to: 14 });
    check(&one_of_several(facts(10, 8, 15, 20)), &Action::SetAside { from: 9 });
    let differs_in_the_end = differs(facts(10, 5, 10, 20), 10, false, true);
    check(&one_of_several(differs_in_the_end), &Action::SetAside { from: 6 });
    // What was pipelined behind a foreign message is in the stream as it is in the log, and void.
    check(&one_of_several(facts(10, 5, 10, 20)), &Action::SetAside { from: 6 });
    let differs_at_the_first = differs(facts(10, 8, 9, 20), 9, false, true);
    check(&one_of_several(differs_at_the_first), &Action::SetAside { from: 9 });
    check(&one_of_several(facts(0, 0, 21, 20)), &Action::Bridge { from: 1, to: 20 });
}

#[test]
fn what_the_stream_let_go_of_while_it_was_read_is_not_taken_for_equal() {
    // Another may have gone on where mine was never published.
    for proven in [true, false] {
        let gone = gone(facts(10, 8, 1, 30), 9, proven);
        check(&one_of_several(gone.clone()), &Action::SetAside { from: 9 });
        check(&silent(gone.clone()), &Action::SetAside { from: 9 });
        check(&leading(gone.clone()), &Action::SetAside { from: 9 });
        // There is no other.
        check(&gone, &Action::CatchUp { from: 11, proven });
    }
    // What is all published was mine; whether the stream is of this history, what follows tells.
    let unproven = Some(Compared::Equal { proven: false });
    let unproven = Facts { compared: unproven, ..facts(10, 10, 1, 20) };
    check(&one_of_several(unproven.clone()), &Action::CatchUp { from: 11, proven: false });
    check(&unproven, &Action::CatchUp { from: 11, proven: false });
}

#[test]
fn a_history_is_begun_by_who_may_and_in_silence() {
    let may = |silent| {
        let standing = Standing { begins: true, silent, ..Standing::default() };
        Facts { standing, ..facts(0, 0, 1, 0) }
    };
    check(&silent(facts(0, 0, 1, 0)), &Action::Wait(Waiting::History));
    check(&may(false), &Action::Wait(Waiting::Leader));
    check(&may(true), &Action::Genesis);
}
