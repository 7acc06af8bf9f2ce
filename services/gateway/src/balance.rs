//! Which endpoint a connection or a request goes to.
//!
//! Two are drawn, each as often as its weight says, and the one that is less busy and answers faster
//! gets it; of two that are about as good, the one on this node. An endpoint that is new gets its share
//! little by little. One that could not be reached is put aside for a growing time: it is tried when
//! nothing else is left, and then by one at a time, or by whoever looks after it. One that answers
//! badly several times in a row is put aside as well, but never more than half of them.

use schemas::id::NodeName;

use crate::table::Endpoint;

mod draw;
mod slot;

use slot::Slot;

/// The endpoints of one port, and what is known of each. No clock: whoever asks says the time. With each
/// endpoint goes what its owner keeps for it.
#[derive(Debug)]
pub struct Balancer<T> {
    slots: Vec<Slot<T>>,
    here: Option<NodeName>,
    how: How,
    turn: u64,
    made: u64,
}

/// How one of them is chosen when nobody in particular is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum How {
    /// The better of two.
    #[default]
    LeastLoaded,
    /// One after the other.
    RoundRobin,
}

/// Who is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Want {
    /// Anyone.
    #[default]
    Any,
    /// Always the same one for the same key, as long as it is there.
    Key(u64),
    /// The one that this mark is of ([`mark`]), or anyone if it is not there or not well.
    Marked(u64),
}

/// An endpoint that was picked: count it out again with [`Balancer::closed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pick<T> {
    /// What to call it by. No other endpoint ever has it.
    pub id: u64,
    /// What its owner keeps for it.
    pub site: T,
}

impl<T> Default for Balancer<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), here: None, how: How::default(), turn: 0, made: 0 }
    }
}

impl<T: Clone> Balancer<T> {
    /// One on a node, which prefers the endpoints there.
    #[must_use]
    pub fn on(here: NodeName) -> Self {
        Self { here: Some(here), ..Self::default() }
    }

    /// Chooses like this from now on.
    pub fn choose(&mut self, how: How) {
        self.how = how;
    }

    /// Makes these the endpoints. What is known of those that stay is kept; for the others the owner
    /// makes what it keeps.
    pub fn lead(
        &mut self,
        endpoints: &[Endpoint],
        now_ms: u64,
        mut make: impl FnMut(&Endpoint) -> T,
    ) {
        let mut before = std::mem::take(&mut self.slots);
        let warming = !before.is_empty();
        for endpoint in endpoints {
            let known = before.iter().position(|slot| slot.is_of(endpoint));
            let mut slot = known.map_or_else(
                || {
                    self.made += 1;
                    let local = self.here.as_ref() == Some(&endpoint.node);
                    Slot::new(self.made, endpoint, make(endpoint), local, warming.then_some(now_ms))
                },
                |i| before.swap_remove(i),
            );
            slot.weight = endpoint.weight;
            self.slots.push(slot);
        }
    }

    /// The endpoint to try next, which is not one of those that were tried already. It counts as busy
    /// with one more thing from now on.
    pub fn pick(&mut self, want: Want, tried: &[u64], now_ms: u64) -> Option<Pick<T>> {
        self.turn = self.turn.wrapping_add(1);
        let wanted = match want {
            Want::Any => None,
            Want::Key(key) => draw::by_key(&self.slots, key, tried, now_ms),
            Want::Marked(mark) => {
                self.slots.iter().position(|s| s.mark == mark && s.is_good(tried, now_ms))
            }
        };
        let chosen = wanted
            .or_else(|| match self.how {
                How::LeastLoaded => draw::better_of_two(&self.slots, self.turn, tried, now_ms),
                How::RoundRobin => draw::in_turn(&mut self.slots, tried, now_ms),
            })
            .or_else(|| draw::least_bad(&self.slots, tried))?;
        let slot = &mut self.slots[chosen];
        slot.taken(now_ms);
        Some(Pick { id: slot.id, site: slot.site.clone() })
    }

    /// A picked endpoint was reached.
    pub fn reached(&mut self, id: u64) {
        if let Some(slot) = self.slot(id) {
            slot.reached();
        }
    }

    /// A picked endpoint could not be reached.
    pub fn failed(&mut self, id: u64, now_ms: u64) {
        if let Some(slot) = self.slot(id) {
            slot.failed(now_ms);
        }
    }

    /// The machine of a picked endpoint says nothing: whether the others there can be reached is to be
    /// found out before one of them is picked. Says which of them were thought to be.
    pub fn doubted(&mut self, id: u64, now_ms: u64) -> Vec<u64> {
        let Some(silent) = self.slots.iter().position(|slot| slot.id == id) else {
            return Vec::new();
        };
        let beside =
            (0..self.slots.len()).filter(|i| self.slots[*i].is_beside(&self.slots[silent]));
        let beside: Vec<usize> = beside.collect();
        let doubted = beside.into_iter().filter(|i| self.slots[*i].doubted(now_ms));
        let doubted: Vec<usize> = doubted.collect();
        doubted.into_iter().map(|i| self.slots[i].id).collect()
    }

    /// From now on somebody finds out whether an endpoint that failed can be reached again: it is not
    /// picked before that is known, unless nothing else is left. Says whether nobody did before.
    pub fn look_after(&mut self, id: u64) -> bool {
        self.slot(id).is_some_and(Slot::look_after)
    }

    /// How long whoever looks after an endpoint waits with the next look, in ms. None once it was reached,
    /// or is none any more: that was the last one.
    pub fn next_look(&mut self, id: u64, now_ms: u64) -> Option<u64> {
        self.slot(id)?.next_look(now_ms)
    }

    /// A picked endpoint answered well, after so long.
    pub fn answered(&mut self, id: u64, after_us: u64, now_ms: u64) {
        if let Some(slot) = self.slot(id) {
            slot.answered(after_us, now_ms);
        }
    }

    /// A picked endpoint was reached, and answered badly or not at all. Says whether it is put aside
    /// for that.
    pub fn disappointed(&mut self, id: u64, now_ms: u64) -> bool {
        let aside = self.slots.iter().filter(|slot| slot.is_ejected(now_ms)).count();
        let may_eject = (aside + 1) * 2 <= self.slots.len();
        self.slot(id).is_some_and(|slot| slot.disappointed(may_eject, now_ms))
    }

    /// What a picked endpoint was busy with is over, or never began.
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

    /// What is kept for each.
    pub fn sites(&self) -> impl Iterator<Item = (u64, &T)> {
        self.slots.iter().map(|slot| (slot.id, &slot.site))
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

    /// How many are put aside for what they answered.
    #[must_use]
    pub fn ejected(&self, now_ms: u64) -> usize {
        self.slots.iter().filter(|slot| slot.is_ejected(now_ms)).count()
    }

    fn slot(&mut self, id: u64) -> Option<&mut Slot<T>> {
        self.slots.iter_mut().find(|slot| slot.id == id)
    }
}

/// What stands for a text: equal for equal ones, on every gateway.
#[must_use]
pub fn mark(text: &[u8]) -> u64 {
    text.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| draw::scattered(hash ^ u64::from(*byte)))
}

#[cfg(test)]
mod tests;
