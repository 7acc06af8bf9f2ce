//! Commands, as data: what was published, and what it was answered.

use cluster::history::{History, app};
use schemas::event::{AppDeployed, IntakeClosed, IntakeOpened, NodeLabelled};
use schemas::id::{NodeName, Writer};

use super::*;

mod rollouts;

/// A cluster with one node and one app of one workload, `shop/web`, at revision 1.
fn history() -> History {
    let mut history = History::default();
    history.node("n1", 4, 4);
    let payload = br#"{"app":{"name":"shop","workloads":{"web":
        {"image":"web:1","ports":[{"container":80,"published":8080}]}}}}"#;
    let Ok((_, Command::Deploy(deploy))) = Command::decode("app.deploy", payload) else {
        panic!("it decodes")
    };
    let event = AppDeployed { app: app("shop"), revision: 1, spec: deploy.app };
    history.add(&Writer::Controller, event);
    history
}

fn publish(history: &History, verb: &str, payload: &str) -> Answer {
    let subject = subject::command(verb);
    let message =
        CommandMessage::new(1, &subject, Some("c1"), None, 0, payload.as_bytes().to_vec());
    answer(history.fold.state(), &message, Now::default())
}

#[track_caller]
fn accepted(verb: &str, payload: &str, kinds: &[&str]) {
    let answer = publish(&history(), verb, payload);
    let got: Vec<&str> = answer.events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(got, kinds, "{:?}", answer.events);
}

#[track_caller]
fn refused(verb: &str, payload: &str, code: &str, field: &str) {
    let answer = publish(&history(), verb, payload);
    let [event] = answer.events.as_slice() else { panic!("{:?}", answer.events) };
    let Some(Ok(Event::CommandRejected(rejected))) = Event::decode(&event.kind, event.data.get())
    else {
        panic!("{event:?}")
    };
    let problem = rejected.problem;
    assert_eq!((problem.code.as_str(), problem.field.as_str()), (code, field), "{problem}");
    assert!(!problem.valid.is_empty());
}

fn deploy(workload: &str) -> String {
    format!(r#"{{"app":{{"name":"new","workloads":{{"web":{workload}}}}}}}"#)
}

#[test]
fn what_can_be_done_is_accepted() {
    let and = |kind| ["CommandAccepted", kind];
    accepted("app.deploy", &deploy(r#"{"image":"web:1"}"#), &and("AppDeployed"));
    accepted("app.delete", r#"{"app":"shop"}"#, &and("AppDeleteStarted"));
    accepted("workload.restart", r#"{"app":"shop","workload":"web"}"#, &and("WorkloadRestarted"));
    let scale = r#"{"app":"shop","workload":"web","replicas":3,"reason":"more of it"}"#;
    accepted("workload.scale", scale, &and("WorkloadScaled"));
    accepted("node.drain", r#"{"node":"n1"}"#, &and("NodeCordoned"));
    accepted("node.label", r#"{"node":"n1","labels":{"disk":"ssd"}}"#, &and("NodeLabelled"));
    accepted("config.put", r#"{"content_base64":"aGVsbG8="}"#, &and("ConfigStored"));
    accepted("note.add", r#"{"object":"app/main/shop","text":"T-1"}"#, &and("NoteAdded"));
}

#[test]
fn what_cannot_says_where_and_what_would_be_valid() {
    refused("app.delete", r#"{"app":"nope"}"#, "not_found", "app");
    refused("app.delete", r#"{"app":"shop","tenant":"other"}"#, "not_found", "app");
    refused(
        "app.delete",
        r#"{"app":"shop","expect_position":1}"#,
        "changed_meanwhile",
        "expect_position",
    );
    refused(
        "workload.scale",
        r#"{"app":"shop","workload":"db","replicas":1}"#,
        "not_found",
        "workload",
    );
    refused(
        "workload.scale",
        r#"{"app":"shop","workload":"web","replicas":5000}"#,
        "invalid_value",
        "replicas",
    );
    refused("node.drain", r#"{"node":"n9"}"#, "not_found", "node");
    refused("node.lost", r#"{"node":"n1"}"#, "node_is_heard", "node");
    refused("config.put", r#"{"content_base64":"?"}"#, "invalid_value", "content_base64");
}

#[test]
fn a_node_that_changed_meanwhile_is_not_changed_again() {
    let mut history = history();
    let before = history.fold.place().position;
    let labels = [("disk".to_owned(), "ssd".to_owned())].into();
    let node = NodeName::new("n1").expect("a name");
    history.add(&Writer::Controller, NodeLabelled { node, labels });
    let after = history.fold.place().position;
    let answered = |verb: &str, rest: &str, position: u64| {
        let payload = format!(r#"{{"node":"n1"{rest},"expect_position":{position}}}"#);
        let answer = publish(&history, verb, &payload);
        answer.events.iter().map(|event| event.data.get().to_owned()).collect::<String>()
    };
    for (verb, rest) in [
        ("node.cordon", ""),
        ("node.uncordon", ""),
        ("node.drain", ""),
        ("node.label", r#","labels":{"disk":"hdd"}"#),
        ("node.lost", ""),
        ("node.remove", ""),
    ] {
        let refused = answered(verb, rest, before);
        let says = format!("it last changed at position {after}");
        assert!(refused.contains("changed_meanwhile") && refused.contains(&says), "{refused}");
        let seen = answered(verb, rest, after);
        assert!(!seen.contains("changed_meanwhile"), "{verb}: {seen}");
    }
}

#[test]
fn a_declaration_is_checked_before_anything_is_done() {
    let at = |field: &str| format!("app.workloads.web.{field}");
    let bad = |workload: &str, code: &str, field: &str| {
        refused("app.deploy", &deploy(workload), code, &at(field));
    };
    bad(r#"{"image":""}"#, "invalid_value", "image");
    bad(r#"{"image":"web one"}"#, "invalid_value", "image");
    bad(
        r#"{"image":"w","resources":{"memory_limit_bytes":1}}"#,
        "invalid_value",
        "resources.memory_limit_bytes",
    );
    bad(
        r#"{"image":"w","resources":{"cpu_millis":9,"cpu_limit_millis":1}}"#,
        "invalid_value",
        "resources",
    );
    bad(r#"{"image":"w","ports":[{"container":80,"published":8080}]}"#, "port_taken", "ports");
    bad(r#"{"image":"w","ports":[{"container":80,"host":8080}]}"#, "port_taken", "ports");
    bad(
        r#"{"image":"w","ports":[{"container":80,"host":81},{"container":82,"host":81}]}"#,
        "port_taken",
        "ports",
    );
    bad(
        r#"{"image":"w","ports":[{"container":80,"published":81,"host":81}]}"#,
        "port_taken",
        "ports",
    );
    bad(r#"{"image":"w","ports":[{"container":0}]}"#, "invalid_value", "ports[0].container");
    let zero = r#"{"image":"w","ports":[{"container":80},{"container":80,"published":0}]}"#;
    bad(zero, "invalid_value", "ports[1].published");
    bad(r#"{"image":"w","ports":[{"container":80,"host":0}]}"#, "invalid_value", "ports[0].host");
    bad(r#"{"image":"w","depends_on":{"db":"started"}}"#, "not_found", "depends_on");
    bad(r#"{"image":"w","depends_on":{"web":"started"}}"#, "dependency_cycle", "depends_on");
    bad(
        r#"{"image":"w","mounts":[{"source":{"path":"etc"},"target":"/x"}]}"#,
        "invalid_value",
        "mounts[0].source.path",
    );
    bad(
        r#"{"image":"w","probe":{"check":{"http":{"port":80,"path":"x"}}}}"#,
        "invalid_value",
        "probe",
    );
    bad(r#"{"image":"w","update":{"parallelism":0}}"#, "invalid_value", "update.parallelism");
    bad(r#"{"image":"w","drain_ms":3600001}"#, "invalid_value", "drain_ms");
    bad(r#"{"image":"w","balance":{"cookie":"a b"}}"#, "invalid_value", "balance");
    let route = |route: &str, field: &str| {
        let spec = format!(r#"{{"image":"w","ports":[{{"container":80}}],"routes":[{route}]}}"#);
        bad(&spec, "invalid_value", &format!("routes[0].{field}"));
    };
    route(r#"{"host":"shop.example:80"}"#, "host");
    route(r#"{"host":"*.*.example"}"#, "host");
    route(r#"{"path":"api"}"#, "path");
    route(r#"{"port":81}"#, "port");
    route(r#"{"timeout_ms":0}"#, "timeout_ms");
    route(r#"{"retries":11}"#, "retries");
    route(r#"{"rate_limit":0}"#, "rate_limit");
    route(r#"{"redirect":"a b"}"#, "redirect");
    route(r#"{"set_headers":{"a b":"c"}}"#, "set_headers");
    route(r#"{"tls":{"file":{"name":"../etc"}}}"#, "tls");
    route(r#"{"tls":{"acme":{}}}"#, "tls");
    for host in ["*.shop.example", "shop", "192.0.2.7", "a_b.example"] {
        route(&format!(r#"{{"host":"{host}","tls":{{"acme":{{}}}}}}"#), "tls");
    }
    bad(r#"{"image":"w","routes":[{}]}"#, "invalid_value", "routes[0].port");
    let twice = r#"{"image":"w","ports":[{"container":80}],"routes":[{"host":"a"},{"host":"A"}]}"#;
    bad(twice, "route_taken", "routes[1]");
    refused(
        "app.deploy",
        r#"{"app":{"name":"new","workloads":{}}}"#,
        "invalid_value",
        "app.workloads",
    );
}

/// Deploys `shop` of a tenant with one workload of these ports; the problem, if it has one.
fn with_ports(history: &mut History, tenant: &str, name: &str, ports: &str) -> Option<Problem> {
    let payload = format!(
        r#"{{"tenant":"{tenant}","app":{{"name":"{name}","workloads":{{"web":
            {{"image":"w","ports":[{ports}]}}}}}}}}"#
    );
    let answer = publish(history, "app.deploy", &payload);
    for draft in answer.events {
        match Event::decode(&draft.kind, draft.data.get()).expect("known").expect("it decodes") {
            Event::CommandRejected(rejected) => return Some(rejected.problem),
            Event::AppDeployed(deployed) => {
                history.add(&Writer::Controller, deployed);
            }
            _ => {}
        }
    }
    None
}

#[test]
fn a_port_is_published_by_one_app_of_all_tenants_and_then_no_node_has_it_free() {
    let mut history = history();
    let host = r#"{"container":80,"host":9000}"#;
    assert!(with_ports(&mut history, "ana", "a", host).is_none());
    assert!(with_ports(&mut history, "bob", "b", host).is_none(), "on different nodes");
    let published = r#"{"container":80,"published":9000}"#;
    let problem = with_ports(&mut history, "bob", "c", published).expect("a node may have it");
    assert_eq!((problem.code.as_str(), problem.got.as_str()), ("port_taken", "published tcp/9000"));
    assert!(problem.valid.contains("ana/a/web has it of its nodes"), "{problem}");
    let udp = r#"{"container":80,"published":9000,"protocol":"udp"}"#;
    assert!(with_ports(&mut history, "bob", "c", udp).is_none(), "another protocol");
    assert!(with_ports(&mut history, "bob", "c", udp).is_none(), "it is its own");
    let problem = with_ports(&mut history, "ana", "d", udp).expect("it is bob's");
    assert!(problem.valid.contains("bob/c/web publishes it"), "{problem}");
}

#[test]
fn scaling_is_held_to_what_all_apps_may_have_as_deploying_is() {
    let mut history = history();
    let many = format!(r#"{{"image":"w","replicas":{REPLICAS_MAX}}}"#);
    let workloads: Vec<String> = (0..10).map(|i| format!(r#""w{i}":{many}"#)).collect();
    let full = workloads.join(",").replacen("1000", "998", 1);
    let payload = format!(r#"{{"app":{{"name":"full","workloads":{{{full}}}}}}}"#);
    let Ok((_, Command::Deploy(deploy))) = Command::decode("app.deploy", payload.as_bytes()) else {
        panic!("it decodes")
    };
    let event = AppDeployed { app: app("full"), revision: 1, spec: deploy.app };
    history.add(&Writer::Controller, event);
    let scale = |app: &str, workload: &str, to: u32| {
        let payload = format!(r#"{{"app":"{app}","workload":"{workload}","replicas":{to}}}"#);
        let answer = publish(&history, "workload.scale", &payload);
        answer.events[0].data.get().contains(r#""code":"quota""#)
    };
    assert!(!scale("shop", "web", 2), "that is all there may be");
    assert!(scale("shop", "web", 3));
    assert!(!scale("full", "w0", 999));
    assert!(scale("full", "w0", 1_000));
    assert!(!scale("full", "w1", 1), "less is no question");
}

#[test]
fn an_id_comes_from_the_header_the_body_or_the_message_itself() {
    let message = |header: Option<&str>, payload: &str, sequence| {
        let payload = payload.as_bytes().to_vec();
        CommandMessage::new(sequence, "muster.v1.cmd.as.ana.app.delete", header, None, 7, payload)
    };
    assert_eq!(message(Some("h"), r#"{"id":"b"}"#, 1).id().as_str(), "h");
    assert_eq!(message(None, r#"{"id":"b"}"#, 1).id().as_str(), "b");
    let derived = message(None, "{}", 1);
    assert_eq!(derived.id(), message(None, "{}", 1).id());
    assert_ne!(derived.id(), message(None, "{}", 2).id());
    assert_eq!((derived.actor.as_str(), derived.proved), ("ana", true));
}

#[test]
fn an_autoscale_that_cannot_be_followed_says_why() {
    let bad = |extra: &str, autoscale: &str, field: &str| {
        let workload = format!(r#"{{"image":"w",{extra}"autoscale":{{{autoscale}}}}}"#);
        let at = format!("app.workloads.web.autoscale{field}");
        refused("app.deploy", &deploy(&workload), "invalid_value", &at);
    };
    let cpu = r#""resources":{"cpu_millis":100},"#;
    bad(cpu, r#""min":0,"max":3,"cpu_percent":50"#, ".min");
    bad(cpu, r#""min":1001,"max":1001,"cpu_percent":50"#, ".min");
    bad(cpu, r#""min":4,"max":3,"cpu_percent":50"#, ".max");
    bad(cpu, r#""min":1,"max":1001,"cpu_percent":50"#, ".max");
    bad(cpu, r#""min":1,"max":3"#, "");
    bad(cpu, r#""min":1,"max":3,"cpu_percent":0"#, ".cpu_percent");
    bad(cpu, r#""min":1,"max":3,"cpu_percent":1001"#, ".cpu_percent");
    bad(cpu, r#""min":1,"max":3,"cpu_percent":50,"memory_percent":50"#, ".memory_percent");
    bad("", r#""min":1,"max":3,"cpu_percent":50"#, ".cpu_percent");
    bad(cpu, r#""min":1,"max":3,"cpu_percent":50,"up_window_ms":3600001"#, ".up_window_ms");
    bad(cpu, r#""min":1,"max":3,"cpu_percent":50,"down_window_ms":3600001"#, ".down_window_ms");
    let all = format!(r#"{cpu}"mode":"global","#);
    bad(&all, r#""min":1,"max":3,"cpu_percent":50"#, "");
    let job = format!(r#"{cpu}"mode":"job","#);
    bad(&job, r#""min":1,"max":3,"cpu_percent":50"#, "");
    // A limit reserves as well.
    let both = r#"{"image":"w","resources":{"cpu_limit_millis":100,"memory_limit_bytes":64000000},
        "autoscale":{"min":1,"max":1000,"cpu_percent":1000,"memory_percent":1,"up_window_ms":0}}"#;
    accepted("app.deploy", &deploy(both), &["CommandAccepted", "AppDeployed"]);
}

/// The cluster of [`history`], with `shop/web` autoscaled between 2 and 4 instead.
fn autoscaled(replicas: u32) -> History {
    let mut history = history();
    let payload = format!(
        r#"{{"app":{{"name":"shop","workloads":{{"web":{{"image":"web:1","replicas":{replicas},
        "resources":{{"cpu_millis":100}},"autoscale":{{"min":2,"max":4,"cpu_percent":50}}}}}}}}}}"#
    );
    let answer = publish(&history, "app.deploy", &payload);
    let deployed = Event::decode(&answer.events[1].kind, answer.events[1].data.get());
    let deployed = deployed.expect("it is known").expect("it decodes");
    let Event::AppDeployed(event) = &deployed else { panic!("{deployed:?}") };
    let recorded = event.spec.workloads.values().next().expect("there is one").replicas;
    assert_eq!(recorded, replicas.clamp(2, 4), "what is recorded is within bounds");
    history.add(&Writer::Controller, deployed);
    history
}

#[test]
fn an_autoscaled_workload_is_scaled_within_its_bounds_only() {
    for declared in [0, 3, 9] {
        let history = autoscaled(declared);
        let scale = |to: u32| {
            let payload = format!(
                r#"{{"app":"shop","workload":"web","replicas":{to},"reason":"a sale\u0007"}}"#
            );
            let events = publish(&history, "workload.scale", &payload).events;
            let last = events.last().expect("there is a receipt");
            Event::decode(&last.kind, last.data.get()).expect("it is known").expect("it decodes")
        };
        for to in [0, 1, 5, 1_000] {
            let Event::CommandRejected(rejected) = scale(to) else { panic!("{to} was accepted") };
            assert_eq!(rejected.problem.code, "outside_autoscale");
            assert!(rejected.problem.valid.starts_with("2 to 4"), "{}", rejected.problem);
        }
        for to in 2..=4 {
            let Event::WorkloadScaled(scaled) = scale(to) else { panic!("{to} was refused") };
            // It had one, and two are the least.
            assert_eq!((scaled.from, scaled.to), (2, to));
            assert_eq!(scaled.reason.as_deref(), Some("a sale\u{fffd}"));
        }
    }
}

#[test]
fn with_little_room_only_what_ends_or_saves_something_is_accepted() {
    let mut history = history();
    let closed = IntakeClosed { disk: "log".to_owned(), free_bytes: 7, needed_bytes: 9 };
    history.add(&Writer::EventLog, closed);
    let refused = |history: &History, verb, payload: &str| {
        let answer = publish(history, verb, payload);
        match Event::decode(&answer.events[0].kind, answer.events[0].data.get()) {
            Some(Ok(Event::CommandRejected(rejected))) => Some(rejected.problem),
            _ => None,
        }
    };
    let deploy = deploy(r#"{"image":"web:1"}"#);
    let problem = refused(&history, "app.deploy", &deploy).expect("there is no room");
    assert_eq!(problem.code, "storage_full");
    assert!(problem.got.contains("7 bytes") && problem.valid.contains("9 bytes"), "{problem}");
    let note = r#"{"object":"app/main/shop","text":"x"}"#;
    assert!(refused(&history, "note.add", note).is_some());
    assert_eq!(refused(&history, "app.delete", r#"{"app":"shop"}"#), None);
    assert_eq!(refused(&history, "node.drain", r#"{"node":"n1"}"#), None);
    history.add(&Writer::EventLog, IntakeOpened { disk: "log".to_owned(), free_bytes: 10 });
    assert_eq!(refused(&history, "app.deploy", &deploy), None);
}
