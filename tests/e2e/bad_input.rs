//! Bad input: a structured rejection, nothing half done, and the services go on.

use schemas::append::{Answer, Code, INBOX_HEADER, Request, Verdict};
use schemas::event::{Outcome, ReplicaEnded};
use schemas::id::{NodeName, ReplicaId, Series, Writer};
use schemas::registry::Role;
use schemas::subject;
use tests::cluster::{Cluster, text};

async fn connect(cluster: &Cluster, role: Role) -> bus::Bus {
    let to = bus::Connect {
        url: cluster.server.url(),
        name: "by hand".to_owned(),
        credentials: Some((role.user(), "test".to_owned())),
        inbox_prefix: role.inbox_prefix(),
    };
    bus::Bus::connect(&to).await.expect("the server is there")
}

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
    let log = connect(&cluster, Role::EventLog).await;
    log.publish("muster.v1.evt.main.app.fake.deployed", b"junk".to_vec()).await.expect("sent");
    log.flush().await.expect("taken");
    let user = connect(&cluster, Role::User("tester".to_owned())).await;
    let junk: [&[u8]; 4] = [b"", b"\xff\xfe", b"{", b"[1]"];
    for payload in junk {
        user.publish("muster.v1.cmd.app.deploy", payload.to_vec()).await.expect("sent");
    }
    let node = cluster.nodes()[0].clone();
    let agent = connect(&cluster, Role::Agent(node.clone())).await;
    for payload in junk {
        let subject = format!("muster.v1.append.agent.{node}");
        agent.publish(&subject, payload.to_vec()).await.expect("sent");
        for subject in [subject::heartbeat(&node), subject::usage(&node)] {
            agent.publish(&subject, payload.to_vec()).await.expect("sent");
        }
    }
    agent.flush().await.expect("taken");
    let scheduler = connect(&cluster, Role::Decider("scheduler")).await;
    for payload in junk {
        scheduler.publish(&subject::document(&node), payload.to_vec()).await.expect("sent");
        let subject = subject::beat(&Writer::Scheduler);
        scheduler.publish(&subject, payload.to_vec()).await.expect("sent");
    }
    scheduler.flush().await.expect("taken");

    let deployed = cluster.deploy(&cluster.shop());
    assert!(deployed.status.success(), "{}{}", text(&deployed.stderr), cluster.logs());
    let history = cluster.ok(&["log"]);
    assert!(history.contains("voided: the log never wrote"), "{history}");
    assert_eq!(
        history.matches("rejected: not_json").count()
            + history.matches("rejected: not_an_object").count(),
        4,
        "{history}"
    );
    assert!(cluster.ok(&["replay", "--verify"]).contains("verified"));
}

/// What an agent's user is answered when it says something under a writer's name.
async fn answer_to(agent: &bus::Bus, on: &Writer, request: &Request) -> Option<Verdict> {
    let (inbox, mut answers) = agent.inbox().await.expect("an inbox");
    let payload = serde_json::to_vec(request).expect("it encodes");
    let subject = subject::append(on);
    agent.publish_with_header(&subject, payload, (INBOX_HEADER, &inbox)).await.expect("sent");
    let answer = tokio::time::timeout(std::time::Duration::from_secs(3), answers.next()).await;
    let message = answer.ok().flatten()?;
    Some(serde_json::from_slice::<Answer>(&message.payload).expect("an answer").verdict)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lies_about_another_is_refused() {
    let cluster = Cluster::start(2);
    assert!(cluster.deploy(&cluster.shop()).status.success());
    let [liar, other]: [NodeName; 2] = cluster.nodes().to_vec().try_into().expect("two nodes");
    let victim = cluster.ok(&["ps", cluster.app()]);
    let victim = victim.lines().find(|line| line.contains(other.as_str())).expect("it has some");
    let victim = ReplicaId::new(victim.split_whitespace().next().expect("an id")).expect("an id");
    let folder = cluster.folder().join(format!("node-agent-{liar}"));
    let instance = std::fs::read_to_string(folder.join("instance")).expect("the agent keeps it");
    let agent = connect(&cluster, Role::Agent(liar.clone())).await;
    let ended = ReplicaEnded { replica: victim, outcome: Outcome::Stopped };
    let now = decider::Now { utc_ms: 1, mono_ms: 1 };
    let request = |writer: &Writer, seed: &str| Request {
        writer: writer.clone(),
        term: 1,
        instance: instance.trim().to_owned(),
        series: Series::derive(seed, 0),
        n: 1,
        basis: None,
        absent: Vec::new(),
        events: vec![decider::draft(ended.clone(), None, "liar", &Default::default(), now)],
    };
    let (own, others) = (Writer::Agent(liar), Writer::Agent(other));

    let about_another = answer_to(&agent, &own, &request(&own, "a")).await;
    let in_another_s_name = answer_to(&agent, &own, &request(&others, "b")).await;
    for verdict in [about_another, in_another_s_name] {
        let refused = matches!(verdict, Some(Verdict::Refused { code: Code::NotPermitted, .. }));
        assert!(refused, "{verdict:?}");
    }
    // Where another agent speaks, the broker lets nobody else in: there is no answer at all.
    assert_eq!(answer_to(&agent, &others, &request(&others, "c")).await, None);
    assert!(!cluster.ok(&["log"]).contains("liar"));
    assert!(cluster.ok(&["replay", "--verify"]).contains("verified"));
    assert_eq!(cluster.containers().len(), 3);
}
