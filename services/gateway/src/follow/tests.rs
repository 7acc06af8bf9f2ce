//! What the follower makes of histories, whole and broken.

use cluster::history::{History, app, replica, workload};
use schemas::event::{
    AppDeleteStarted, AppDeployed, ReplicasRetired, RetireReason, SequencerTaken,
};
use schemas::id::Writer;
use schemas::spec::{AppSpec, Open, Port, WorkloadSpec};

use super::*;
use crate::inside::map::tests as map;

fn history() -> History {
    let mut history = History::default();
    let mut spec = WorkloadSpec::of_image("web:1");
    let published = Some(80);
    spec.ports = vec![Port {
        container: 8080,
        published,
        host: None,
        protocol: Default::default(),
        app: Default::default(),
    }];
    let spec = AppSpec { name: app("shop").name, workloads: [(workload("web"), spec)].into() };
    history.add(&Writer::Controller, AppDeployed { app: app("shop"), revision: 1, spec });
    history.node("n1", 1, 1);
    history
}

fn follower(fold: Fold) -> Follower {
    Follower::new(fold, cluster::history::node("n1"))
}

fn read(follower: &mut Follower, entries: &[Vec<u8>]) -> Vec<Need> {
    entries.iter().filter_map(|entry| follower.take(Read::Entry(entry.clone()))).collect()
}

#[test]
fn a_table_comes_at_the_end_of_history_and_when_something_changed() {
    let mut history = history();
    let mut follower = follower(Fold::new());
    assert_eq!(read(&mut follower, &history.entries), []);
    assert_eq!(follower.table(), None, "what was served in the past is not served now");
    assert!(follower.waits_for().is_some());
    assert_eq!(follower.take(Read::CaughtUp), None);
    assert_eq!(follower.waits_for(), None);
    assert_eq!(follower.table().expect("a table").routes.len(), 1);
    assert_eq!(follower.table(), None, "nothing has changed since");
    let mut after = |history: &mut History, change: &dyn Fn(&mut History)| {
        let known = history.entries.len();
        change(history);
        assert_eq!(read(&mut follower, &history.entries[known..]), []);
        follower.table()
    };
    let joined = after(&mut history, &|history| {
        history.node("n2", 1, 1);
    });
    assert_eq!(joined, None, "it changes nothing of the table");
    let deleted = after(&mut history, &|history| {
        history.add(&Writer::Controller, AppDeleteStarted { app: app("shop") });
    });
    let deleted = deleted.expect("a table");
    assert_eq!((deleted.routes.len(), deleted.place), (0, history.fold.place()));
}

#[test]
fn a_change_of_what_requests_lead_to_alone_is_told() {
    let mut history = history();
    let mut follower = Follower::new(history.fold.clone(), cluster::history::node("n1"));
    assert_eq!(follower.take(Read::CaughtUp), None);
    let first = follower.table().expect("a table");
    let app_now = history.fold.state().apps.get(&app("shop")).expect("it is declared");
    let declared = app_now.workloads[&workload("web")].spec.clone();
    let mut spec = app_now.specs[&declared].clone();
    spec.routes = vec![serde_json::from_str(r#"{"host":"shop.test"}"#).expect("a route")];
    let spec = AppSpec { name: app("shop").name, workloads: [(workload("web"), spec)].into() };
    history.add(&Writer::Controller, AppDeployed { app: app("shop"), revision: 2, spec });
    let entry = history.entries.last().expect("it was added").clone();
    assert_eq!(follower.take(Read::Entry(entry)), None);
    let told = follower.table().expect("a table");
    assert_eq!(told.routes, first.routes);
    assert_ne!(told.web, first.web);
}

#[test]
fn what_left_is_told_of_whether_or_not_the_table_knew_it() {
    let mut history = history();
    let mut follower = follower(history.fold.clone());
    assert_eq!(follower.take(Read::CaughtUp), None);
    let first = follower.table().expect("a table");
    let mut after = |history: &mut History, writer: &Writer, event: Event| {
        history.add(writer, event);
        let entry = history.entries.last().expect("it was added").clone();
        assert_eq!(follower.take(Read::Entry(entry)), None);
        follower.table()
    };
    let retired = |leaving| ReplicasRetired {
        app: app("shop"),
        workload: workload("web"),
        replicas: Vec::new(),
        reason: RetireReason::ScaledDown,
        leaving,
    };
    let told = after(&mut history, &Writer::Controller, retired(false).into());
    assert_eq!(told, None);
    let told = after(&mut history, &Writer::Controller, retired(true).into()).expect("a table");
    assert_eq!((&told.routes, told.place), (&first.routes, history.fold.place()));
    // A place of an epoch that is over says nothing of the next one.
    let (instance, genesis, accept_loss) = ("log-2".to_owned(), None, None);
    let taken = SequencerTaken { instance, after: 0, genesis, accept_loss };
    let told = after(&mut history, &Writer::EventLog, taken.into()).expect("a table");
    assert_eq!(told.place.epoch, first.place.epoch + 1);
}

#[test]
fn what_is_reached_by_name_alone_is_told_of_and_counts_as_led_to() {
    let mut history = map::three();
    map::deploy(&mut history, "shop", Open::No);
    let mut follower = follower(history.fold.clone());
    assert_eq!(follower.take(Read::CaughtUp), None);
    let first = follower.table().expect("a table");
    assert_eq!(first.led_to(), [].into());
    let known = history.entries.len();
    map::run(&mut history, "shop", "aaaaa", "n3", "172.18.0.2/16");
    assert_eq!(read(&mut follower, &history.entries[known..]), []);
    let table = follower.table().expect("a table");
    assert_eq!((&table.routes, &table.web), (&first.routes, &first.web));
    assert_eq!(table.led_to(), [&replica("shop-web-aaaaa")].into());
}

#[test]
fn an_empty_history_has_an_empty_table() {
    let mut follower = follower(Fold::new());
    assert_eq!(follower.take(Read::CaughtUp), None);
    assert_eq!(follower.table(), Some(Table::default()));
}

#[test]
fn what_is_missing_is_asked_for_once_and_repeats_are_nothing() {
    let entries = history().entries;
    let mut follower = follower(Fold::new());
    assert_eq!(read(&mut follower, &entries[..2]), []);
    assert_eq!(read(&mut follower, &entries[..2]), [], "a repeat");
    assert_eq!(read(&mut follower, &entries[3..]), [Need::Fetch { from: 3 }]);
    for entry in &entries[2..] {
        assert_eq!(follower.take(Read::Logged(entry.clone())), None);
    }
    let last = u64::try_from(entries.len()).expect("a small history");
    assert_eq!(follower.fold().place().position, last);
}

#[test]
fn the_stream_is_doubted_and_the_log_is_believed() {
    let ours = history().entries;
    let mut other = History::default();
    other.now_ms += 1;
    other.node("n9", 1, 1).node("n8", 1, 1);
    let theirs = &other.entries;
    let differs = ours.iter().zip(theirs).position(|(a, b)| a != b).expect("they differ");
    let mut follower = follower(Fold::new());
    assert_eq!(read(&mut follower, &ours[..=differs]), []);
    let next = u64::try_from(differs).expect("a small history") + 2;
    let foreign = theirs[differs + 1].clone();
    let fetch = follower.take(Read::Entry(foreign.clone()));
    assert_eq!(fetch, Some(Need::Fetch { from: next }));
    let rebuild = follower.take(Read::Logged(foreign));
    assert!(matches!(rebuild, Some(Need::Rebuild { .. })), "{rebuild:?}");
}

#[test]
fn it_has_the_marks_of_the_history_wherever_it_begins_and_others_when_it_folds_something_else() {
    let mut history = history();
    let early = history.fold.clone();
    (0..9).for_each(|i| _ = history.node(&format!("m{i}"), 1, 1));
    let mark = |fold: Fold| {
        let from = usize::try_from(fold.cursor().position).expect("a small history");
        let mut follower = follower(fold).marking(Marks::every(5));
        assert_eq!(follower.mark(), None);
        assert_eq!(read(&mut follower, &history.entries[from..]), []);
        follower.mark().expect("it passed some").clone()
    };
    let from_nothing = mark(Fold::new());
    assert_eq!(from_nothing, mark(early.clone()));
    let mut bent = early;
    bent.state_mut().cluster.anomalies += 1;
    let bent = mark(bent);
    assert_eq!(bent.place, from_nothing.place);
    assert_ne!(bent.state_hash, from_nothing.state_hash);
}
