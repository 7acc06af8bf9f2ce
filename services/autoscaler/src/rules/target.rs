//! Target tracking: how many replicas bring what is measured of each near the target.
//!
//! With the whole load as a sum of what each replica carries, the number that is wanted is the load
//! divided by the target, rounded up. It does not depend on how many there are now, so a constant load
//! has one answer, and what was decided is not decided again.
//!
//! How long answers take is no load: fewer replicas may take much longer. More are asked for in
//! proportion, fewer one at a time.
//!
//! Replicas of which nothing usable is known count against any change: as idle where more would be
//! wanted, as just at the target where fewer would.

use std::fmt;

/// How far the average may be from the target without consequence, in percent of the target.
const TOLERANCE_PERCENT: u128 = 10;

/// What one replica reserves, in the parts in which shares are counted.
const WHOLE: u64 = 1_000_000;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// In millionths of what one replica reserves; the target in percent of it.
    Cpu,
    /// The same.
    Memory,
    /// In thousandths of a request a second.
    Requests,
    /// The time in which 95 of 100 answers begin, in microseconds; the target in milliseconds.
    P95,
    /// In thousandths of a request that is under way.
    InFlight,
}

impl Signal {
    /// How many parts, in which loads are counted, make one of what targets are given in.
    fn parts(self) -> u64 {
        match self {
            Self::Cpu | Self::Memory => WHOLE / 100,
            Self::Requests | Self::InFlight | Self::P95 => 1_000,
        }
    }
}

/// What was measured of the replicas of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Measured {
    pub(crate) signal: Signal,
    target: u32,
    /// How many replicas were counted.
    pub(crate) counted: u32,
    /// What they carry together, in parts of the signal.
    load: u64,
    /// Whether there may be more than was heard of: then nothing asks for fewer.
    in_part: bool,
}

impl Measured {
    pub(crate) fn new(signal: Signal, target: u32) -> Self {
        Self { signal, target, counted: 0, load: 0, in_part: false }
    }

    /// Counts a replica: what it uses of what it reserves. One that reserves nothing is not counted.
    pub(crate) fn add_share(&mut self, used: u64, reserved: u64) {
        if reserved > 0 {
            let share = u128::from(used) * u128::from(WHOLE) / u128::from(reserved);
            self.add(u64::try_from(share).unwrap_or(u64::MAX));
        }
    }

    /// Counts a replica: what it carries, in parts of the signal.
    pub(crate) fn add(&mut self, parts: u64) {
        self.load = self.load.saturating_add(parts);
        self.counted += 1;
    }

    /// Takes what so many replicas carry together.
    pub(crate) fn set(&mut self, parts: u64, replicas: u32) {
        (self.load, self.counted) = (parts, replicas);
    }

    /// There may be more than was heard of.
    pub(crate) fn is_in_part(&mut self) {
        self.in_part = true;
    }

    /// As if nothing was heard.
    pub(crate) fn forget(&mut self) {
        self.set(0, 0);
    }

    /// How many replicas that asks for where there should be `current` now. None when nothing
    /// was counted.
    pub(crate) fn wanted(&self, current: u32) -> Option<u32> {
        let wanted = self.tracked(current)?;
        Some(match self.signal {
            _ if self.in_part => wanted.max(current),
            Signal::P95 => wanted.max(current.saturating_sub(1)),
            Signal::Cpu | Signal::Memory | Signal::Requests | Signal::InFlight => wanted,
        })
    }

    fn tracked(&self, current: u32) -> Option<u32> {
        let target = u128::from(self.target) * u128::from(self.signal.parts());
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

/// The average, and the target: `cpu 83 % of reserved over 2 replicas, target 50 %`.
impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { measured: Measured { signal, target, counted, load, .. }, over } = self;
        let average = load / u64::from((*counted).max(1));
        let (whole, tenth) =
            (average / signal.parts(), average % signal.parts() * 10 / signal.parts());
        match signal {
            Signal::Cpu => write!(f, "cpu {whole} % of reserved over {over}, target {target} %"),
            Signal::Memory => {
                write!(f, "memory {whole} % of reserved over {over}, target {target} %")
            }
            Signal::Requests => {
                write!(f, "{whole}.{tenth} requests a second each over {over}, target {target}")
            }
            Signal::P95 => write!(f, "p95 {whole}.{tenth} ms over {over}, target {target} ms"),
            Signal::InFlight => {
                write!(f, "{whole}.{tenth} requests under way each over {over}, target {target}")
            }
        }
    }
}

/// A measurement in words, over which replicas.
pub(crate) struct Words<'a> {
    pub(crate) measured: Measured,
    pub(crate) over: &'a str,
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
        let mut measured = Measured::new(Signal::Cpu, target);
        for used in uses {
            measured.add_share(*used, 100);
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
        let mut measured = Measured::new(Signal::Memory, 50);
        measured.add_share(70, 0);
        assert_eq!(measured.wanted(3), None);
    }

    #[test]
    fn a_load_that_is_known_in_part_asks_for_more_and_never_for_fewer() {
        let wanted = |parts, in_part| {
            let mut measured = Measured::new(Signal::Requests, 100);
            measured.set(parts, 4);
            if in_part {
                measured.is_in_part();
            }
            measured.wanted(4)
        };
        assert_eq!((wanted(900_000, false), wanted(900_000, true)), (Some(9), Some(9)));
        assert_eq!((wanted(90_000, false), wanted(90_000, true)), (Some(1), Some(4)));
        assert_eq!((wanted(0, false), wanted(0, true)), (Some(0), Some(4)));
    }

    #[test]
    fn slow_answers_ask_for_more_in_proportion_and_quick_ones_for_one_fewer() {
        let wanted = |times: &[u64]| {
            let mut measured = Measured::new(Signal::P95, 200);
            for us in times {
                measured.add(*us);
            }
            measured.wanted(4)
        };
        assert_eq!(wanted(&[400_000; 4]), Some(8));
        assert_eq!(wanted(&[210_000; 4]), Some(4));
        assert_eq!(wanted(&[2_000; 4]), Some(3));
        assert_eq!(wanted(&[0; 4]), Some(3));
        assert_eq!(wanted(&[]), None);
    }

    #[test]
    fn each_signal_says_its_average_in_its_own_unit() {
        let said = |signal, target, parts| {
            let mut measured = Measured::new(signal, target);
            measured.set(parts, 2);
            Words { measured, over: "2 replicas" }.to_string()
        };
        let requests = "120.5 requests a second each over 2 replicas, target 100";
        assert_eq!(said(Signal::Requests, 100, 241_000), requests);
        assert_eq!(
            said(Signal::P95, 200, 1_024_600),
            "p95 512.3 ms over 2 replicas, target 200 ms"
        );
        let under_way = "1.5 requests under way each over 2 replicas, target 4";
        assert_eq!(said(Signal::InFlight, 4, 3_000), under_way);
        let cpu = "cpu 83 % of reserved over 2 replicas, target 50 %";
        assert_eq!(said(Signal::Cpu, 50, 1_660_000), cpu);
    }

    #[test]
    fn a_surplus_of_a_rollout_carries_its_part_of_the_load() {
        wants(50, 3, &[50, 50, 50, 50], Some(3));
        wants(50, 3, &[75, 75, 75, 75], Some(6));
    }

    #[test]
    fn numbers_beyond_all_bounds_are_still_numbers() {
        wants(1, 1, &[u64::MAX], Some(u32::MAX));
        let mut measured = Measured::new(Signal::Memory, 1_000);
        measured.add_share(u64::MAX, 1);
        measured.add_share(u64::MAX, 1);
        assert!(measured.wanted(u32::MAX).is_some());
    }
}
