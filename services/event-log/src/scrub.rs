//! The scrubber: reads the whole log again and again in the background, slowly, so that damage is
//! found while there is still a stream, a standby or a backup to repair it from.
//!
//! It changes nothing. What it finds is told on the log, in the metrics and by not being ready, until
//! an operator has repaired it and started anew.

use std::time::Duration;

use runtime::{Admin, Failure, Shutdown};

use crate::audit::{Audit, Checks};
use crate::store::{FjallStore, Store as _};

/// How many steps are made in a second.
const STEPS: u64 = 10;

/// How many bytes of files count as much as one entry.
const ENTRY_BYTES: u64 = 4 * 1024;

/// How long it rests when it is through.
const REST: Duration = Duration::from_secs(600);

/// How much damage is told by one pass.
const TOLD_MAX: usize = 20;

/// The name on the health page.
const CHECK: &str = "log";

/// Reads the log at so many entries a second until asked to stop.
///
/// # Errors
///
/// None of its own: whatever cannot be read is damage.
pub(crate) async fn scrub(
    store: FjallStore,
    admin: Admin,
    per_second: u64,
    shutdown: Shutdown,
) -> Result<(), Failure> {
    if per_second == 0 {
        shutdown.requested().await;
        return Ok(());
    }
    let step = (per_second / STEPS).max(1);
    loop {
        let pass = tokio::select! {
            () = shutdown.requested() => return Ok(()),
            pass = pass(&store, &admin, step) => pass,
        };
        if let Some(damages) = pass {
            tell(&admin, &damages);
        }
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            () = tokio::time::sleep(REST) => {}
        }
    }
}

/// One look at everything; none when entries were moved aside meanwhile.
async fn pass(store: &FjallStore, admin: &Admin, step: u64) -> Option<Vec<String>> {
    let pause = || tokio::time::sleep(Duration::from_millis(1_000 / STEPS));
    let rollbacks = store.rollbacks();
    let mut audit = Audit::new(store, Checks { state: false, ..Checks::ALL });
    let mut damages: Vec<String> = Vec::new();
    loop {
        let head = store.head().map_or(0, |head| head.position);
        let to = head.min(audit.reached() + step);
        if to <= audit.reached() {
            break;
        }
        tokio::task::block_in_place(|| audit.step(to));
        let help = "How far the log was read again by the scrubber.";
        admin.metrics.set("muster_log_scrubbed_position", help, &[], audit.reached());
        damages.extend(audit.found().iter().map(ToString::to_string));
        pause().await;
    }
    tokio::task::block_in_place(|| audit.finish());
    damages.extend(audit.found().iter().map(ToString::to_string));
    let mut tables = store.tables();
    while let Some(broken) = {
        let budget = step.saturating_mul(ENTRY_BYTES);
        tokio::task::block_in_place(|| tables.check(budget))
    } {
        damages.extend(broken.iter().map(ToString::to_string));
        pause().await;
    }
    (store.rollbacks() == rollbacks).then_some(damages)
}

fn tell(admin: &Admin, damages: &[String]) {
    let help = "How many things the scrubber found damaged in its last pass.";
    admin.metrics.set("muster_log_damages", help, &[], damages.len() as u64);
    let Some(first) = damages.first() else { return };
    for damage in damages.iter().take(TOLD_MAX) {
        tracing::error!(damage, "the log is damaged; run `muster-event-log verify`");
    }
    let waits = format!("repair of {} damages in the store, the first: {first}", damages.len());
    admin.readiness.set(CHECK, Some(waits));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;
    use crate::testing::flip::{Original, damage_a_table};

    async fn damages(store: &FjallStore, admin: &Admin) -> Vec<String> {
        let damages = pass(store, admin, 10_000).await.expect("nothing was moved aside");
        tell(admin, &damages);
        damages
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn damage_is_found_while_the_store_is_open() {
        let folder = Folder::new();
        let _original = Original::make(folder.path(), 300);
        let store = FjallStore::open(folder.path()).expect("it opens");
        let admin = Admin::default();
        assert_eq!(damages(&store, &admin).await, Vec::<String>::new());
        assert!(admin.readiness.missing().is_empty());
        let scrubbed =
            format!("muster_log_scrubbed_position{{}} {}", store.head().unwrap().position);
        assert!(admin.metrics.text().contains(&scrubbed), "{}", admin.metrics.text());

        damage_a_table(folder.path());
        let row = store.row(200).expect("readable").expect("there");
        store.replace(&crate::store::Row { subject: "muster.v1.evt.other".to_owned(), ..row });
        let damages = damages(&store, &admin).await;
        let says = |what: &str| damages.iter().any(|damage| damage.contains(what));
        assert!(says("position 200: it is stored for another subject"), "{damages:?}");
        assert!(says("this table does not have its checksum"), "{damages:?}");
        assert!(admin.readiness.missing()[0].contains("log waits for repair of"));
        assert!(
            admin.metrics.text().contains("muster_log_damages{} 2"),
            "{}",
            admin.metrics.text()
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_moved_aside_meanwhile_is_no_damage() {
        let folder = Folder::new();
        let mut log = crate::testing::long::LongLog::begin(folder.path());
        log.grow(50);
        let admin = Admin::default();
        let store = log.store();
        let looking = pass(&store, &admin, 10);
        let moving = async {
            tokio::task::yield_now().await;
            log.set_aside();
        };
        let (looked, ()) = tokio::join!(looking, moving);
        assert_eq!(looked, None);
    }
}
