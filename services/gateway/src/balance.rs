//! Which endpoint a connection goes to.
//!
//! They take turns; when the one whose turn it is has more connections than another that the turn's
//! number picks, that other one gets it. An endpoint that could not be reached is put aside for a
//! growing time: it is tried when nothing else is left, and then by one connection at a time.

use crate::table::Endpoint;

/// How long an endpoint is put aside after its first failure, in ms. It doubles with each.
const ASIDE_MS: u64 = 1_000;

/// The longest time it is put aside, in ms.
const ASIDE_MS_MAX: u64 = 10_000;

/// The endpoints of one port, and what is known of each. No clock: whoever asks says the time.
#[derive(Debug, Default)]
pub struct Balancer {
    slots: Vec<Slot>,
    turn: u64,
    made: u64,
}

#[derive(Debug)]
struct Slot {
    id: u64,
    endpoint: Endpoint,
    open: u64,
    failures: u32,
    aside_until_ms: u64,
}

/// An endpoint that was picked: count it out again with [`Balancer::closed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pick {
    /// What to call it by. No other endpoint ever has it.
    pub id: u64,
    /// Where it is.
    pub endpoint: Endpoint,
}

impl Balancer {
    /// Makes these the endpoints. What is known of those that stay is kept.
    pub fn lead(&mut self, endpoints: &[Endpoint]) {
        let mut before = std::mem::take(&mut self.slots);
        for endpoint in endpoints {
            let known = before.iter().position(|slot| slot.endpoint == *endpoint);
            let slot = known.map_or_else(|| self.fresh(endpoint), |i| before.swap_remove(i));
            self.slots.push(slot);
        }
    }

    fn fresh(&mut self, endpoint: &Endpoint) -> Slot {
        self.made += 1;
        Slot { id: self.made, endpoint: endpoint.clone(), open: 0, failures: 0, aside_until_ms: 0 }
    }

    /// The endpoint to try next, which is not one of those that were tried already. It counts as a
    /// connection from now on.
    pub fn pick(&mut self, tried: &[u64], now_ms: u64) -> Option<Pick> {
        let untried = || self.slots.iter().enumerate().filter(|(_, s)| !tried.contains(&s.id));
        let good: Vec<usize> =
            untried().filter(|(_, s)| s.aside_until_ms <= now_ms).map(|(i, _)| i).collect();
        let chosen = if good.is_empty() {
            untried().min_by_key(|(_, s)| (s.aside_until_ms, s.id)).map(|(i, _)| i)?
        } else {
            self.turn += 1;
            let (one, other) = (at(&good, self.turn), at(&good, scattered(self.turn)));
            if self.slots[other].open < self.slots[one].open { other } else { one }
        };
        let slot = &mut self.slots[chosen];
        slot.open += 1;
        if slot.failures > 0 {
            // The others wait for what this try finds.
            slot.aside_until_ms = slot.aside_until_ms.max(now_ms + ASIDE_MS);
        }
        Some(Pick { id: slot.id, endpoint: slot.endpoint.clone() })
    }

    /// A picked endpoint was reached.
    pub fn reached(&mut self, id: u64) {
        if let Some(slot) = self.slot(id) {
            slot.failures = 0;
            slot.aside_until_ms = 0;
        }
    }

    /// A picked endpoint could not be reached.
    pub fn failed(&mut self, id: u64, now_ms: u64) {
        if let Some(slot) = self.slot(id) {
            let wait = ASIDE_MS << slot.failures.min(10);
            slot.failures = slot.failures.saturating_add(1);
            slot.aside_until_ms = now_ms + wait.min(ASIDE_MS_MAX);
        }
    }

    /// A connection to a picked endpoint is over, or there never was one.
    pub fn closed(&mut self, id: u64) {
        if let Some(slot) = self.slot(id) {
            slot.open = slot.open.saturating_sub(1);
        }
    }

    /// Whether a picked endpoint is still one.
    #[must_use]
    pub fn has(&self, id: u64) -> bool {
        self.slots.iter().any(|slot| slot.id == id)
    }

    /// How many endpoints there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    fn slot(&mut self, id: u64) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.id == id)
    }
}

/// The entry that a number falls on.
fn at(entries: &[usize], number: u64) -> usize {
    let len = u64::try_from(entries.len()).unwrap_or(u64::MAX);
    entries[usize::try_from(number % len).unwrap_or(0)]
}

/// A number that neighbours of the given one do not have as a neighbour.
fn scattered(turn: u64) -> u64 {
    let mixed = (turn ^ (turn >> 30)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}

#[cfg(test)]
mod tests;
