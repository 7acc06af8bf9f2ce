//! A gateway that does not hear history yet serves by what was known last, and says how old that is.

use std::sync::Arc;
use std::time::Duration;

use runtime::{Admin, Failure, Shutdown, clock};
use schemas::id::NodeName;
use schemas::place::Place;
use schemas::report::Mark;
use tokio::sync::watch;

use crate::follow::Follower;
use crate::last::{Known, Last};
use crate::table::Table;

/// How long history may say nothing, where NATS is reached, until the last table that was known is served by.
const SILENT: Duration = Duration::from_secs(5);

/// How old what is known may be, in ms, to serve by it at once where the one before us ended a moment ago. It says every 10 s
/// that it is the newest, and may take as long to end.
const MOMENT_MS: u64 = 60_000;

/// How often it is told how old the table is.
const TELL: Duration = Duration::from_secs(1);

/// What is known of history so far, by whoever waits for it.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// NATS was not reached.
    pub(crate) unreached: watch::Sender<bool>,
    /// There is a table of now.
    pub(crate) heard: watch::Sender<bool>,
    /// Nobody serves but us.
    pub(crate) alone: watch::Sender<bool>,
    /// The newest mark of the state.
    pub(crate) mark: watch::Sender<Option<Mark>>,
}

/// What is served as long as history is not heard.
pub(crate) struct Meanwhile {
    /// The name under which it is told.
    pub(crate) check: String,
    pub(crate) last: Last,
    pub(crate) node: NodeName,
    pub(crate) tables: watch::Sender<Table>,
    /// Whether the one before us ended only so that we begin.
    pub(crate) given_back: bool,
    pub(crate) news: Arc<News>,
    pub(crate) admin: Admin,
}

impl Meanwhile {
    /// Serves by what was known last as soon as NATS is found away, or history says nothing for a while; but not
    /// while the gateway before us is there, which knows better. If that ended a moment ago, and whoever comes waits, it
    /// serves at once.
    pub(crate) async fn serve(self, stop: Shutdown) -> Result<(), Failure> {
        let mut heard = self.news.heard.subscribe();
        let away = async {
            if !is_so(self.news.alone.subscribe(), &stop).await {
                return false;
            }
            let moment = |known: Known| clock::utc_ms().saturating_sub(known.since_ms) < MOMENT_MS;
            if self.given_back && self.last.read().is_some_and(moment) {
                return true;
            }
            let unreached = is_so(self.news.unreached.subscribe(), &stop);
            tokio::time::timeout(SILENT, unreached).await.unwrap_or(true)
        };
        let away = tokio::select! {
            _ = heard.wait_for(|heard| *heard) => false,
            away = away => away,
        };
        if !away {
            return Ok(());
        }
        // Now, not when we began: the gateway before us has kept what it knew meanwhile.
        let Some(Known { fold, since_ms }) = self.last.read() else { return Ok(()) };
        let Some(table) = Follower::new(fold, self.node).last_known() else { return Ok(()) };
        let place = table.place;
        let served = self.tables.send_if_modified(|now| {
            let none = now.place == Place::START;
            if none {
                *now = table;
            }
            none
        });
        if !served {
            return Ok(());
        }
        let age_s = || clock::utc_ms().saturating_sub(since_ms) / 1_000;
        tracing::warn!(%place, age_s = age_s(), "history is not heard: serving by what was known last");
        loop {
            let trouble =
                format!("serves by what was known {} s ago, until history is heard", age_s());
            self.admin.readiness.troubles(&self.check, vec![trouble]);
            tokio::select! {
                () = stop.requested() => return Ok(()),
                _ = heard.wait_for(|heard| *heard) => break,
                () = tokio::time::sleep(TELL) => {}
            }
        }
        tracing::info!("history is heard again");
        self.admin.readiness.troubles(&self.check, Vec::new());
        Ok(())
    }
}

/// Waits until something is so. No: asked to stop before.
pub(crate) async fn is_so(mut what: watch::Receiver<bool>, stop: &Shutdown) -> bool {
    tokio::select! {
        () = stop.requested() => false,
        // Never an error: whoever says it is there as long as this.
        so = what.wait_for(|so| *so) => so.is_ok(),
    }
}
