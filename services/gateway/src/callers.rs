//! Who calls whom by name: requests of containers, counted by the address that they come from until it is
//! told whose that is.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use schemas::id::{AppKey, WorkloadName};
use schemas::report::Calls;

/// From how many addresses at most one workload's requests are counted between two tellings.
const ADDRESSES_MAX: usize = 10_000;

/// A workload.
type Of = (AppKey, WorkloadName);

/// What was asked of all workloads. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Callers(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// What was asked of each since the last telling.
    asked: BTreeMap<Of, Weak<Asked>>,
    /// Whose addresses are.
    whose: BTreeMap<IpAddr, Of>,
    /// What was told: of whom, by whom.
    told: BTreeMap<(Of, Of), u64>,
}

/// What was asked of one workload, by address, since the last telling.
#[derive(Debug, Default)]
pub(crate) struct Asked(Mutex<BTreeMap<IpAddr, u64>>);

impl Asked {
    /// A request was answered, or a connection made.
    pub(crate) fn by(&self, address: IpAddr) {
        let mut by = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if by.len() < ADDRESSES_MAX || by.contains_key(&address) {
            *by.entry(address).or_default() += 1;
        }
    }

    fn take(&self) -> BTreeMap<IpAddr, u64> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Callers {
    /// What is asked of a workload.
    pub(crate) fn of(&self, app: &AppKey, workload: &WorkloadName) -> Arc<Asked> {
        let mut known = self.known();
        let of = (app.clone(), workload.clone());
        let there = known.asked.get(&of).and_then(Weak::upgrade);
        there.unwrap_or_else(|| {
            let asked = Arc::<Asked>::default();
            known.asked.insert(of, Arc::downgrade(&asked));
            asked
        })
    }

    /// Whose addresses are from now on. What was asked before is told by whose they were.
    pub(crate) fn are(&self, whose: BTreeMap<IpAddr, Of>) {
        let mut known = self.known();
        if known.whose != whose {
            known.settle();
            known.whose = whose;
        }
    }

    /// Everything that was counted.
    #[must_use]
    pub fn tell(&self) -> Vec<Calls> {
        let mut known = self.known();
        known.settle();
        let told = known.told.iter().map(|((to, from), requests)| Calls {
            from_app: from.0.clone(),
            from: from.1.clone(),
            to_app: to.0.clone(),
            to: to.1.clone(),
            requests: *requests,
        });
        told.collect()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Counts what was asked for those whose addresses asked. What nobody can be asked any more is forgotten.
    fn settle(&mut self) {
        let Self { asked, whose, told } = self;
        asked.retain(|to, asked| {
            let Some(asked) = asked.upgrade() else { return false };
            for (address, count) in asked.take() {
                if let Some(from) = whose.get(&address) {
                    *told.entry((to.clone(), from.clone())).or_default() += count;
                }
            }
            true
        });
        told.retain(|(to, _), _| asked.contains_key(to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Of {
        (AppKey::parse("shop").expect("a name"), WorkloadName::new(name).expect("a name"))
    }

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn told(callers: &Callers) -> Vec<(String, String, u64)> {
        let told = callers.tell().into_iter();
        told.map(|c| (c.from.to_string(), c.to.to_string(), c.requests)).collect()
    }

    #[test]
    fn requests_count_for_whoever_has_the_address_and_the_counts_stay() {
        let callers = Callers::default();
        callers.are([(address(1), of("web")), (address(2), of("worker"))].into());
        let (api, store) =
            (callers.of(&of("api").0, &of("api").1), callers.of(&of("store").0, &of("store").1));
        for _ in 0..3 {
            api.by(address(1));
        }
        api.by(address(2));
        api.by(address(9));
        store.by(address(1));
        let expected = [("web", "api", 3), ("worker", "api", 1), ("web", "store", 1)];
        let expected = expected.map(|(from, to, n)| (from.to_owned(), to.to_owned(), n));
        assert_eq!(told(&callers), expected, "nobody knows whose the ninth is");
        assert_eq!(told(&callers), expected, "they are of since it began");
        // The address of one goes to another: what came before was not the other's.
        api.by(address(2));
        callers.are([(address(2), of("web"))].into());
        api.by(address(2));
        assert_eq!(told(&callers)[..2].iter().map(|t| t.2).collect::<Vec<_>>(), [4, 2]);
    }

    #[test]
    fn what_nobody_can_be_asked_any_more_is_forgotten() {
        let callers = Callers::default();
        callers.are([(address(1), of("web"))].into());
        let api = callers.of(&of("api").0, &of("api").1);
        api.by(address(1));
        assert_eq!(told(&callers).len(), 1);
        assert!(Arc::ptr_eq(&api, &callers.of(&of("api").0, &of("api").1)));
        drop(api);
        assert_eq!(told(&callers), []);
    }
}
