//! What became of the requests of a load.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;

/// How many failures are shown.
const SHOWN: usize = 12;

/// How a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nobody listened.
    Refused,
    /// The connection was reset.
    Reset,
    /// It was closed before the end of the answer.
    Ended,
    /// No answer in time.
    Late,
    /// Another status than 200.
    Status(u16),
    /// What came is no answer.
    Nonsense,
    /// Anything else.
    Other,
}

/// A request that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What was asked for, and on what connection.
    pub ask: String,
    /// Who was asked.
    pub at: SocketAddr,
    /// When it was sent, and when it had failed, since 1970.
    pub sent_ms: u64,
    /// The same.
    pub ended_ms: u64,
    /// How it failed.
    pub kind: Kind,
    /// What is known besides: the text of an answer.
    pub what: String,
}

impl Failure {
    /// Whether it may be sent again by whoever stands in between.
    #[must_use]
    pub fn may_be_repeated(&self) -> bool {
        self.ask.starts_with("GET")
    }
}

/// A request that was answered.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Who was asked.
    pub at: SocketAddr,
    /// When it was sent, since 1970.
    pub sent_ms: u64,
    /// How long the answer took.
    pub took_us: u64,
    /// The answer.
    pub text: String,
}

/// What became of all of them.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// How many there were.
    pub asked: u64,
    /// Those that were answered.
    pub answered: Vec<Answered>,
    /// Those that failed.
    pub failures: Vec<Failure>,
    /// Connections that the other end closed while nothing was under way on them.
    pub closed_idle: u64,
}

impl Outcome {
    /// Everything that was answered.
    #[must_use]
    pub fn seen(&self) -> BTreeSet<&str> {
        self.answered.iter().map(|answered| answered.text.as_str()).collect()
    }

    /// Nothing failed, and there was something that could have.
    ///
    /// # Panics
    ///
    /// When that is not so.
    #[track_caller]
    pub fn is_all_well(&self, what: &str, at_least: u64) {
        eprintln!("{what}: {self}");
        assert!(self.asked >= at_least, "{what}: only {} requests", self.asked);
        assert!(self.failures.is_empty(), "{what}: {self}{}", self.failed());
        let ended = self.answered.len() + self.failures.len();
        assert_eq!(u64::try_from(ended), Ok(self.asked), "{what}: every request has an end");
    }

    /// The first failures, a line each, to find them in logs by.
    #[must_use]
    pub fn failed(&self) -> String {
        let line = |failure: &Failure| {
            let Failure { ask, at, sent_ms, ended_ms, kind, what } = failure;
            let took_ms = ended_ms.saturating_sub(*sent_ms);
            let day_ms = ended_ms % 86_400_000;
            let (seconds, ms) = (day_ms / 1_000, day_ms % 1_000);
            let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
            format!(
                "\n  {hours:02}:{minutes:02}:{:02}.{ms:03} {ask} at {at}: {kind:?} after {took_ms} ms: {what}",
                seconds % 60
            )
        };
        self.failures.iter().take(SHOWN).map(line).collect()
    }

    /// How long it took until so many of a thousand were answered, in ms.
    #[must_use]
    pub fn took_ms(&self, permille: usize) -> u64 {
        let mut took: Vec<u64> = self.answered.iter().map(|answered| answered.took_us).collect();
        took.sort_unstable();
        let last = took.len().saturating_sub(1);
        took.get(last * permille / 1_000).map_or(0, |us| us / 1_000)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} requests, {} failed", self.asked, self.failures.len())?;
        let mut kinds = BTreeMap::new();
        for failure in &self.failures {
            *kinds.entry(failure.kind).or_insert(0_u64) += 1;
        }
        for (kind, count) in kinds {
            write!(out, ", {kind:?} {count}")?;
        }
        let [half, most, all] = [500, 990, 1_000].map(|permille| self.took_ms(permille));
        write!(out, "; p50 {half} ms, p99 {most} ms, slowest {all} ms")?;
        match self.closed_idle {
            0 => Ok(()),
            count => write!(out, "; {count} connections closed at rest"),
        }
    }
}
