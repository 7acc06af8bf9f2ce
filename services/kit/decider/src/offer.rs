//! One series of append requests, at most one in flight.

use schemas::append::{Draft, Request};
use schemas::id::{Series, Writer};
use schemas::place::Basis;

/// How long an unanswered request waits before it is offered again, in ms.
const OFFER_AGAIN_MS: u64 = 1_000;

/// The requests of one writer's instance.
#[derive(Debug)]
pub(crate) struct Offers {
    writer: Writer,
    instance: String,
    seed: String,
    series_index: u64,
    series: Series,
    n: u64,
    flight: Option<Flight>,
}

#[derive(Debug)]
struct Flight {
    request: Request,
    offered_ms: u64,
    /// The answer named this position; the fold has not got there yet.
    until: Option<u64>,
}

impl Offers {
    pub(crate) fn new(writer: Writer, instance: String, seed: String) -> Self {
        let series = Series::derive(&seed, 0);
        Self { writer, instance, seed, series_index: 0, series, n: 0, flight: None }
    }

    /// Whether nothing is in flight.
    pub(crate) fn free(&self) -> bool {
        self.flight.is_none()
    }

    /// Goes on at 1 of a series that was never used; what was in flight will never be repeated.
    pub(crate) fn fresh_series(&mut self) {
        self.series_index += 1;
        self.series = Series::derive(&self.seed, self.series_index);
        self.n = 0;
        self.flight = None;
    }

    /// Offers a batch.
    pub(crate) fn offer(
        &mut self,
        term: u64,
        basis: Basis,
        events: Vec<Draft>,
        absent: Vec<String>,
        now_ms: u64,
    ) -> Request {
        self.n += 1;
        let request = Request {
            writer: self.writer.clone(),
            term,
            instance: self.instance.clone(),
            series: self.series.clone(),
            n: self.n,
            basis: Some(basis),
            absent,
            events,
        };
        self.flight = Some(Flight { request: request.clone(), offered_ms: now_ms, until: None });
        request
    }

    /// The request in flight, when it is time to offer it again.
    pub(crate) fn again(&mut self, now_ms: u64) -> Option<Request> {
        let flight = self.flight.as_mut().filter(|flight| flight.until.is_none())?;
        if now_ms < flight.offered_ms + OFFER_AGAIN_MS {
            return None;
        }
        flight.offered_ms = now_ms;
        Some(flight.request.clone())
    }

    /// Whether an answer is about the request in flight.
    pub(crate) fn concerns(&self, series: &Series, n: u64) -> bool {
        self.flight
            .as_ref()
            .is_some_and(|flight| flight.request.series == *series && flight.request.n == n)
    }

    /// The request in flight is recorded, and the fold must get to `position`.
    pub(crate) fn recorded(&mut self, position: u64) {
        if let Some(flight) = &mut self.flight {
            flight.until = Some(position);
        }
    }

    /// The fold has got to `position`, and applied this batch at it.
    pub(crate) fn folded(&mut self, position: u64, series: &Series, n: u64) {
        let over = |flight: &Flight| {
            flight.until.is_some_and(|until| until <= position)
                || (flight.request.series == *series && flight.request.n == n)
        };
        if self.flight.as_ref().is_some_and(over) {
            self.flight = None;
        }
    }
}
