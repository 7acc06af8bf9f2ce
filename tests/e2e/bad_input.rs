//! Bad input: a structured rejection, nothing half done, and the services go on.

use schemas::registry::Role;
use tests::cluster::{Cluster, text};

#[tokio::test(flavor = "multi_thread")]
async fn junk_is_refused_or_voided_and_the_cluster_goes_on() {
    let cluster = Cluster::start(1);
    let refused = cluster.deploy(&cluster.shop().replace("\"replicas\":3", "\"replicas\":5000"));
    assert_eq!(refused.status.code(), Some(3));
    assert!(
        text(&refused.stderr).contains("app.workloads.web.replicas"),
        "{}",
        text(&refused.stderr)
    );
    let misspelt = cluster.deploy(&cluster.shop().replace("replicas", "replica"));
    assert_eq!(misspelt.status.code(), Some(2));
    assert!(text(&misspelt.stderr).contains("unknown_field"), "{}", text(&misspelt.stderr));
    assert_eq!(cluster.muster(&["scale", "nope", "web=1"]).status.code(), Some(7));

    // By hand, as those whom the broker lets in: the sequencer's own user onto an event subject,
    // others onto the streams they may write.
    let bus = |role: Role| {
        let to = bus::Connect {
            url: cluster.server.url(),
            name: "by hand".to_owned(),
            credentials: Some((role.user(), "test".to_owned())),
            inbox_prefix: role.inbox_prefix(),
        };
        async move { bus::Bus::connect(&to).await.expect("the server is there") }
    };
    let log = bus(Role::EventLog).await;
    log.publish("muster.v1.evt.main.app.fake.deployed", b"junk".to_vec()).await.expect("sent");
    log.flush().await.expect("taken");
    let user = bus(Role::User("tester".to_owned())).await;
    let junk: [&[u8]; 4] = [b"", b"\xff\xfe", b"{", b"[1]"];
    for payload in junk {
        user.publish("muster.v1.cmd.app.deploy", payload.to_vec()).await.expect("sent");
    }
    let node = cluster.nodes()[0].clone();
    let agent = bus(Role::Agent(node.clone())).await;
    for payload in junk {
        let subject = format!("muster.v1.append.agent.{node}");
        agent.publish(&subject, payload.to_vec()).await.expect("sent");
        let subject = format!("muster.v1.rpt.heartbeat.{node}");
        agent.publish(&subject, payload.to_vec()).await.expect("sent");
    }
    agent.flush().await.expect("taken");

    let deployed = cluster.deploy(&cluster.shop());
    assert!(deployed.status.success(), "{}{}", text(&deployed.stderr), cluster.logs());
    let history = cluster.ok(&["log"]);
    assert!(history.contains("was voided"), "{history}");
    assert_eq!(
        history.matches("rejected: not_json").count()
            + history.matches("rejected: not_an_object").count(),
        4,
        "{history}"
    );
    assert!(cluster.ok(&["replay", "--verify"]).contains("verified"));
}
