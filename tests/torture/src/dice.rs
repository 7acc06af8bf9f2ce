//! Numbers that follow from a seed.

/// A seed that nobody chose.
pub(crate) fn seed() -> u64 {
    let hex = runtime::entropy::hex();
    u64::from_str_radix(&hex[..8], 16).unwrap_or(1)
}

/// The dice.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 on, below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// Dice of their own for one of many.
    pub(crate) fn split(&mut self) -> Self {
        Self(self.next())
    }
}
