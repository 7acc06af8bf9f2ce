//! The second reading: every entry anew, without what is secret in it, at the position it has.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use schemas::envelope::{Batch, Envelope, Header, SCHEMA};
use schemas::event::{Event, PositionVoided, command_entity};
use schemas::id::{CLUSTER_TENANT, CommandId, Digest, Series, Tenant, Writer};
use schemas::place::{Hash, Place};
use schemas::spec::WorkloadSpec;
use serde::{Deserialize, Serialize};

use crate::survey::{Survey, content, decode};
use crate::values::Needles;
use crate::words::{Word, words};
use crate::{RedactError, spec};

/// The label that tells apart two specs which differ in nothing that is left of them.
const APART: &str = "redacted";

/// How much was done to a history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redacted {
    /// How many values were taken out, each as often as it stood there.
    pub values: u64,
    /// How many files have a placeholder for their content.
    pub files: u64,
    /// In how many other texts something was found and replaced.
    pub texts: u64,
    /// How many entries were left out: a void stands at their positions.
    pub left_out: u64,
}

/// Writes a history anew that was read once.
#[derive(Debug)]
pub struct Redactor {
    survey: Survey,
    needles: Needles,
    /// The redacted specs by the digest that they had, and what each came from.
    specs: BTreeMap<Digest, Digest>,
    origins: BTreeMap<Digest, Digest>,
    /// The digests of redacted files by those that they had.
    files: BTreeMap<Digest, Digest>,
    /// The hash of what was written.
    hash: Hash,
    open: Vec<Slot>,
    redacted: Redacted,
}

/// An entry of a batch that is not finished.
#[derive(Debug)]
struct Slot {
    header: Header,
    sha256: Digest,
    /// What stays of it.
    event: Option<Event>,
    /// Whether it stands in the midst of a batch without being a part of it.
    alone: bool,
}

impl Redactor {
    pub(crate) fn new(mut survey: Survey) -> Self {
        let needles = survey.values.needles(&survey.names);
        Self {
            survey,
            needles,
            specs: BTreeMap::new(),
            origins: BTreeMap::new(),
            files: BTreeMap::new(),
            hash: Hash::ZERO,
            open: Vec::new(),
            redacted: Redacted::default(),
        }
    }

    /// Writes the next entry: what can be written with it, in order. A batch is written when its last
    /// entry has come.
    ///
    /// # Errors
    ///
    /// When it is not an event that this release can read, and must not be skipped.
    pub fn take(&mut self, entry: &[u8]) -> Result<Vec<Vec<u8>>, RedactError> {
        let (header, event) = decode(entry)?;
        let mut out = Vec::new();
        if matches!(event, Some(Event::SequencerTaken(_))) {
            out.append(&mut self.rest());
        }
        let alone = matches!(event, Some(Event::PositionVoided(_)));
        let ends = if alone { self.open.is_empty() } else { header.batch.ends() };
        let event = event.and_then(|event| self.event(&header, event));
        let sha256 = self.blinded(Digest::of(entry).as_str());
        self.open.push(Slot { header, sha256, event, alone });
        if ends {
            out.append(&mut self.rest());
        }
        Ok(out)
    }

    /// Writes what there is of a batch that was left unfinished.
    pub fn rest(&mut self) -> Vec<Vec<u8>> {
        let slots = std::mem::take(&mut self.open);
        let gone = slots.iter().filter(|slot| !slot.alone && slot.event.is_none()).count();
        let gone = u32::try_from(gone).unwrap_or(u32::MAX);
        let mut i = 0;
        let mut out = Vec::new();
        for Slot { mut header, sha256, event, alone } in slots {
            let envelope = match event {
                Some(event) => {
                    header.batch.i = i;
                    header.batch.of = header.batch.of.saturating_sub(gone);
                    i += 1;
                    Envelope { header, event }
                }
                None => {
                    self.redacted.left_out += u64::from(!alone);
                    void(&header, sha256)
                }
            };
            out.push(self.write(envelope));
        }
        out
    }

    /// How much was done so far.
    #[must_use]
    pub fn redacted(&self) -> &Redacted {
        &self.redacted
    }

    /// The id of the history that is written: another one, from which that of the original cannot be
    /// told.
    #[must_use]
    pub fn genesis(&self) -> String {
        let policy = serde_json::to_string(&self.survey.policy).unwrap_or_default();
        Series::derive(self.blinded(&policy).as_str(), self.survey.policy.to).to_string()
    }

    /// What tells a place of the original to whoever has that.
    #[must_use]
    pub fn mark(&self, original: Place) -> Digest {
        self.blinded(&original.hash.to_string())
    }

    /// A digest that says nothing to whoever does not have the original: the id of that history, which
    /// is random and stands nowhere in what is written, is in it. A bare one could be made again by
    /// guessing what was taken out.
    fn blinded(&self, text: &str) -> Digest {
        Digest::of(format!("{}/{text}", self.survey.genesis).as_bytes())
    }

    fn write(&mut self, mut envelope: Envelope) -> Vec<u8> {
        let header = &mut envelope.header;
        header.prev_hash = self.hash;
        header.correlation = header.correlation.take().map(|id| self.command(id));
        let (position, epoch) = (header.position, header.epoch);
        let bytes = envelope.encode();
        self.hash = self.hash.extend(&bytes);
        if let Some(named) = self.survey.named.get_mut(&position) {
            *named = Some((epoch, self.hash));
        }
        bytes
    }

    /// What stays of an event.
    fn event(&mut self, header: &Header, event: Event) -> Option<Event> {
        let mut event = self.survey.scope.within(event)?;
        if header.position < self.survey.policy.from && !keep_consequence(&mut event) {
            return None;
        }
        match &mut event {
            Event::PositionVoided(_) => return None,
            Event::SequencerTaken(e) => {
                e.genesis = e.genesis.take().map(|_| self.genesis());
                e.accept_loss = e.accept_loss.map(|place| self.place(place));
            }
            Event::HistoryForked(e) => e.from = self.place(e.from),
            Event::StateDiverged(e) => e.place = self.place(e.place),
            Event::GatewayDiverged(e) => e.place = self.place(e.place),
            Event::CommandAccepted(e) => e.command = self.command(e.command.clone()),
            Event::CommandRejected(e) => e.command = self.command(e.command.clone()),
            Event::NoteAdded(e) => self.object(&mut e.object),
            Event::ConfigStored(e) => {
                let content = self.survey.values.placeholder(&content(&e.content_base64));
                let digest = Digest::of(content.as_bytes());
                self.needles.add(e.digest.as_str(), digest.as_str());
                self.files.insert(e.digest.clone(), digest.clone());
                e.digest = digest;
                e.content_base64 = BASE64_STANDARD.encode(content);
                self.redacted.files += 1;
            }
            Event::ReplicasRequested(e) => e.spec = self.spec(&e.spec),
            Event::ImageResolved(e) => e.spec = self.spec(&e.spec),
            _ => {}
        }
        match event {
            Event::AppDeployed(mut e) => {
                for spec in e.spec.workloads.values_mut() {
                    self.deployed(spec);
                }
                Some(e.into())
            }
            mut event => {
                words(&mut event, &mut |word, text| self.word(word, text));
                Some(event)
            }
        }
    }

    /// What stands in place of a word.
    fn word(&mut self, word: Word, text: &mut String) {
        if word.is_taken_out(self.survey.policy.extent) {
            if !text.is_empty() {
                self.redacted.values += 1;
                *text = self.survey.values.placeholder(text);
            }
        } else {
            self.look_through(text);
        }
    }

    fn look_through(&mut self, text: &mut String) {
        if let Some(replaced) = self.needles.replaced(text) {
            self.redacted.texts += 1;
            *text = replaced;
        }
    }

    /// Redacts a spec that is declared. From here on its digest is another one.
    fn deployed(&mut self, spec: &mut WorkloadSpec) {
        let was = spec.digest();
        for file in spec.configs.values_mut() {
            file.digest = self.file(&file.digest);
        }
        spec::words(spec, &mut |word, text| self.word(word, text));
        let mut is = spec.digest();
        let mut number = 0;
        while self.origins.get(&is).is_some_and(|origin| *origin != was) {
            number += 1;
            spec.labels.insert(APART.to_owned(), number.to_string());
            is = spec.digest();
        }
        self.needles.add(was.as_str(), is.as_str());
        self.origins.insert(is.clone(), was.clone());
        self.specs.insert(was, is);
    }

    fn spec(&mut self, digest: &Digest) -> Digest {
        self.specs.get(digest).cloned().unwrap_or_else(|| self.unknown(digest))
    }

    fn file(&mut self, digest: &Digest) -> Digest {
        self.files.get(digest).cloned().unwrap_or_else(|| self.unknown(digest))
    }

    /// A digest of something that was never recorded. It could still be guessed by it.
    fn unknown(&mut self, digest: &Digest) -> Digest {
        Digest::of(self.survey.values.placeholder(digest.as_str()).as_bytes())
    }

    /// A command's id. One that was derived follows from all that its publisher sent.
    fn command(&mut self, id: CommandId) -> CommandId {
        let hex = |text: &str| text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit());
        if !id.as_str().strip_prefix("c-").is_some_and(hex) {
            return id;
        }
        let digest = self.blinded(id.as_str());
        let other = format!("c-{}", &digest.as_str()[..24]);
        self.needles.add(id.as_str(), &other);
        CommandId::new(&other).expect("hex and a dash")
    }

    /// What a note is about.
    fn object(&mut self, object: &mut String) {
        let command = object.strip_prefix("command/").and_then(|id| CommandId::new(id).ok());
        match command {
            Some(id) => *object = command_entity(&self.command(id)),
            None => self.look_through(object),
        }
    }

    /// A place that an event names, with the hash that it has now. One that is not of this history has
    /// none.
    fn place(&self, place: Place) -> Place {
        let named = self.survey.named.get(&place.position).copied().flatten();
        let hash =
            named.filter(|(epoch, _)| *epoch == place.epoch).map_or(Hash::ZERO, |(_, hash)| hash);
        Place { hash, ..place }
    }
}

/// Takes from an event what the state does not follow from. Says whether anything is left.
fn keep_consequence(event: &mut Event) -> bool {
    match event {
        Event::NoteAdded(_)
        | Event::ExecStarted(_)
        | Event::StrayRemoved(_)
        | Event::StateDiverged(_)
        | Event::GatewayDiverged(_) => return false,
        Event::RunEnded(e) => e.evidence.last_lines.clear(),
        Event::CertificateFailed(e) => e.error.clear(),
        _ => {}
    }
    true
}

/// What stands at the position of an entry that is left out. It says what stood there without
/// telling anything of it.
fn void(header: &Header, sha256: Digest) -> Envelope {
    let Header { epoch, position, recorded_ms, .. } = *header;
    let header = Header {
        id: format!("log-{epoch}-{position}"),
        epoch,
        position,
        time_ms: recorded_ms,
        recorded_ms,
        tenant: Tenant::new(CLUSTER_TENANT).expect("the cluster's tenant is a name"),
        actor: "event-log".to_owned(),
        writer: Writer::EventLog,
        term: epoch,
        basis: None,
        batch: Batch { series: Series::derive("left-out", position), n: 1, i: 0, of: 1 },
        correlation: None,
        causation: None,
        schema: SCHEMA,
        ignorable: false,
        prev_hash: Hash::ZERO,
    };
    Envelope { header, event: PositionVoided { sha256 }.into() }
}
