//! What the health page and the metrics show of the sequencer.

use std::collections::BTreeMap;

use runtime::Admin;

use crate::sequencer::{Sequencer, Tally, Who};
use crate::store::FjallStore;
use crate::view::View;

/// What was shown, where that is counted on.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// What was counted of states.
    states: BTreeMap<Who, Tally>,
}

impl Page {
    /// What the health page shows.
    pub(super) fn tell(
        &mut self,
        admin: &Admin,
        sequencer: &Sequencer<FjallStore, View>,
        view: &View,
        connected: bool,
    ) {
        let ready = sequencer.leads() || sequencer.follows();
        let missing = match (connected, ready, sequencer.waits_for()) {
            (false, ..) => Some("NATS".to_owned()),
            (true, true, _) if sequencer.full() => Some("room on a disk".to_owned()),
            (true, true, _) => None,
            (true, false, Some(waiting)) => Some(waiting.to_string()),
            (true, false, None) => Some(match view.refilling() {
                Some((at, to)) => {
                    format!("the events stream to be filled up to {to}, from {at} on")
                }
                None => "the events stream to be as the log".to_owned(),
            }),
        };
        admin.readiness.set("event-log", missing);
        let (metrics, counts) = (&admin.metrics, sequencer.counts());
        let set = |name, help, value| metrics.set(name, help, &[], value);
        set("muster_log_stored_position", "The stored head.", sequencer.stored().position);
        set("muster_log_published_position", "The published head.", sequencer.published().position);
        set(
            "muster_log_leads",
            "1 while this instance orders requests; 0 on standby.",
            u64::from(sequencer.leads()),
        );
        let help = "Groups of requests; those behind a sync share the next.";
        set("muster_log_groups", help, counts.groups);
        set("muster_log_events", "Events recorded.", counts.events);
        set("muster_log_duplicates", "Requests that were repeats.", counts.duplicates);
        set("muster_log_junk", "Messages on the append stream that are no requests.", counts.junk);
        let help = "Requests let go for lack of room, to be offered again.";
        set("muster_log_deferred", help, counts.deferred);
        set("muster_log_voided", "Positions that hold what the log never wrote.", counts.voided);
        for (code, count) in &counts.refused {
            metrics.set("muster_log_refused", "Requests refused.", &[("code", code)], *count);
        }
        if self.states != counts.states {
            self.count_states(admin, &counts.states);
        }
    }

    /// Counts on what is new of states.
    fn count_states(&mut self, admin: &Admin, now: &BTreeMap<Who, Tally>) {
        for (who, tally) in now {
            let before = self.states.get(who).copied().unwrap_or_default();
            let service = who.to_string();
            let count = |name, help, by| {
                admin.metrics.count(name, help, &[("service", &service)], by);
            };
            let help = "States that were compared with the log's.";
            count("muster_states_compared", help, tally.compared - before.compared);
            let help = "States of another version of the fold, which do not compare.";
            count("muster_states_of_another_fold", help, tally.other_fold - before.other_fold);
            let help = "States that were not the log's.";
            count("muster_state_diverged", help, tally.diverged - before.diverged);
        }
        self.states.clone_from(now);
    }
}
