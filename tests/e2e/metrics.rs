//! The numbers of each process, as whoever watches it reads them.

use tests::cluster::Cluster;

use super::cli::json;

#[test]
fn each_service_that_follows_says_where_it_is_and_how_far_behind() {
    let cluster = Cluster::start(1);
    let _ = cluster.ok(&["note", "app/shop", "one more event"]);
    let head = json(&cluster, &["ps"])["at"].clone();
    for service in ["controller", "scheduler", "autoscaler", "health", "gateway"] {
        cluster.until(&format!("{service} has caught up"), |cluster| {
            let (_, numbers) = cluster.page(service, "/metrics");
            let of = |name: &str| {
                let line = numbers.lines().find(|line| line.starts_with(&format!("{name}{{")))?;
                line.rsplit_once(' ')?.1.parse::<u64>().ok()
            };
            of("muster_lag_events") == Some(0)
                && of("muster_folded_position") >= head["position"].as_u64()
                && of("muster_folded_epoch") == head["epoch"].as_u64()
        });
    }
}
