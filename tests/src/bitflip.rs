//! Flips one bit at many places of a log, and counts what is said of it.

use event_log::testing::Folder;
use event_log::testing::flip::{Guards, Original, Outcome, Target};

/// What is flipped in.
pub const TARGETS: [Target; 4] =
    [Target::Store, Target::Journal, Target::Snapshot, Target::Witness];

/// How long the log is, in requests: some four thousand events.
const REQUESTS: u64 = 2_000;

/// What came of many flips.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many bytes there are to flip a bit of.
    pub bytes: u64,
    /// How often it was named.
    pub named: u64,
    /// How often every answer stayed as it was.
    pub unused: u64,
    /// The bits at which nothing was said and something was different.
    pub silent: Vec<u64>,
    /// What was said without a file or a position.
    pub unplaced: Vec<String>,
}

/// A log to flip bits in.
pub struct Flips {
    original: Original,
    scratch: Folder,
    _folder: Folder,
}

impl Default for Flips {
    fn default() -> Self {
        let folder = Folder::new();
        let original = Original::make(folder.path(), REQUESTS);
        Self { original, scratch: Folder::new(), _folder: folder }
    }
}

impl Flips {
    /// Flips a bit at so many random places.
    #[must_use]
    pub fn rounds(&self, target: Target, count: u64, seed: u64) -> Tally {
        let Self { original, scratch, .. } = self;
        let mut tally = Tally { bytes: original.bytes(target), ..Tally::default() };
        let mut dice = Dice(seed);
        for _ in 0..count {
            let bit = dice.roll(tally.bytes * 8);
            match original.flip(scratch.path(), target, bit, Guards::ALL) {
                Outcome::Named(said) => {
                    tally.named += 1;
                    let placed = |what: &String| what.contains("position") || what.contains('/');
                    if !said.iter().any(placed) {
                        tally.unplaced.extend(said);
                    }
                }
                Outcome::Unused => tally.unused += 1,
                Outcome::Silent => tally.silent.push(bit),
            }
        }
        tally
    }
}

/// Numbers that a seed gives.
pub struct Dice(pub u64);

impl Dice {
    /// One below `sides`.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides.max(1)
    }
}
