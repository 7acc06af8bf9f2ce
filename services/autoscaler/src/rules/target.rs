//! Target tracking: how many replicas bring their average use near the target.
//!
//! With the whole load as a sum of shares of what one replica reserves, the number that is wanted is
//! the load divided by the target, rounded up. It does not depend on how many there are now, so a
//! constant load has one answer, and what was decided is not decided again.
//!
//! Replicas of which nothing usable is known count against any change: as idle where more would be
//! wanted, as just at the target where fewer would.

use std::fmt;

/// How far the average use may be from the target without consequence, in percent of the target.
const TOLERANCE_PERCENT: u128 = 10;

/// What one replica reserves, in the parts in which shares are counted.
const WHOLE: u64 = 1_000_000;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Cpu,
    Memory,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        })
    }
}

/// The use of one resource by the replicas of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Measured {
    pub(crate) resource: Resource,
    pub(crate) target_percent: u32,
    /// How many replicas were counted.
    pub(crate) counted: u32,
    /// What they use together, in millionths of what one reserves.
    load: u64,
}

impl Measured {
    pub(crate) fn new(resource: Resource, target_percent: u32) -> Self {
        Self { resource, target_percent, counted: 0, load: 0 }
    }

    /// Counts a replica: what it uses of what it reserves. One that reserves nothing is not counted.
    pub(crate) fn add(&mut self, used: u64, reserved: u64) {
        if reserved > 0 {
            let share = u128::from(used) * u128::from(WHOLE) / u128::from(reserved);
            self.load = self.load.saturating_add(u64::try_from(share).unwrap_or(u64::MAX));
            self.counted += 1;
        }
    }

    /// The average use, in percent of what is reserved.
    pub(crate) fn percent(&self) -> u64 {
        self.load / u64::from(self.counted.max(1)) / (WHOLE / 100)
    }

    /// How many replicas the use asks for where there should be `current` now. None when nothing
    /// was counted.
    pub(crate) fn wanted(&self, current: u32) -> Option<u32> {
        let target = u128::from(self.target_percent) * u128::from(WHOLE / 100);
        if self.counted == 0 || target == 0 {
            return None;
        }
        let load = u128::from(self.load);
        let all = u128::from(current.max(self.counted));
        let unknown = all - u128::from(self.counted);
        let counted = all - unknown;
        if load > counted * target {
            let tolerated = all * target * (100 + TOLERANCE_PERCENT);
            if load * 100 <= tolerated {
                return Some(current);
            }
            return Some(number(load.div_ceil(target)).max(current));
        }
        let load = load + unknown * target;
        let tolerated = all * target * (100 - TOLERANCE_PERCENT);
        if load * 100 >= tolerated {
            return Some(current);
        }
        Some(number(load.div_ceil(target)).min(current))
    }
}

fn number(count: u128) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of replicas that reserve 100 each and use so much; the target is in percent.
    #[track_caller]
    fn wants(target: u32, current: u32, uses: &[u64], wanted: Option<u32>) {
        let mut measured = Measured::new(Resource::Cpu, target);
        for used in uses {
            measured.add(*used, 100);
        }
        assert_eq!(measured.wanted(current), wanted, "{current} at {uses:?} of {target}");
    }

    #[test]
    fn the_load_divided_by_the_target_rounded_up() {
        wants(50, 1, &[100], Some(2));
        wants(50, 1, &[101], Some(3));
        wants(50, 3, &[83, 83, 83], Some(5));
        wants(50, 3, &[10, 20, 30], Some(2));
        wants(50, 3, &[0, 0, 0], Some(0));
        wants(200, 2, &[1_000, 0], Some(5));
    }

    #[test]
    fn a_tenth_around_the_target_is_near_enough() {
        wants(50, 2, &[55, 55], Some(2));
        wants(50, 2, &[56, 56], Some(3));
        wants(50, 10, &[45; 10], Some(10));
        wants(50, 10, &[44; 10], Some(9));
    }

    #[test]
    fn what_is_not_known_counts_against_a_change() {
        // As idle where more would be wanted: 90 over three is what the target asks of two.
        wants(50, 3, &[90], Some(3));
        wants(50, 3, &[200], Some(4));
        // As just at the target where fewer would: the two unknown ones stay.
        wants(50, 4, &[0, 0], Some(2));
        wants(50, 4, &[45, 40], Some(4));
        wants(50, 1_000, &[0], Some(1_000));
    }

    #[test]
    fn nothing_counted_wants_nothing() {
        wants(50, 3, &[], None);
        let mut measured = Measured::new(Resource::Memory, 50);
        measured.add(70, 0);
        assert_eq!(measured.wanted(3), None);
    }

    #[test]
    fn a_surplus_of_a_rollout_carries_its_part_of_the_load() {
        wants(50, 3, &[50, 50, 50, 50], Some(3));
        wants(50, 3, &[75, 75, 75, 75], Some(6));
    }

    #[test]
    fn numbers_beyond_all_bounds_are_still_numbers() {
        wants(1, 1, &[u64::MAX], Some(u32::MAX));
        let mut measured = Measured::new(Resource::Memory, 1_000);
        measured.add(u64::MAX, 1);
        measured.add(u64::MAX, 1);
        assert!(measured.wanted(u32::MAX).is_some());
    }
}
