//! One flipped bit, at many places.

use tests::bitflip::{Flips, TARGETS};

#[test]
fn a_flipped_bit_is_never_silent() {
    let flips = Flips::default();
    for target in TARGETS {
        let tally = flips.rounds(target, 10, 1);
        assert_eq!(tally.silent, Vec::<u64>::new(), "{target:?}: {tally:?}");
        assert_eq!(tally.unplaced, Vec::<String>::new(), "{target:?}: {tally:?}");
    }
}
