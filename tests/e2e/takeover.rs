//! Two event-logs, of which one takes over from the other.

/// How many take-overs, two of each kind, when nobody says.
const ROUNDS: usize = 6;

#[expect(clippy::disallowed_methods, reason = "how a person says how many rounds to run")]
fn rounds() -> usize {
    std::env::var("TAKEOVERS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS)
}

#[test]
fn a_standby_takes_over_and_nothing_is_lost_doubled_torn_or_out_of_order() {
    println!("{}", tests::takeover::takeover(rounds()));
}
