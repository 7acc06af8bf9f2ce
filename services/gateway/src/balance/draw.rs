//! The choice among endpoints. Pure: the turn's number is all the chance there is.

use super::slot::Slot;

/// Differences below this do not count, in microseconds.
const ALIKE_US: u64 = 1_000;

/// Of so many choices one is left to chance, so that what is known stays true.
const CHANCE: u64 = 16;

/// Two drawn by their shares, and of them the better one.
pub(super) fn better_of_two<T>(
    slots: &[Slot<T>],
    turn: u64,
    tried: &[u64],
    now_ms: u64,
) -> Option<usize> {
    let one = drawn(slots, turn.wrapping_mul(0x9e37_79b9_7f4a_7c15), now_ms, |slot| {
        slot.is_good(tried, now_ms)
    })?;
    let first = &slots[one];
    // Only those of the same weight compete, or the split that the weights say would not hold.
    let other = drawn(slots, scattered(turn), now_ms, |slot| {
        slot.id != first.id && slot.weight == first.weight && slot.is_good(tried, now_ms)
    });
    let Some(other) = other.filter(|_| !turn.is_multiple_of(CHANCE)) else { return Some(one) };
    let second = &slots[other];
    let (cost, other_cost) = costs(first, second, now_ms);
    let better = if first.local == second.local {
        other_cost * 5 < cost * 4
    } else if second.local {
        other_cost * 4 <= cost * 5
    } else {
        other_cost * 5 < cost * 3
    };
    Some(if better { other } else { one })
}

/// How long a client would wait at either, in one unit.
fn costs<T>(first: &Slot<T>, second: &Slot<T>, now_ms: u64) -> (u128, u128) {
    let (a, b) = (first.takes_us(now_ms), second.takes_us(now_ms));
    // Where one is not known, only how busy they are compares.
    let (a, b) = if a == 0 || b == 0 { (1, 1) } else { (a + ALIKE_US, b + ALIKE_US) };
    let cost = |open: u64, takes: u64| (u128::from(open) + 1) * u128::from(takes);
    (cost(first.open, a), cost(second.open, b))
}

/// The one that a number falls on when each takes as much room as its share.
fn drawn<T>(
    slots: &[Slot<T>],
    number: u64,
    now_ms: u64,
    may: impl Fn(&Slot<T>) -> bool,
) -> Option<usize> {
    let candidates = || slots.iter().enumerate().filter(|(_, slot)| may(slot));
    let total: u64 = candidates().map(|(_, slot)| slot.share(now_ms)).sum();
    if total == 0 {
        // All of them have no weight: the last resort is equal shares.
        let count = u64::try_from(candidates().count()).ok().filter(|count| *count > 0)?;
        let nth = usize::try_from(scaled(number, count)).ok()?;
        return candidates().nth(nth).map(|(i, _)| i);
    }
    let mut point = scaled(number, total);
    for (i, slot) in candidates() {
        let share = slot.share(now_ms);
        if point < share {
            return Some(i);
        }
        point -= share;
    }
    None
}

/// One after the other, each as often as its share says, as evenly as can be.
pub(super) fn in_turn<T>(slots: &mut [Slot<T>], tried: &[u64], now_ms: u64) -> Option<usize> {
    let mut total = 0;
    let mut next: Option<usize> = None;
    for i in 0..slots.len() {
        if !slots[i].is_good(tried, now_ms) {
            continue;
        }
        let share = i64::try_from(slots[i].share(now_ms)).unwrap_or(i64::MAX);
        slots[i].credit = slots[i].credit.saturating_add(share);
        total += share;
        if next.is_none_or(|next| slots[i].credit > slots[next].credit) {
            next = Some(i);
        }
    }
    let next = next?;
    slots[next].credit = slots[next].credit.saturating_sub(total);
    Some(next)
}

/// The same one for the same key: each has a score for it, and the best one wins, so that whoever comes
/// or goes moves only what it wins or had. The larger the weight, the more keys.
pub(super) fn by_key<T>(slots: &[Slot<T>], key: u64, tried: &[u64], now_ms: u64) -> Option<usize> {
    let mut best: Option<(f64, usize)> = None;
    for (i, slot) in slots.iter().enumerate() {
        if slot.weight == 0 || !slot.is_good(tried, now_ms) {
            continue;
        }
        // A number between 0 and 1, never 0.
        let part = ((scattered(slot.mark ^ key) >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        let score = -part.ln() / f64::from(slot.weight);
        if best.is_none_or(|(least, _)| score < least) {
            best = Some((score, i));
        }
    }
    best.map(|(_, i)| i)
}

/// Of those that are put aside and were not tried, the one that comes back first.
pub(super) fn least_bad<T>(slots: &[Slot<T>], tried: &[u64]) -> Option<usize> {
    let untried = slots.iter().enumerate().filter(|(_, slot)| !tried.contains(&slot.id));
    untried.min_by_key(|(_, slot)| (slot.aside_until_ms, slot.id)).map(|(i, _)| i)
}

/// A number that neighbours of the given one do not have as a neighbour.
pub(super) fn scattered(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A number of 64 bits as one below `below`.
fn scaled(number: u64, below: u64) -> u64 {
    u64::try_from((u128::from(number) * u128::from(below)) >> 64).unwrap_or(0)
}
