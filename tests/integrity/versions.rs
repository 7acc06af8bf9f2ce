//! Two versions of the fold on one log, as in a rolling upgrade: neither uses the other's snapshots,
//! and both end with the state that they fold themselves.

use bus::testing::Server;
use cluster::{FOLD_VERSION, Fold};
use event_log::store::{FjallStore, SnapshotMeta, Store as _};
use event_log::testing::Folder;
use schemas::read::{SnapshotPart, SnapshotRequest};
use schemas::subject;
use tests::live_log::LiveLog;

const DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn each_version_of_the_fold_has_snapshots_of_its_own() {
    let (state, server) = (Folder::new(), Server::start());
    let mut log = LiveLog::start(&server, state.path()).await;
    log.serves().await.expect("it begins a history");
    log.append(300).await;
    log.stop().await;

    // The next release was here, wrote a snapshot at the end of the log, and was taken back.
    let folder = event_log::config::folder(state.path());
    let store = FjallStore::open(&folder).expect("it opens");
    let theirs = SnapshotMeta {
        fold_version: FOLD_VERSION + 1,
        place: store.head().expect("it is readable"),
        state_hash: "0123456789abcdef".to_owned(),
        bytes: 11,
    };
    store
        .put_snapshot(&theirs, b"{\"new\":true}".first_chunk::<11>().expect("so many"))
        .expect("room");
    drop(store);

    let mut log = LiveLog::start(&server, state.path()).await;
    let head = log.serves().await.expect("it does not mind");
    assert_eq!(head.fold_version, FOLD_VERSION);
    assert_eq!(head.anomalies, 0);

    // A reader of this version begins from one of its own, or from the first event.
    let bus = server.bus("reader").await;
    let mut fold = runtime::history::snapshot(&bus).await.expect("there is one of mine");
    assert!(fold.place().position < theirs.place.position);
    for event in log.events(fold.cursor().position + 1).await {
        fold.push(&event).expect("it follows");
    }
    assert_eq!((fold.place(), fold.state().hash()), (head.place, head.state_hash.clone()));
    let mut whole = Fold::new();
    for event in log.events(1).await {
        whole.push(&event).expect("it follows");
    }
    assert_eq!(whole.state().hash(), head.state_hash);

    // A reader of the next one gets what that version wrote, and a reader of the one after nothing.
    let ask = |version| SnapshotRequest { fold_version: version, ..SnapshotRequest::default() };
    let part = async |version| {
        let request = serde_json::to_vec(&ask(version)).expect("string keys");
        let answer = bus.request(&subject::api("snapshot"), request, DEADLINE).await;
        serde_json::from_slice::<SnapshotPart>(&answer.expect("it answers")).expect("a part")
    };
    let new = part(FOLD_VERSION + 1).await;
    assert_eq!((new.place, new.state_hash), (theirs.place, theirs.state_hash));
    assert_eq!(part(FOLD_VERSION + 2).await.bytes, 0);
    log.stop().await;
}
