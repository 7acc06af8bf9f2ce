//! `muster drain` waits until nothing is left on the node that can move, and says what stays and why.

use tests::cluster::{Cluster, docker, text};

use super::cli::{exits, json};
use super::life::replicas;

#[test]
fn a_drain_waits_and_says_what_stays() {
    let cluster = Cluster::start(2);
    let app = cluster.shop().replace(
        r#""web":{"#,
        r#""db":{"image":"muster/web:1","resources":{"cpu_millis":100},
            "mounts":[{"source":{"volume":"data"},"target":"/data"}]},"web":{"#,
    );
    let deployed = cluster.deploy(&app);
    assert!(deployed.status.success(), "{}{}", text(&deployed.stderr), cluster.logs());
    let on = |id: &str| replicas(&cluster).into_iter().find(|replica| replica[0].contains(id));
    let node = on("-db-").expect("it runs")[1].clone();

    // Nothing is done on what one has not seen.
    let before = json(&cluster, &["nodes"])["at"]["position"].to_string();
    let _ = cluster.ok(&["label-node", &node, "rack=7"]);
    let old = ["drain", node.as_str(), "--expect-position", &before];
    exits(&cluster.muster(&old), 6, "changed_meanwhile");
    let old = ["cordon", node.as_str(), "--expect-position", &before];
    exits(&cluster.muster(&old), 6, "changed_meanwhile");

    // Replicas need some time to move.
    exits(&cluster.muster(&["drain", &node, "--timeout", "0s"]), 4, "not drained after 0 s");
    let drained = cluster.muster(&["drain", &node, "--timeout", "60s"]);
    let (out, err) = (text(&drained.stdout), text(&drained.stderr));
    assert!(drained.status.success(), "{out}{err}{}", cluster.logs());
    assert!(out.contains("drained at") && out.contains("but for 1 that stay"), "{out}");
    assert!(out.contains("-db-") && out.contains("its volume data lives on"), "{out}");
    let left: Vec<_> =
        replicas(&cluster).into_iter().filter(|replica| replica[1] == node).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0][0].contains("-db-"));
    let seen = json(&cluster, &["nodes"])["at"]["position"].to_string();
    let _ = cluster.ok(&["uncordon", &node, "--expect-position", &seen]);

    let detached = cluster.ok(&["drain", &node, "-d"]);
    assert!(detached.contains("accepted at "), "{detached}");
    let _ = cluster.ok(&["delete", cluster.app()]);
    let empty = cluster.ok(&["drain", &node]);
    assert!(empty.contains("is drained at ") && !empty.contains("that stay"), "{empty}");
    let _ = docker(&["volume", "rm", &format!("main_{}_data", cluster.app())]);
}
