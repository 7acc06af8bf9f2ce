//! Reads of a written history.

use std::collections::BTreeMap;

use schemas::envelope::Header;
use schemas::event::{Event, NoteAdded};
use schemas::id::{AppKey, CommandId};
use schemas::read::{
    LogPage, LogRequest, Moment, MomentRequest, SnapshotPart, SnapshotRequest, StatePage,
    StateRequest,
};

use super::past::{self, Past};
use super::{Answered, log, snapshot};
use crate::index;
use crate::store::Store;
use crate::store::fake::FakeStore;
use crate::testing::Written;
use crate::view::{View, write_snapshot};

fn note(object: &str) -> Event {
    let (text, fields) = ("a".to_owned(), BTreeMap::new());
    NoteAdded { object: object.to_owned(), text, fields }.into()
}

fn command(n: u64) -> CommandId {
    CommandId::new(&format!("c{n}")).expect("an id")
}

/// 1: the start; then 200 batches of three at 1,000 ms, 2,000 ms and so on: ana's on shop, then two
/// of bo's, on shop and on cart, in turns.
fn history() -> (FakeStore, View) {
    let mut written = Written::new(FakeStore::new());
    for n in 1..=200 {
        let actor = if n % 2 == 1 { "ana" } else { "bo" };
        let object = if n % 4 == 0 { "app/main/cart" } else { "app/main/shop" };
        let events = vec![note(object); 3];
        written.batch(n * 1_000, actor, Some(&command(n / 10)), &events);
    }
    let view = View::default();
    view.advance(&written.store, written.store.head().expect("readable")).expect("it folds");
    (written.store, view)
}

fn decoded<T: serde::de::DeserializeOwned>(answered: Answered) -> T {
    serde_json::from_slice(&answered.expect("an answer")).expect("it decodes")
}

fn page((store, view): &(FakeStore, View), request: &LogRequest) -> LogPage {
    decoded(log(store, view, request))
}

fn headers(page: &LogPage) -> Vec<Header> {
    let events = page.events.iter();
    events.map(|event| Header::decode(event.get().as_bytes()).expect("an event").0).collect()
}

fn positions(page: &LogPage) -> Vec<u64> {
    headers(page).iter().map(|header| header.position).collect()
}

#[test]
fn a_page_is_between_positions_and_between_times() {
    let history = history();
    let request = LogRequest { from: 3, to: Some(5), ..LogRequest::default() };
    assert_eq!(positions(&page(&history, &request)), [3, 4, 5]);
    let request =
        LogRequest { since_ms: Some(2_001), until_ms: Some(4_999), ..LogRequest::default() };
    assert_eq!(positions(&page(&history, &request)), [8, 9, 10, 11, 12, 13]);
    let request = LogRequest { since_ms: Some(200_001), ..LogRequest::default() };
    assert!(positions(&page(&history, &request)).is_empty());
    let request = LogRequest { until_ms: Some(999), ..LogRequest::default() };
    assert_eq!(positions(&page(&history, &request)), [1]);
}

#[test]
fn every_filter_of_a_page_must_agree() {
    let history = history();
    let all = LogRequest {
        entity: Some("app/main/shop".to_owned()),
        actor: Some("bo".to_owned()),
        correlation: Some(command(3)),
        kinds: vec!["NoteAdded".to_owned()],
        ..LogRequest::default()
    };
    // Batches 30 to 39, the even ones, not those on cart: 30, 34 and 38.
    let expected = [89, 90, 91, 101, 102, 103, 113, 114, 115];
    assert_eq!(positions(&page(&history, &all)), expected);
    let newest = LogRequest { newest: true, limit: Some(4), ..all.clone() };
    assert_eq!(positions(&page(&history, &newest)), [103, 113, 114, 115]);
    let first = LogRequest { limit: Some(2), ..all.clone() };
    let first = page(&history, &first);
    assert_eq!((positions(&first), first.next), (vec![89, 90], None));
    for none in [
        LogRequest { kinds: vec!["AppDeleted".to_owned()], ..all.clone() },
        LogRequest { actor: Some("cy".to_owned()), ..all.clone() },
        LogRequest { correlation: Some(command(99)), ..all.clone() },
        LogRequest { entity: Some("app/main/none".to_owned()), ..all.clone() },
    ] {
        assert!(positions(&page(&history, &none)).is_empty(), "{none:?}");
    }
}

#[test]
fn what_no_index_has_is_found_by_going_on_where_an_empty_page_says() {
    let mut written = Written::new(FakeStore::new());
    for _ in 0..45 {
        written.batch(1, "bo", None, &vec![note("app/main/shop"); 500]);
    }
    written.batch(1, "ana", None, &[note("app/main/shop")]);
    let head = written.store.head().expect("readable");
    let view = View::default();
    view.advance(&written.store, head).expect("it folds");
    let history = (written.store, view);
    let request = LogRequest { actor: Some("ana".to_owned()), ..LogRequest::default() };
    let rare = page(&history, &request);
    assert_eq!((positions(&rare), rare.next), (vec![22_502], None), "an index has it");
    let kinds = vec!["SequencerTaken".to_owned(), "PositionVoided".to_owned()];
    for newest in [false, true] {
        let kinds = kinds.clone();
        let mut request = LogRequest { kinds, newest, ..LogRequest::default() };
        let (mut found, mut empty) = (Vec::new(), 0);
        loop {
            let page = page(&history, &request);
            found.extend(positions(&page));
            empty += u32::from(page.events.is_empty());
            match page.next {
                Some(next) if newest => request.to = Some(next),
                Some(next) => request.from = next,
                None => break,
            }
        }
        assert_eq!(found, [1], "newest: {newest}");
        assert_eq!(empty, 2, "one answer looks at only so much");
    }
}

#[test]
fn pages_of_the_newest_hold_every_event_once() {
    let mut written = Written::new(FakeStore::new());
    for n in 0..20 {
        written.batch(n, "ana", None, &vec![note("app/main/shop"); 500]);
    }
    let head = written.store.head().expect("readable");
    let view = View::default();
    view.advance(&written.store, head).expect("it folds");
    let history = (written.store, view);
    for entity in [None, Some("app/main/shop".to_owned())] {
        let first = if entity.is_some() { 2 } else { 1 };
        let mut request = LogRequest { newest: true, entity, ..LogRequest::default() };
        let mut pages = Vec::new();
        loop {
            let page = page(&history, &request);
            pages.push(positions(&page));
            let Some(next) = page.next else { break };
            request.to = Some(next);
        }
        assert!(pages.len() > 1, "they do not fit one page");
        let all: Vec<u64> = pages.into_iter().rev().flatten().collect();
        assert_eq!(all, (first..=head.position).collect::<Vec<_>>());
    }
}

#[test]
fn a_moment_is_the_last_end_of_a_batch_before() {
    let (store, view) = history();
    let place = |at| store.row(at).expect("readable").expect("there").place;
    let moment = |position, time_ms| -> Moment {
        decoded(past::moment(&store, &view, &MomentRequest { position, time_ms }))
    };
    assert_eq!(moment(Some(4), None), Moment { place: place(4), recorded_ms: 1_000 });
    assert_eq!(moment(Some(6), None), Moment { place: place(4), recorded_ms: 1_000 });
    assert_eq!(moment(Some(0), None).place.position, 0);
    assert_eq!(moment(None, Some(999)), Moment { place: place(1), recorded_ms: 0 });
    assert_eq!(moment(None, Some(2_000)), Moment { place: place(7), recorded_ms: 2_000 });
    assert_eq!(moment(None, Some(u64::MAX)).place, place(601));
    assert_eq!(moment(None, None).place, place(601));
    let request = MomentRequest { position: Some(602), time_ms: None };
    assert_eq!(past::moment(&store, &view, &request).expect_err("not yet").0, 425);
}

/// Apps that come one by one, so that every state is another.
fn growing() -> (FakeStore, View) {
    let text = include_str!("../../../../schemas/golden/v1/event/AppDeployed.json");
    let golden = schemas::envelope::Envelope::decode(text.trim().as_bytes()).expect("it decodes");
    let mut written = Written::new(FakeStore::new());
    let view = View::default();
    for n in 1..=30 {
        let Event::AppDeployed(mut deployed) = golden.event.clone() else { panic!("another") };
        deployed.app = AppKey::parse(&format!("app{n}")).expect("a name");
        written.batch(n * 1_000, "ana", None, &[deployed.into(), note("app/main/x")]);
        view.advance(&written.store, written.store.head().expect("readable")).expect("it folds");
        if n % 10 == 0 {
            write_snapshot(&written.store, &view.fold()).expect("it is written");
        }
    }
    (written.store, view)
}

#[test]
fn the_state_of_then_is_that_of_a_fold_that_ends_there() {
    let (store, view) = growing();
    let past = Past::default();
    for at in [61, 60, 59, 3, 1, 0, 40, 41, 42, 43, 21, 20, 22] {
        let request = StateRequest { at: Some(at), ..StateRequest::default() };
        let page: StatePage = decoded(past.state(&store, &view, &request));
        let ends = if at == 0 { 0 } else { at - (at + 1) % 2 };
        assert_eq!(page.place.position, ends, "at {at}");
        assert_eq!(page.apps.len() as u64, ends / 2, "at {at}");
    }
    let request = StateRequest { at: Some(62), ..StateRequest::default() };
    assert_eq!(past.state(&store, &view, &request).expect_err("not yet").0, 425);
}

#[test]
fn a_snapshot_is_the_newest_at_or_below() {
    let (store, view) = growing();
    let fold_version = cluster::FOLD_VERSION;
    let at = |at| {
        let request = SnapshotRequest { fold_version, at, ..SnapshotRequest::default() };
        decoded::<SnapshotPart>(snapshot(&store, &view, &request)).place.position
    };
    assert_eq!(at(None), 61);
    assert_eq!([61, 60, 41, 40, 21, 20].map(|n| at(Some(n))), [61, 41, 41, 21, 21, 0]);
}

#[test]
fn a_spoiled_snapshot_is_skipped_for_an_older_one() {
    let (store, view) = growing();
    store.spoil_snapshot(41);
    let request = StateRequest { at: Some(45), ..StateRequest::default() };
    let page: StatePage = decoded(Past::default().state(&store, &view, &request));
    assert_eq!((page.place.position, page.apps.len()), (45, 22));
    store.spoil_snapshot(61);
    let opened = View::open(&store, None).expect("readable");
    assert_eq!(opened.fold().place().position, 21);
}

#[test]
fn a_log_from_before_the_indexes_is_indexed_at_a_start() {
    let (store, view) = history();
    let before = store.indexes();
    store.forget_index();
    assert!(!index::fill(&store, &|| false).expect("it is readable"), "not when it is to end");
    assert_ne!(store.indexes(), before);
    assert!(index::fill(&store, &|| true).expect("it is written"));
    assert_eq!(store.indexes(), before);
    let request = LogRequest { correlation: Some(command(7)), ..LogRequest::default() };
    assert_eq!(positions(&page(&(store, view), &request)).len(), 30);
}

#[test]
fn types_are_found_together_and_in_order() {
    let (store, view) = growing();
    let history = (store, view);
    let kinds = vec!["AppDeployed".to_owned(), "NoteAdded".to_owned()];
    for (newest, expected) in [(false, vec![2, 3, 4]), (true, vec![59, 60, 61])] {
        let request =
            LogRequest { kinds: kinds.clone(), limit: Some(3), newest, ..LogRequest::default() };
        assert_eq!(positions(&page(&history, &request)), expected);
    }
    let kinds = vec!["SequencerTaken".to_owned(), "PositionVoided".to_owned()];
    let request = LogRequest { kinds, ..LogRequest::default() };
    assert_eq!(positions(&page(&history, &request)), [1], "read from the log itself");
}
