//! Acting on history: finding in it, going back, asking what would be, proving what was.

use serde_json::Value;
use tests::cluster::{Cluster, text};

fn json(printed: &str) -> Value {
    serde_json::from_str(printed).unwrap_or_else(|error| panic!("{error}\n{printed}"))
}

fn head(cluster: &Cluster) -> u64 {
    json(&cluster.ok(&["ps", "-o", "json"]))["at"]["position"].as_u64().expect("a position")
}

#[test]
fn history_is_searched_undone_and_proven() {
    let cluster = Cluster::start(2);
    let app = cluster.app().to_owned();
    let shop = cluster.shop();
    assert!(cluster.deploy(&shop).status.success(), "{}", cluster.logs());
    let good = head(&cluster);
    let changed = cluster.deploy(&shop.replace("muster/web:1", "muster/web:2"));
    assert!(changed.status.success(), "{}", text(&changed.stderr));
    let _ = cluster.ok(&["scale", &app, "web=1"]);

    // The first moment at which no replica of the old image was left, and who brought it about.
    let gone = format!(
        "apps.exists(a, a.app == '{app}' && a.revision == 2) && replicas.all(r, r.revision == 2)"
    );
    cluster.until("the old ones have ended", |cluster| {
        json(&cluster.ok(&["ps", "-o", "json"]))["items"]
            .as_array()
            .is_some_and(|all| all.len() == 1)
    });
    let from = good.to_string();
    let found = json(&cluster.ok(&["bisect", "--good", &from, "--where", &gone, "-o", "json"]));
    assert_eq!(found["kind"], "BisectResult");
    let bad = found["bad"].as_u64().expect("a position");
    assert!(bad > good && found["good"].as_u64() < Some(bad), "{found}");
    assert_eq!(found["items"][0]["type"], "ReplicaEnded", "{found}");
    let told = cluster.ok(&["bisect", "--good", &from, "--where", &gone]);
    assert!(
        told.contains(&format!("became true at r{bad}")) && told.contains("muster why"),
        "{told}"
    );
    let never = cluster.muster(&["bisect", "--where", "size(nodes) > 7"]);
    assert_eq!(never.status.code(), Some(1), "{}", text(&never.stderr));
    let wrong = cluster.muster(&["bisect", "--where", "size(nodes"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong.stderr));

    // What would be, and nothing is.
    let before = head(&cluster);
    let node = cluster.nodes()[0].to_string();
    let scale = format!("{app}/web=4");
    let answer = cluster.ok(&["whatif", "--kill-node", &node, "--scale", &scale, "-o", "json"]);
    let answer = json(&answer);
    let loads = answer["nodes"].as_array().expect("a list");
    let of = |wanted: &str| loads.iter().find(|load| load["node"] == wanted).expect("it is there");
    assert_eq!(of(&node)["state"], "lost");
    assert_eq!(of(cluster.nodes()[1].as_str())["replicas"]["to"], 4, "{answer}");
    let full = cluster.muster(&["whatif", "--scale", &format!("{app}/web=900")]);
    assert_eq!(full.status.code(), Some(3), "{}{}", text(&full.stdout), text(&full.stderr));
    let placed = cluster.ok(&["log", "--from", &before.to_string(), "--type", "ReplicasPlaced"]);
    assert_eq!(placed, "");

    // Back, and only so far: the plan first.
    let plan = json(&cluster.ok(&["undo", &from, "--dry-run", "-o", "json"]));
    assert_eq!(plan["items"][0]["change"], "deploy");
    let paths = plan["items"][0]["fields"].as_array().expect("a list");
    let paths: Vec<&str> = paths.iter().filter_map(|field| field["path"].as_str()).collect();
    assert_eq!(paths, ["workloads.web.image", "workloads.web.replicas"]);
    let _ = cluster.ok(&["undo", &from, "--app", &app]);
    let replicas = json(&cluster.ok(&["ps", &app, "-o", "json"]));
    let replicas = replicas["items"].as_array().expect("a list").iter();
    let replicas: Vec<&Value> = replicas.filter(|replica| replica["state"] != "ending").collect();
    assert_eq!(replicas.len(), 3);
    assert!(replicas.iter().all(|replica| replica["revision"] == 3), "{replicas:?}");
    assert!(cluster.ok(&["undo", &from]).contains("nothing to undo"));
    let history = cluster.ok(&["log"]);
    assert!(history.contains(&format!("undo, back to r{from}")), "{history}");

    // Proven, offline, and nothing else is.
    let proof = cluster.ok(&["audit", "prove", &bad.to_string()]);
    let folder = cluster.folder();
    let (path, forged) = (folder.join("proof.json"), folder.join("forged.json"));
    std::fs::write(&path, &proof).expect("it is written");
    std::fs::write(&forged, proof.replacen(&app, "elsewhere", 1)).expect("it is written");
    let key = json(&cluster.ok(&["audit", "head"]))["key"].as_str().expect("a key").to_owned();
    let path = path.to_string_lossy();
    let checked = cluster.ok(&["audit", "check", &path, "--key", &key]);
    assert!(checked.contains("is in the log"), "{checked}");
    let forged = cluster.muster(&["audit", "check", &forged.to_string_lossy(), "--key", &key]);
    assert_eq!(forged.status.code(), Some(1), "{}", text(&forged.stdout));
    let other = cluster.muster(&["audit", "check", &path, "--key", &"0".repeat(64)]);
    assert_eq!(other.status.code(), Some(1), "{}", text(&other.stdout));
    assert!(cluster.ok(&["replay", "--verify"]).contains("verified"));
}
