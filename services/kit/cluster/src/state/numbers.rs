//! Numbers of workloads and of replicas: each has one of its own for as long as it is there, whatever else comes and
//! goes.
//!
//! A gateway has a range of 65,536 addresses; a workload's address there is the one of its number. Which
//! number it gets follows from its name and from those that are taken, so every fold gives the same.

use std::collections::BTreeSet;

use schemas::id::{AppKey, ReplicaId, WorkloadName};

use crate::section::hash_of;

/// The first number: the range's own address and that of the name server come before.
const FIRST: u16 = 2;

/// The last one: behind it is the range's broadcast address.
const LAST: u16 = u16::MAX - 1;

/// Replicas get none once so many are taken: the rest is for workloads.
const FOR_REPLICAS: usize = 49_152;

/// The numbers that are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers(BTreeSet<u16>);

impl Numbers {
    /// Takes a number for a workload: the one that its name gives, or else the next free one behind it.
    /// None when all are taken.
    pub(crate) fn take(&mut self, app: &AppKey, workload: &WorkloadName) -> Option<u16> {
        self.near(hash_of(&(app, workload)))
    }

    /// The same for a replica, as long as enough are left for workloads.
    pub(crate) fn take_for_replica(&mut self, replica: &ReplicaId) -> Option<u16> {
        if self.0.len() >= FOR_REPLICAS {
            return None;
        }
        self.near(hash_of(replica))
    }

    fn near(&mut self, hash: u128) -> Option<u16> {
        let all = u128::from(LAST - FIRST) + 1;
        let wanted = FIRST + u16::try_from(hash % all).unwrap_or(0);
        let number = self.free(wanted..=LAST).or_else(|| self.free(FIRST..=LAST))?;
        self.0.insert(number);
        Some(number)
    }

    fn free(&self, mut among: std::ops::RangeInclusive<u16>) -> Option<u16> {
        let mut taken = self.0.range(among.clone());
        among.find(|number| taken.next() != Some(number))
    }

    /// Notes a number that somebody has already.
    pub(crate) fn keep(&mut self, number: u16) {
        self.0.insert(number);
    }

    /// Frees the numbers of those who are gone.
    pub(crate) fn give_back(&mut self, numbers: impl IntoIterator<Item = u16>) {
        for number in numbers {
            self.0.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use schemas::event::{AppDeleteStarted, AppDeleted, AppDeployed};
    use schemas::id::Writer;
    use schemas::spec::{AppSpec, WorkloadSpec};

    use super::*;
    use crate::history::{History, app, workload};
    use crate::{Fold, State};

    #[test]
    fn when_all_are_taken_there_is_none_and_the_one_that_is_freed_is_the_next() {
        let mut numbers = Numbers((FIRST..=LAST).collect());
        let take = |numbers: &mut Numbers| numbers.take(&app("shop"), &workload("web"));
        assert_eq!(take(&mut numbers), None);
        for freed in [FIRST, 777, LAST] {
            numbers.give_back([freed]);
            assert_eq!(take(&mut numbers), Some(freed));
            assert_eq!(take(&mut numbers), None);
        }
    }

    #[test]
    fn replicas_leave_numbers_for_workloads() {
        let mut numbers = Numbers((FIRST..).take(FOR_REPLICAS - 1).collect());
        let id = crate::history::replica("shop-web-aaaaa");
        let number = numbers.take_for_replica(&id).expect("there is one left");
        assert_eq!(numbers.take_for_replica(&id), None);
        assert!(numbers.take(&app("shop"), &workload("web")).is_some());
        numbers.give_back([number]);
        assert_eq!(numbers.take_for_replica(&id), None, "a workload has it");
    }

    #[test]
    fn a_number_that_is_taken_gives_the_next_one() {
        let mut numbers = Numbers::default();
        let first = numbers.take(&app("shop"), &workload("web")).expect("all are free");
        numbers.keep(first + 1);
        assert_eq!(numbers.take(&app("shop"), &workload("web")), Some(first + 2));
    }

    fn all(state: &State) -> BTreeMap<(AppKey, WorkloadName), u16> {
        let of_app = |(key, app): (&AppKey, &crate::state::App)| {
            let key = key.clone();
            let numbered = app.workloads.iter().filter_map(|(name, w)| Some((name, w.number?)));
            numbered.map(|(name, n)| ((key.clone(), name.clone()), n)).collect::<Vec<_>>()
        };
        state.apps.iter().flat_map(of_app).collect()
    }

    /// Declares an app with so many workloads, or with none: deletes it.
    fn declare(history: &mut History, name: &str, workloads: u8) {
        let key = app(name);
        let there = history.fold.state().apps.get(&key).map(|app| app.revision);
        if workloads == 0 {
            if there.is_some() {
                history.add(&Writer::Controller, AppDeleteStarted { app: key.clone() });
                history.add(&Writer::Controller, AppDeleted { app: key });
            }
            return;
        }
        let named =
            (0..workloads).map(|i| (workload(&format!("w{i}")), WorkloadSpec::of_image("a")));
        let spec = AppSpec { name: key.name.clone(), workloads: named.collect() };
        let revision = there.unwrap_or(0) + 1;
        history.add(&Writer::Controller, AppDeployed { app: key, revision, spec });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_workload_has_one_of_its_own_for_good_and_every_fold_gives_the_same(
            steps in prop::collection::vec((0_u8..12, 0_u8..6), 1..60)
        ) {
            let mut history = History::default();
            let mut before = BTreeMap::new();
            for (name, workloads) in steps {
                declare(&mut history, &format!("a{name}"), workloads);
                let now = all(history.fold.state());
                let declared: usize =
                    history.fold.state().apps.iter().map(|(_, app)| app.workloads.len()).sum();
                prop_assert_eq!(now.len(), declared, "each has one");
                let different: BTreeSet<u16> = now.values().copied().collect();
                prop_assert_eq!(different.len(), now.len(), "no two have the same");
                for (key, number) in &now {
                    prop_assert!(before.get(key).is_none_or(|was| was == number), "it stays");
                }
                prop_assert_eq!(
                    &history.fold.state().index.numbers.0,
                    &different,
                    "what is gone is free again"
                );
                before = now;
            }
            let mut again = Fold::new();
            for entry in &history.entries {
                again.push(entry).expect("it is the next entry");
            }
            prop_assert_eq!(all(again.state()), before);
            prop_assert_eq!(again.state().hash(), history.fold.state().hash());
        }
    }
}
