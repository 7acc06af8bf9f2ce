//! What was read of history so far. The rules ask it; what it lacks is fetched, and they begin again.

use schemas::envelope::Envelope;
use schemas::read::LogRequest;

/// Answers to requests, all about one history up to one position.
#[derive(Debug)]
pub(crate) struct Records {
    end: u64,
    answers: Vec<(LogRequest, Vec<Envelope>)>,
}

/// Why there is no answer yet, or none at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// This must be read first.
    Lacks(Box<LogRequest>),
    /// History has nothing of it by then.
    Unknown,
    /// That cannot be asked of such a thing; what can.
    Asked(&'static str),
}

impl Records {
    /// Of history up to `end`.
    pub(crate) fn up_to(end: u64) -> Self {
        Self { end, answers: Vec::new() }
    }

    /// Takes in what was fetched.
    pub(crate) fn add(&mut self, request: LogRequest, events: Vec<Envelope>) {
        self.answers.push((request, events));
    }

    /// The events of a request.
    pub(crate) fn ask(&self, mut request: LogRequest) -> Result<&[Envelope], Stop> {
        request.from = request.from.max(1);
        request.to = Some(request.to.map_or(self.end, |to| to.min(self.end)));
        if request.to < Some(request.from) {
            return Ok(&[]);
        }
        let known = self.answers.iter().find(|(asked, _)| *asked == request);
        known.map(|(_, events)| events.as_slice()).ok_or(Stop::Lacks(Box::new(request)))
    }

    /// The event at a position.
    pub(crate) fn at(&self, position: u64) -> Result<Option<&Envelope>, Stop> {
        let request = LogRequest { from: position, to: Some(position), ..LogRequest::default() };
        Ok(self.ask(request)?.first())
    }

    /// The first events of an entity.
    pub(crate) fn first(&self, entity: &str, count: u64) -> Result<&[Envelope], Stop> {
        let entity = Some(entity.to_owned());
        self.ask(LogRequest { entity, limit: Some(count), ..LogRequest::default() })
    }

    /// The newest events of an entity, of these types if any are named, from a position on.
    pub(crate) fn newest(
        &self,
        entity: &str,
        kinds: &[&str],
        from: u64,
        count: u64,
    ) -> Result<&[Envelope], Stop> {
        self.ask(LogRequest {
            from,
            entity: Some(entity.to_owned()),
            kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
            newest: true,
            limit: Some(count),
            ..LogRequest::default()
        })
    }
}
