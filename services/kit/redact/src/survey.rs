//! The first reading: what is secret, what has a name, and what concerns the app.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use schemas::envelope::{DecodeError, Envelope, Header};
use schemas::event::{Event, GatewayDiverged, StateDiverged};
use schemas::place::Hash;

use crate::redactor::Redactor;
use crate::scope::Scope;
use crate::values::Values;
use crate::words::words;
use crate::{Extent, Policy, RedactError};

/// The types of events with values or names in them.
const VALUES: [&str; 6] = [
    "AppDeployed",
    "CommandRejected",
    "ConfigStored",
    "GatewayDiverged",
    "NodeDescribed",
    "StateDiverged",
];

/// The types with something in them that people or their programs wrote.
const WRITTEN: [&str; 7] = [
    "CommandAccepted",
    "ExecStarted",
    "NoteAdded",
    "ReplicaUnready",
    "RolloutFailed",
    "RunEnded",
    "WorkloadScaled",
];

/// What a history was found to hold. It may be read beyond what is to be written: what is a secret
/// later on is one before.
#[derive(Clone, Debug)]
pub struct Survey {
    pub(crate) policy: Policy,
    pub(crate) values: Values,
    pub(crate) names: BTreeSet<String>,
    pub(crate) scope: Scope,
    /// The id of the history.
    pub(crate) genesis: String,
    /// Positions that events name with their hash.
    pub(crate) named: BTreeMap<u64, Option<(u64, Hash)>>,
}

impl Survey {
    /// Before the first entry.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            scope: Scope::new(policy.app.clone()),
            policy,
            values: Values::default(),
            names: BTreeSet::new(),
            genesis: String::new(),
            named: BTreeMap::new(),
        }
    }

    /// Reads the next entry.
    ///
    /// # Errors
    ///
    /// When it is not an event that this release can read, and must not be skipped.
    pub fn read(&mut self, entry: &[u8]) -> Result<(), RedactError> {
        let (header, event) = decode(entry)?;
        let Some(mut event) = event else { return Ok(()) };
        self.scope.read(&header, &event);
        match &event {
            Event::SequencerTaken(e) => {
                if let Some(genesis) = &e.genesis {
                    self.genesis.clone_from(genesis);
                }
                self.named.extend(e.accept_loss.map(|place| (place.position, None)));
            }
            Event::HistoryForked(e) => {
                self.named.insert(e.from.position, None);
            }
            Event::StateDiverged(StateDiverged { place, .. })
            | Event::GatewayDiverged(GatewayDiverged { place, .. }) => {
                self.named.insert(place.position, None);
            }
            Event::AppDeployed(e) => {
                self.names.insert(e.app.name.to_string());
                for (name, spec) in &e.spec.workloads {
                    self.names.extend([name.to_string(), spec.image.clone()]);
                }
            }
            Event::NodeDescribed(e) => {
                self.names.insert(e.node.to_string());
            }
            Event::ConfigStored(e) => self.values.note(&content(&e.content_base64)),
            _ => {}
        }
        let (values, extent) = (&mut self.values, self.policy.extent);
        words(&mut event, &mut |word, text| {
            if word.is_taken_out(extent) && !text.is_empty() {
                values.note(text);
            }
        });
        Ok(())
    }

    /// The types of events that are to be read beyond what is to be written: in no other is anything
    /// that would be noted. None: every type, for what is said of one app may be said in any.
    #[must_use]
    pub fn kinds(&self) -> Option<Vec<String>> {
        let all = match self.policy.extent {
            Extent::Values => &[][..],
            Extent::All => &WRITTEN[..],
        };
        let kinds = || VALUES.iter().chain(all).map(|kind| (*kind).to_owned()).collect();
        self.policy.app.is_none().then(kinds)
    }

    /// Whether the app that is asked for was ever told of.
    #[must_use]
    pub fn knows_the_app(&self) -> bool {
        self.scope.is_known()
    }

    /// Everything was read. The same entries are now to be written, from the first one on.
    #[must_use]
    pub fn done(mut self) -> Redactor {
        self.scope.settle();
        Redactor::new(self)
    }
}

/// The content of a file as a value: its text where it is one.
pub(crate) fn content(base64: &str) -> String {
    let text = BASE64_STANDARD.decode(base64).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.unwrap_or_else(|| base64.to_owned())
}

/// Reads an entry. The event is none when its type is unknown and may be skipped.
pub(crate) fn decode(entry: &[u8]) -> Result<(Header, Option<Event>), RedactError> {
    match Envelope::decode(entry) {
        Ok(Envelope { header, event }) => Ok((header, Some(event))),
        Err(DecodeError::UnknownType { ignorable: true, .. }) => {
            Ok((Header::decode(entry)?.0, None))
        }
        Err(error) => Err(error.into()),
    }
}
