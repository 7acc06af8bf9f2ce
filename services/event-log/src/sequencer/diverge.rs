//! Whether whoever folds has the state that event-log has of the same place: leaders, those who stand
//! by, gateways. What differs is stated, for an operator: nothing follows from it by itself.

use std::collections::BTreeMap;
use std::fmt;

use schemas::event::{Event, GatewayDiverged, StateDiverged};
use schemas::id::{NodeName, Writer};
use schemas::place::Place;
use schemas::report::{Beat, GatewayReport, Mark, STANDBY_MS, StandbyReport};

use super::{Bindings, Output, Sequencer, Stop};
use crate::store::Store;

/// For how many ticks nothing more is stated of an instance: a minute.
const QUIET_TICKS: u32 = 600;

/// After how many ticks without a word an instance is forgotten: ten minutes.
const FORGOTTEN_TICKS: u32 = 6_000;

/// How many instances are known at most: beyond that, who is new is not compared.
const KNOWN_MAX: usize = 4_096;

/// How many ticks are between two words of one who stands by.
const STANDBY_TICKS: u64 = STANDBY_MS / 100;

/// Somebody who folds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// A service.
    Service(Writer),
    /// The gateway of a node.
    Gateway(NodeName),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(writer) => write!(f, "{writer}"),
            Self::Gateway(node) => write!(f, "gateway.{node}"),
        }
    }
}

/// What somebody says of their state.
#[derive(Clone, Debug)]
pub struct Said {
    /// Who says it.
    pub who: Who,
    /// The instance.
    pub instance: String,
    /// The leadership that it says it has; none of one who does not lead.
    pub term: Option<u64>,
    /// The hash of its state at a place.
    pub mark: Mark,
}

impl Said {
    /// Of one who leads.
    #[must_use]
    pub fn leading(beat: Beat) -> Option<Self> {
        let Beat { writer, term, instance, mark, .. } = beat;
        Some(Self { who: Who::Service(writer), instance, term: Some(term), mark: mark? })
    }

    /// Of one who stands by.
    #[must_use]
    pub fn standing_by(report: StandbyReport) -> Self {
        let StandbyReport { writer, instance, mark } = report;
        Self { who: Who::Service(writer), instance, term: None, mark }
    }

    /// Of a gateway.
    #[must_use]
    pub fn serving(report: GatewayReport) -> Option<Self> {
        let GatewayReport { node, instance, mark, .. } = report;
        Some(Self { who: Who::Gateway(node), instance, term: None, mark: mark? })
    }
}

/// What was counted of somebody's states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Places at which they were compared.
    pub compared: u64,
    /// Places at which they were not, because another version of the fold made them.
    pub other_fold: u64,
    /// What was stated to differ.
    pub diverged: u64,
}

/// What is known of each instance.
#[derive(Clone, Debug, Default)]
pub(super) struct States {
    known: BTreeMap<(Who, String), Last>,
    ticks: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Last {
    /// The last place that was looked at.
    seen: Option<Place>,
    /// The last place of which it was stated that the state differs.
    stated: Option<Place>,
    /// For how many ticks nothing more is stated.
    quiet: u32,
    /// For how many ticks nothing was heard.
    silent: u32,
}

impl States {
    pub(super) fn tick(&mut self) {
        self.ticks = self.ticks.wrapping_add(1);
        self.known.retain(|_, last| {
            last.quiet = last.quiet.saturating_sub(1);
            last.silent += 1;
            last.silent < FORGOTTEN_TICKS
        });
    }

    /// What is known of an instance; none when there are too many already.
    fn of(&mut self, said: &Said) -> Option<&mut Last> {
        let key = (said.who.clone(), said.instance.clone());
        if self.known.len() >= KNOWN_MAX && !self.known.contains_key(&key) {
            return None;
        }
        let last = self.known.entry(key).or_default();
        last.silent = 0;
        Some(last)
    }
}

impl<S: Store, B: Bindings> Sequencer<S, B> {
    /// Compares what somebody says of their state. Only the same place of the same history and the
    /// same version of the fold compare.
    pub(super) fn check_state(
        &mut self,
        said: &Said,
        now_ms: u64,
        out: &mut Vec<Output>,
    ) -> Result<(), Stop> {
        let theirs = &said.mark;
        let Some(ours) = self.bindings.mark_at(theirs.place) else { return Ok(()) };
        // Anything may be in a report; a hash it is not, then.
        if theirs.state_hash.len() != ours.state_hash.len() || !self.may_speak(said)? {
            return Ok(());
        }
        let Some(last) = self.states.of(said) else { return Ok(()) };
        let same_fold = theirs.fold_version == ours.fold_version;
        if last.seen.replace(theirs.place) != Some(theirs.place) {
            let tally = self.counts.states.entry(said.who.clone()).or_default();
            match same_fold {
                true => tally.compared += 1,
                false => tally.other_fold += 1,
            }
        }
        let told = last.quiet > 0 || last.stated == Some(theirs.place);
        if self.full || !same_fold || theirs.state_hash == ours.state_hash || told {
            return Ok(());
        }
        (last.stated, last.quiet) = (Some(theirs.place), QUIET_TICKS);
        self.counts.states.entry(said.who.clone()).or_default().diverged += 1;
        let what = format!("the state of {} at {} is not the log's", said.who, theirs.place);
        out.push(Output::Notice(what));
        self.state(diverged(said, ours), now_ms, out)
    }

    /// Whether there is anybody to speak of: one who says that it leads does.
    fn may_speak(&self, said: &Said) -> Result<bool, Stop> {
        let (Who::Service(writer), Some(term)) = (&said.who, said.term) else { return Ok(true) };
        let leads = self
            .leadership(writer)?
            .is_some_and(|row| row.instance == said.instance && row.term == term && !row.released);
        Ok(leads && Writer::DECIDERS.contains(writer))
    }

    /// Says from time to time what the state is of one who would take over with it.
    pub(super) fn stand_by(&self, out: &mut Vec<Output>) {
        if !self.follows() || !self.states.ticks.is_multiple_of(STANDBY_TICKS) {
            return;
        }
        if let Some(mark) = self.bindings.newest_mark() {
            let (writer, instance) = (Writer::EventLog, self.setup.instance.clone());
            out.push(Output::StandsBy(StandbyReport { writer, instance, mark }));
        }
    }
}

fn diverged(said: &Said, ours: Mark) -> Event {
    let Mark { place, fold_version, state_hash: theirs } = said.mark.clone();
    let (instance, ours) = (said.instance.clone(), ours.state_hash);
    match said.who.clone() {
        Who::Service(writer) => {
            StateDiverged { writer, instance, place, fold_version, theirs, ours }.into()
        }
        Who::Gateway(node) => {
            GatewayDiverged { node, instance, place, fold_version, theirs, ours }.into()
        }
    }
}
