//! What a balancer knows of one endpoint.

use schemas::id::ReplicaId;

use super::mark;
use crate::table::Endpoint;

/// How long an endpoint is put aside after it could not be reached, in ms. It doubles with each time.
const ASIDE_MS: u64 = 1_000;

/// The longest time it is put aside for that, in ms.
const ASIDE_MS_MAX: u64 = 10_000;

/// How many bad answers in a row put an endpoint aside.
const BAD_MAX: u32 = 5;

/// For how long, in ms. It doubles with each time.
const EJECTED_MS: u64 = 5_000;

/// The longest time it is put aside for that, in ms. Good for as long as this, all is forgotten.
const EJECTED_MS_MAX: u64 = 60_000;

/// How long an endpoint that joins others takes to get its whole share, in ms.
const WARM_MS: u64 = 10_000;

/// What it gets at first, in thousandths.
const COLD: u64 = 100;

/// After how long without an answer what is known of its speed counts half, in ms.
const FADE_MS: u64 = 10_000;

#[derive(Debug)]
pub(super) struct Slot<T> {
    pub(super) id: u64,
    pub(super) site: T,
    pub(super) mark: u64,
    pub(super) weight: u32,
    pub(super) local: bool,
    /// What it is busy with: connections, or requests.
    pub(super) open: u64,
    /// Its turn, where they take turns.
    pub(super) credit: i64,
    pub(super) aside_until_ms: u64,
    replica: ReplicaId,
    run: u32,
    address: String,
    port: u16,
    failures: u32,
    /// Somebody finds out whether it can be reached again, so no client has to.
    looked_after: bool,
    bad: u32,
    ejections: u32,
    ejected_until_ms: u64,
    /// When it joined others.
    joined_ms: Option<u64>,
    /// How long answers take, newer ones counting more; 0 when nothing is known.
    takes_us: u64,
    answered_ms: u64,
}

impl<T> Slot<T> {
    pub(super) fn new(
        id: u64,
        endpoint: &Endpoint,
        site: T,
        local: bool,
        joined_ms: Option<u64>,
    ) -> Self {
        Self {
            id,
            site,
            mark: mark(endpoint.replica.as_str().as_bytes()),
            weight: endpoint.weight,
            local,
            open: 0,
            credit: 0,
            aside_until_ms: 0,
            replica: endpoint.replica.clone(),
            run: endpoint.run,
            address: endpoint.address.clone(),
            port: endpoint.port,
            failures: 0,
            looked_after: false,
            bad: 0,
            ejections: 0,
            ejected_until_ms: 0,
            joined_ms,
            takes_us: 0,
            answered_ms: 0,
        }
    }

    /// Whether it is that of an endpoint, whatever its weight is now.
    pub(super) fn is_of(&self, endpoint: &Endpoint) -> bool {
        let Endpoint { replica, run, address, port, .. } = endpoint;
        (&self.replica, self.run, &self.address, self.port) == (replica, *run, address, *port)
    }

    pub(super) fn is_good(&self, tried: &[u64], now_ms: u64) -> bool {
        let reached = self.aside_until_ms <= now_ms && !(self.looked_after && self.failures > 0);
        reached && !self.is_ejected(now_ms) && !tried.contains(&self.id)
    }

    pub(super) fn is_beside(&self, other: &Self) -> bool {
        self.address == other.address && self.id != other.id
    }

    /// Whether it can be reached is not known any more, and is to be found out at once. Says whether it was
    /// thought to be.
    pub(super) fn doubted(&mut self, now_ms: u64) -> bool {
        let reached = self.failures == 0;
        if reached {
            self.failures = 1;
            self.aside_until_ms = now_ms;
        }
        reached
    }

    /// Says whether nobody looked after it before.
    pub(super) fn look_after(&mut self) -> bool {
        !std::mem::replace(&mut self.looked_after, true)
    }

    /// How long to wait with the next look, in ms; none once it was reached: nobody looks any more.
    pub(super) fn next_look(&mut self, now_ms: u64) -> Option<u64> {
        self.looked_after = self.failures > 0;
        self.looked_after.then(|| self.aside_until_ms.saturating_sub(now_ms))
    }

    pub(super) fn is_ejected(&self, now_ms: u64) -> bool {
        self.ejected_until_ms > now_ms
    }

    /// How much of the traffic is for it, beside what the others say.
    pub(super) fn share(&self, now_ms: u64) -> u64 {
        let warm = self.joined_ms.map_or(1_000, |joined_ms| {
            let age_ms = now_ms.saturating_sub(joined_ms).min(WARM_MS);
            COLD.max(age_ms * 1_000 / WARM_MS)
        });
        u64::from(self.weight) * warm
    }

    /// How long answers take, as far as that is known; the longer ago, the less it counts.
    pub(super) fn takes_us(&self, now_ms: u64) -> u64 {
        let ages = now_ms.saturating_sub(self.answered_ms) / FADE_MS;
        self.takes_us >> ages.min(63)
    }

    pub(super) fn taken(&mut self, now_ms: u64) {
        self.open += 1;
        if self.failures > 0 {
            // The others wait for what this try finds.
            self.aside_until_ms = self.aside_until_ms.max(now_ms + ASIDE_MS);
        }
    }

    pub(super) fn reached(&mut self) {
        self.failures = 0;
        self.aside_until_ms = 0;
    }

    pub(super) fn failed(&mut self, now_ms: u64) {
        let wait = ASIDE_MS << self.failures.min(10);
        self.failures = self.failures.saturating_add(1);
        self.aside_until_ms = now_ms + wait.min(ASIDE_MS_MAX);
    }

    pub(super) fn answered(&mut self, after_us: u64, now_ms: u64) {
        self.bad = 0;
        if now_ms.saturating_sub(self.ejected_until_ms) > EJECTED_MS_MAX {
            self.ejections = 0;
        }
        let known = self.takes_us(now_ms);
        // Slower is believed sooner than faster.
        self.takes_us = if known == 0 {
            after_us.max(1)
        } else if after_us > known {
            known + (after_us - known) / 4
        } else {
            known - (known - after_us) / 8
        };
        self.answered_ms = now_ms;
    }

    /// Says whether it is put aside.
    pub(super) fn disappointed(&mut self, may_eject: bool, now_ms: u64) -> bool {
        self.bad = self.bad.saturating_add(1);
        if self.bad < BAD_MAX || !may_eject || self.is_ejected(now_ms) {
            return false;
        }
        let wait = EJECTED_MS << self.ejections.min(10);
        self.ejections = self.ejections.saturating_add(1);
        self.ejected_until_ms = now_ms + wait.min(EJECTED_MS_MAX);
        self.bad = 0;
        true
    }
}
