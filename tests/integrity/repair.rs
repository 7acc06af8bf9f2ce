//! Either store is lost whole, and comes back.

use tests::repair::{LOSSES, round};

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_lost_is_rebuilt_from_what_is_left() {
    for (seed, loss) in (1..).zip(LOSSES) {
        round(loss, seed).await;
    }
}
