//! Losing either store whole, and getting it back from the other, from a backup, or from what is left.

use std::path::Path;

use bus::testing::Server;
use event_log::archive::Archive;
use event_log::testing::Folder;
use event_log::testing::flip::lose_the_end;
use event_log::{Progress, look, restore, salvage};
use schemas::read::Head;
use schemas::stream;

use crate::bitflip::Dice;
use crate::live_log::LiveLog;

/// What is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The events stream.
    Stream,
    /// The store; the witness stays.
    Store,
    /// The store and the witness.
    Folder,
    /// The store, and the beginning of the stream is gone as well: back from a backup.
    StoreWithBackup,
    /// A byte of the journal: back by salvage and the stream.
    Journal,
}

/// All of them.
pub const LOSSES: [Loss; 5] =
    [Loss::Stream, Loss::Store, Loss::Folder, Loss::StoreWithBackup, Loss::Journal];

/// One loss and its repair: afterwards every event is as before. How many that are.
///
/// # Panics
///
/// When they are not.
pub async fn round(loss: Loss, seed: u64) -> u64 {
    let (state, archive) = (Folder::new(), Folder::new());
    let server = Server::start();
    let mut dice = Dice(seed);
    let mut log = LiveLog::start(&server, state.path()).await;
    log.serves().await.expect("it begins a history");
    log.append(100 + dice.roll(200)).await;
    let backed_up = back_up(&log, archive.path()).await;
    log.append(1 + dice.roll(200)).await;
    let before = log.head().await.expect("it answers");
    let events = log.events(1).await;
    if loss == Loss::StoreWithBackup {
        // The stream still reaches what the backup has.
        log.age(2 + dice.roll(backed_up)).await;
    }
    log.stop().await;

    let folder = event_log::config::folder(state.path());
    match loss {
        Loss::Stream => server.delete_stream(stream::EVENTS.name).await,
        Loss::Store => remove(&folder.join("store")),
        Loss::Folder => remove(&folder),
        Loss::StoreWithBackup => {
            remove(&folder.join("store"));
            let mut log = LiveLog::start(&server, state.path()).await;
            let said = log.serves().await.expect_err("nobody has the first events");
            assert!(said.contains("are in neither") && said.contains("positions 1 to"), "{said}");
            log.stop().await;
            remove(&folder);
            restore(archive.path(), state.path(), &mut |_, _| {}).expect("the backup is whole");
        }
        Loss::Journal => {
            lose_the_end(&folder);
            let mut log = LiveLog::start(&server, state.path()).await;
            // What stood there may have been beyond what anyone was promised, as after a power cut: then
            // it is cut off, and the start goes on.
            let named = log.serves().await.err();
            log.stop().await;
            let Some(said) = named else {
                return whole(&server, &state, &before, &events, 2).await;
            };
            assert!(said.contains(".jnl is damaged") && said.contains("salvage"), "{said}");
            let into = Folder::new();
            let salvaged = event_log::config::folder(into.path());
            let what = salvage(&folder, &salvaged, false).expect("its beginning is whole");
            assert!(what.to_string().contains("salvaged everything up to"), "{what}");
            remove(&folder);
            std::fs::rename(&salvaged, &folder).expect("both are temporary");
        }
    }

    whole(&server, &state, &before, &events, 1).await
}

/// Starts the log: every event is there, and what its `starts` add is all that is new.
async fn whole(
    server: &Server,
    state: &Folder,
    before: &Head,
    events: &[Vec<u8>],
    starts: usize,
) -> u64 {
    let mut log = LiveLog::start(server, state.path()).await;
    let after = log.serves().await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(after.genesis, before.genesis);
    let again = log.events(1).await;
    assert_eq!(again[..events.len()], events[..], "every event, byte for byte");
    assert_eq!(again.len(), events.len() + starts);
    log.append(10).await;
    log.stop().await;
    let folder = event_log::config::folder(state.path());
    let report = look(&folder, &mut Progress::silent()).expect("nobody has it open");
    assert_eq!(report.damages, Vec::<String>::new());
    events.len() as u64
}

fn remove(folder: &Path) {
    std::fs::remove_dir_all(folder).expect("it is ours");
}

/// Archives what there is; up to which position.
async fn back_up(log: &LiveLog, into: &Path) -> u64 {
    let head = log.head().await.expect("it answers");
    let mut archive = Archive::open(into).expect("an empty folder");
    for event in log.events(1).await {
        archive.add(&event).expect("it is the next");
    }
    archive.write(&head.genesis).expect("there is room");
    archive.note_state(head.place, &head.state_hash, head.fold_version).expect("there is room");
    head.place.position
}
