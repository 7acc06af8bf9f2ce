//! Chains on histories made by hand.

mod certificate;

use cluster::history::{History, app, node, replica, workload};
use cluster::view;
use schemas::command::Problem;
use schemas::envelope::Envelope;
use schemas::event::{
    AppConverged, AppDeployed, CommandAccepted, CommandRejected, Event, Evidence, NodeCordoned,
    NodeLost, NodeSuspected, Outcome, PassedOver, ReplicaEnded, ReplicaReady, ReplicasPlaced,
    ReplicasReleased, ReplicasRequested, ReplicasRetired, ReplicasUnplaced, RequestedReplica,
    RetireReason, RolloutFailed, RunEnded, RunStarted, Unfit, WorkloadScaled,
};
use schemas::id::{CommandId, Writer};
use schemas::read::{LogRequest, StateRequest};
use schemas::spec::{AppSpec, WorkloadSpec};

use super::super::filter::takes;
use super::*;

/// A history that says who caused what.
struct Told(History);

/// An event without its place: what it says, who is behind it, what it goes back to.
struct Said<'a> {
    writer: Writer,
    actor: &'a str,
    command: Option<&'a str>,
    cause: Option<u64>,
}

impl Told {
    fn new() -> Self {
        let mut history = History::default();
        history.now_ms = 1_700_000_000_000;
        history.node("n1", 2, 4).node("n2", 2, 4);
        Self(history)
    }

    /// Records an event; its position. Entries made by hand have no causes, so they are put in.
    fn say(&mut self, said: &Said<'_>, event: impl Into<Event>) -> u64 {
        self.0.now_ms += 1_000;
        let (before, mut entries) = (self.0.fold.clone(), self.0.entries.clone());
        self.0.add(&said.writer, event);
        let bytes = self.0.entries.last().expect("it was recorded");
        let mut envelope = Envelope::decode(bytes).expect("it decodes");
        envelope.header.actor = said.actor.to_owned();
        envelope.header.correlation = said.command.map(|id| CommandId::new(id).expect("an id"));
        envelope.header.causation = said.cause;
        let bytes = envelope.encode();
        self.0.fold = before;
        self.0.fold.push(&bytes).expect("it is the next entry");
        entries.push(bytes);
        self.0.entries = entries;
        envelope.header.position
    }

    fn events(&self) -> Vec<Envelope> {
        self.0.entries.iter().map(|bytes| Envelope::decode(bytes).expect("it decodes")).collect()
    }

    /// What event-log would answer.
    fn fetch(&self, request: &LogRequest) -> Vec<Envelope> {
        let mut found = self.events();
        found.retain(|event| takes(request, event));
        let most = request.limit.map_or(usize::MAX, |n| usize::try_from(n).expect("it is small"));
        if request.newest && found.len() > most {
            found.drain(..found.len() - most);
        }
        found.truncate(most);
        found
    }

    fn ask(&self, object: &Object, aspect: Option<Aspect>) -> Result<Answer, Stop> {
        let (state, place) = (self.0.fold.state(), self.0.fold.place());
        let page = view::page(state, place, &StateRequest::default());
        let mut records = Records::up_to(place.position);
        loop {
            let case = Case { records: &records, page: &page, now_ms: self.0.now_ms };
            let request = match answered(&case, object, aspect) {
                Err(Stop::Lacks(request)) => *request,
                other => return other,
            };
            let events = self.fetch(&request);
            records.add(request, events);
        }
    }

    fn why(&self, text: &str, aspect: Option<Aspect>) -> Answer {
        let known = |object: &Object| match object.entity() {
            Some(_) if matches!(object, Object::Workload(..)) => true,
            Some(entity) => {
                let about = |event: &Envelope| event.event.about().entities.contains(&entity);
                self.events().iter().any(about)
            }
            None => true,
        };
        let object = object::meanings(text).into_iter().find(known).expect("history knows it");
        self.ask(&object, aspect).unwrap_or_else(|stop| panic!("{text}: {stop:?}"))
    }

    // What the services say.

    fn command(&mut self, id: &str, verb: &str, reason: Option<&str>, actor: &str) {
        let event = CommandAccepted {
            command: CommandId::new(id).expect("an id"),
            verb: verb.to_owned(),
            sequence: 1,
            proved: true,
            reason: reason.map(str::to_owned),
        };
        let said = Said { writer: Writer::Controller, actor, command: Some(id), cause: None };
        self.say(&said, event);
    }

    fn deploy(&mut self, id: &str, revision: u64, image: &str, replicas: u32) -> u64 {
        self.command(id, "app.deploy", Some("ticket 42"), "ana");
        let spec = WorkloadSpec { replicas, ..WorkloadSpec::of_image(image) };
        let spec = AppSpec { name: app("shop").name, workloads: [(workload("web"), spec)].into() };
        let said =
            Said { writer: Writer::Controller, actor: "ana", command: Some(id), cause: None };
        self.say(&said, AppDeployed { app: app("shop"), revision, spec })
    }

    fn by(&mut self, writer: Writer, cause: Option<u64>, event: impl Into<Event>) -> u64 {
        let actor = writer.to_string();
        self.say(
            &Said {
                writer,
                actor: &actor,
                command: Some("c-deploy").filter(|_| cause.is_some()),
                cause,
            },
            event,
        )
    }

    fn request(&mut self, cause: u64, id: &str, replaces: Option<&str>) -> u64 {
        let spec = self.0.fold.state().apps.get(&app("shop")).expect("it is declared");
        let event = ReplicasRequested {
            app: app("shop"),
            workload: workload("web"),
            revision: spec.revision,
            generation: 0,
            spec: spec.workloads[&workload("web")].spec.clone(),
            replicas: vec![RequestedReplica {
                id: replica(id),
                replaces: replaces.map(replica),
                node: None,
            }],
        };
        self.by(Writer::Controller, Some(cause), event)
    }

    fn place(&mut self, cause: u64, id: &str, on: &str) -> u64 {
        let event = ReplicasPlaced {
            node: node(on),
            replicas: vec![replica(id)],
            chosen: "1 of 2 nodes fit; 0 of the workload here before".to_owned(),
            passed_over: vec![PassedOver {
                reason: "silence: the node is not heard".to_owned(),
                nodes: 1,
            }],
        };
        self.by(Writer::Scheduler, Some(cause), event)
    }

    fn run(&mut self, cause: u64, id: &str, on: &str) {
        let agent = Writer::Agent(node(on));
        let (container, endpoints) = ("c1".to_owned(), Vec::new());
        let started =
            RunStarted { replica: replica(id), run: 1, container, endpoints, inside: None };
        self.by(agent.clone(), Some(cause), started);
        self.by(agent, Some(cause), ReplicaReady { replica: replica(id), run: 1 });
    }

    /// `shop-web-a` of revision 1 runs on n1.
    fn running() -> Self {
        let mut told = Self::new();
        let deployed = told.deploy("c-deploy", 1, "web:1", 1);
        let requested = told.request(deployed, "shop-web-a", None);
        let placed = told.place(requested, "shop-web-a", "n1");
        told.run(placed, "shop-web-a", "n1");
        told
    }
}

fn part<'a>(answer: &'a Answer, title: &str) -> &'a Part {
    let found = answer.parts.iter().find(|part| part.title.starts_with(title));
    found.unwrap_or_else(|| panic!("no {title:?} in {answer:#?}"))
}

fn kinds(part: &Part) -> Vec<&str> {
    part.chain.iter().map(|link| link.kind).collect()
}

fn says(part: &Part, what: &str) {
    assert!(part.reasons.iter().any(|reason| reason.contains(what)), "{what:?} not in {part:#?}");
}

#[test]
fn a_replica_exists_because_somebody_deployed_it() {
    let told = Told::running();
    let answer = told.why("shop-web-a", None);
    assert!(answer.summary.starts_with("shop-web-a is ready on n1"), "{}", answer.summary);
    let exists = part(&answer, "Why it exists");
    assert_eq!(kinds(exists), ["ReplicasRequested", "AppDeployed", "CommandAccepted"]);
    says(exists, "revision 1 declares 1 of shop/web");
    let root = exists.root.as_ref().expect("there is a root");
    assert_eq!((root.actor.as_deref(), root.reason.as_deref()), (Some("ana"), Some("ticket 42")));
    let here = part(&answer, "Why on n1");
    says(here, "1 of 2 nodes fit");
    says(here, "not 1 node (silence");
}

#[test]
fn a_replica_that_replaces_one_of_a_lost_node_goes_back_to_its_silence() {
    let mut told = Told::running();
    let suspected = NodeSuspected { node: node("n1"), silent_ms: 3_000 };
    told.by(Writer::Health, None, suspected);
    let lost = told.by(Writer::Health, None, NodeLost { node: node("n1"), silent_ms: 6_000 });
    let requested = told.request(lost, "shop-web-b", Some("shop-web-a"));
    let placed = told.place(requested, "shop-web-b", "n2");
    told.run(placed, "shop-web-b", "n2");
    let answer = told.why("shop-web-b", None);
    let exists = part(&answer, "Why it exists");
    assert_eq!(kinds(exists), ["ReplicasRequested", "NodeLost"]);
    says(exists, "it replaces shop-web-a: its node n1 was lost");
    let root = exists.root.as_ref().expect("there is a root");
    assert!(root.actor.is_none() && root.text.contains("heartbeats"), "{root:?}");

    let unknown = told.why("shop-web-a", None);
    assert_eq!(unknown.parts[0].title, "Why it is unknown");
    assert_eq!(unknown.parts[1].title, "Why it was replaced");
    let old = told.why("shop-web-a", Some(Aspect::Moved));
    says(part(&old, "Why it was replaced"), "shop-web-b takes its place: its node n1 was lost");
    let lost = told.why("node/n1", None);
    assert!(lost.summary.starts_with("n1 is lost"), "{}", lost.summary);
    let why = part(&lost, "Why it is lost");
    says(why, "shop-web-a by shop-web-b");
    says(why, "did not say that it stops");
}

#[test]
fn a_replica_that_failed_is_dead_with_its_evidence() {
    let mut told = Told::running();
    let agent = Writer::Agent(node("n1"));
    let evidence = Evidence {
        exit_code: Some(137),
        out_of_memory: true,
        cause: "exited with 137 (signal 9)".to_owned(),
        last_lines: vec!["allocating\u{1b}[31m".to_owned()],
    };
    let ended = RunEnded { replica: replica("shop-web-a"), run: 1, evidence, retry_ms: None };
    let run = told.by(agent.clone(), Some(9), ended);
    let reason = "exited with 137 (signal 9)".to_owned();
    let over = ReplicaEnded { replica: replica("shop-web-a"), outcome: Outcome::Failed { reason } };
    told.by(agent, Some(9), over);
    let answer = told.why("shop-web-a", None);
    assert!(answer.summary.contains("ended on n1"), "{}", answer.summary);
    let dead = part(&answer, "Why it died");
    assert_eq!(dead.chain[0].position, run);
    says(dead, "more than its limit");
    says(dead, "signal 9 (SIGKILL, by the kernel)");
    says(dead, "│ allocating\u{fffd}[31m");
    // Who is asked for next says that it takes the place of the one that died.
    let deployed =
        told.events().iter().find(|e| e.event.kind() == "AppDeployed").map(|e| e.header.position);
    told.request(deployed.expect("it was deployed"), "shop-web-b", None);
    let answer = told.why("shop-web-b", Some(Aspect::Exists));
    let exists = part(&answer, "Why it exists");
    says(exists, "shop-web-a had ended: exited with 137");
    assert_eq!(
        kinds(exists),
        ["ReplicasRequested", "ReplicaEnded", "AppDeployed", "CommandAccepted"]
    );
}

#[test]
fn a_replica_that_was_told_to_end_says_by_what() {
    let mut told = Told::running();
    let deployed = told.deploy("c-2", 2, "web:2", 1);
    let requested = told.request(deployed, "shop-web-b", Some("shop-web-a"));
    let placed = told.place(requested, "shop-web-b", "n2");
    told.run(placed, "shop-web-b", "n2");
    let retired = ReplicasRetired {
        app: app("shop"),
        workload: workload("web"),
        replicas: vec![replica("shop-web-a")],
        reason: RetireReason::Replaced,
        leaving: false,
    };
    let at = told.by(Writer::Controller, Some(placed), retired);
    let over = ReplicaEnded { replica: replica("shop-web-a"), outcome: Outcome::Stopped };
    told.by(Writer::Agent(node("n1")), Some(at), over);
    let dead = told.why("shop-web-a", Some(Aspect::Dead));
    let why = part(&dead, "Why it ended");
    assert_eq!(
        kinds(why)[..4],
        ["ReplicasRetired", "ReplicasPlaced", "ReplicasRequested", "AppDeployed"]
    );
    says(why, "another of the declared revision took its place");
}

#[test]
fn one_that_is_leaving_says_what_it_waits_for_and_then_who_let_go_of_it() {
    let mut told = Told::running();
    let (app, workload, replicas) = (app("shop"), workload("web"), vec![replica("shop-web-a")]);
    let retired = ReplicasRetired {
        app: app.clone(),
        workload: workload.clone(),
        replicas: replicas.clone(),
        reason: RetireReason::ScaledDown,
        leaving: true,
    };
    let at = told.by(Writer::Controller, None, retired);
    let leaves = told.why("shop-web-a", None);
    assert!(leaves.summary.contains("is leaving on n1"), "{}", leaves.summary);
    says(part(&leaves, "Why it is leaving"), "every gateway has let go of it");
    let silent = vec![node("n2")];
    let released = ReplicasReleased { app, workload, replicas, gateways: 2, silent, open: 3 };
    let at = told.by(Writer::Controller, Some(at), released);
    let ends = told.why("shop-web-a", None);
    let why = part(&ends, "Why it ended");
    says(why, "there are more than declared");
    says(why, &format!("asked to stop at r{at}"));
    says(why, "2 gateways let go of it; nothing was heard of the gateway of n2");
    says(why, "its time had passed with 3 still under way");
}

#[test]
fn a_replacement_that_was_called_off_took_no_place() {
    let mut told = Told::running();
    let deployed = told.deploy("c-2", 2, "web:2", 1);
    let requested = told.request(deployed, "shop-web-b", Some("shop-web-a"));
    let placed = told.place(requested, "shop-web-b", "n2");
    let moved = told.why("shop-web-a", Some(Aspect::Moved));
    says(part(&moved, "Why it was replaced"), "shop-web-b takes its place");
    let back = told.deploy("c-3", 3, "web:1", 1);
    let retired = ReplicasRetired {
        app: app("shop"),
        workload: workload("web"),
        replicas: vec![replica("shop-web-b")],
        reason: RetireReason::NotNeeded,
        leaving: false,
    };
    told.by(Writer::Controller, Some(back), retired);
    let moved = told.why("shop-web-a", Some(Aspect::Moved));
    says(part(&moved, "Why it stays"), "shop-web-b was to take its place and is over");
    assert!(placed < back && told.why("shop-web-a", None).parts.len() == 2);
}

#[test]
fn a_replica_that_fits_nowhere_names_what_fails_and_what_would_help() {
    let mut told = Told::new();
    let deployed = told.deploy("c-deploy", 1, "web:1", 1);
    let requested = told.request(deployed, "shop-web-a", None);
    let undecided = told.why("shop-web-a", None);
    says(part(&undecided, "Why it is pending"), "has not said anything");
    let unplaced = ReplicasUnplaced {
        app: app("shop"),
        workload: workload("web"),
        waiting: 1,
        reasons: vec![Unfit {
            reason: "cpu: 2500 millis needed, at most 2000 free".to_owned(),
            nodes: 2,
            remedy: "free 500 millis on one node, or add a node".to_owned(),
        }],
    };
    told.by(Writer::Scheduler, Some(requested), unplaced);
    let answer = told.why("shop-web-a", None);
    assert!(answer.summary.contains("pending"), "{}", answer.summary);
    let pending = part(&answer, "Why it is pending");
    says(pending, "2 nodes: cpu: 2500 millis needed, at most 2000 free; what would help: free 500");
    says(pending, "n1: 2000 of 2000 millis of cpu free");
    assert_eq!(
        kinds(pending),
        ["ReplicasUnplaced", "ReplicasRequested", "AppDeployed", "CommandAccepted"]
    );
    says(part(&told.why("shop/web", None), "Why replicas of web are pending"), "2 nodes: cpu");
    says(part(&told.why("shop", None), "Why replicas of web are pending"), "2 nodes: cpu");
}

#[test]
fn a_workload_that_waits_for_another_says_for_which() {
    let mut told = Told::new();
    told.command("c-1", "app.deploy", None, "ana");
    let of = |image| WorkloadSpec { replicas: 2, ..WorkloadSpec::of_image(image) };
    let mut api = of("api:1");
    api.depends_on.insert(workload("db"), schemas::spec::Condition::Healthy);
    let workloads = [(workload("api"), api), (workload("db"), of("db:1"))].into();
    let spec = AppSpec { name: app("shop").name, workloads };
    let said = Said { writer: Writer::Controller, actor: "ana", command: Some("c-1"), cause: None };
    told.say(&said, AppDeployed { app: app("shop"), revision: 1, spec });
    let answer = told.why("shop/api", None);
    says(
        part(&answer, "Why api has not begun"),
        "depends on db, which must be healthy and has 0 of 2",
    );
    assert_eq!(told.why("shop/nope", None).summary, "shop/nope is not declared");
}

#[test]
fn so_many_because_the_autoscaler_measured() {
    let mut told = Told::running();
    let reason =
        "target tracking: cpu 91 % of reserved over 1 replica, target 50 %, for 15 s: 1 → 2";
    told.command("as-1", "workload.scale", Some(reason), "autoscaler");
    let scaled = WorkloadScaled {
        app: app("shop"),
        workload: workload("web"),
        from: 1,
        to: 2,
        reason: Some(reason.to_owned()),
    };
    let said = Said {
        writer: Writer::Controller,
        actor: "autoscaler",
        command: Some("as-1"),
        cause: None,
    };
    told.say(&said, scaled);
    let answer = told.why("shop/web", Some(Aspect::Count));
    assert_eq!(answer.summary, "shop/web: 2 declared, 1 there, 1 of 2 ready");
    let count = part(&answer, "Why so many of web");
    says(count, "scaled 1 → 2: target tracking: cpu 91 %");
    let root = count.root.as_ref().expect("there is a root");
    assert!(root.text.starts_with("nobody: the autoscaler measured"), "{root:?}");
    // A declaration after that says the number again.
    told.deploy("c-2", 2, "web:1", 1);
    says(part(&told.why("shop/web", Some(Aspect::Count)), "Why so many"), "revision 2 declares 1");
}

#[test]
fn a_command_that_was_refused_says_what_is_valid() {
    let mut told = Told::running();
    let problem = Problem::new("not_found", "workload", "wbe", "one of web");
    let event = CommandRejected {
        command: CommandId::new("c-9").expect("an id"),
        verb: "workload.scale".to_owned(),
        sequence: 9,
        problem,
    };
    let said = Said { writer: Writer::Controller, actor: "ben", command: Some("c-9"), cause: None };
    told.say(&said, event);
    let answer = told.why("command/c-9", None);
    assert!(answer.summary.starts_with("workload.scale of ben was refused"), "{}", answer.summary);
    let refused = part(&answer, "Why it was refused");
    says(refused, "at workload: got wbe (not_found)");
    says(refused, "what is valid: one of web");
    let accepted = told.why("command/c-deploy", None);
    says(part(&accepted, "What followed"), "of replicas: 1 requested, 1 placed, 1 ready");
    says(part(&accepted, "What followed"), "not come to an end");
}

#[test]
fn a_drained_node_says_who_drained_it_and_what_moved() {
    let mut told = Told::running();
    told.command("c-drain", "node.drain", Some("kernel update"), "ben");
    let event = NodeCordoned { node: node("n1"), drain: true };
    let said =
        Said { writer: Writer::Controller, actor: "ben", command: Some("c-drain"), cause: None };
    let drained = told.say(&said, event);
    told.request(drained, "shop-web-b", Some("shop-web-a"));
    let answer = told.why("n1", None);
    assert!(answer.summary.starts_with("n1 is ready, draining"), "{}", answer.summary);
    let why = part(&answer, "Why it is draining");
    says(why, "shop-web-a by shop-web-b");
    assert_eq!(why.root.as_ref().and_then(|root| root.reason.as_deref()), Some("kernel update"));
    says(part(&told.why("shop-web-b", None), "Why it exists"), "its node n1 is drained");
}

#[test]
fn notes_are_shown_with_what_they_are_on() {
    let mut told = Told::running();
    let (object, text) = ("replica/shop-web-a".to_owned(), "looked at it".to_owned());
    let note = schemas::event::NoteAdded { object, text, fields: Default::default() };
    told.by(Writer::Controller, None, note);
    let answer = told.why("shop-web-a", None);
    let notes = part(&answer, "Notes on it");
    assert!(notes.chain[0].text.ends_with("looked at it"), "{notes:?}");
}

#[test]
fn what_cannot_be_asked_is_said_with_what_can() {
    let told = Told::running();
    let wrong = [
        (Object::Node(node("n1")), Aspect::Count),
        (Object::Replica(replica("shop-web-a")), Aspect::Count),
        (Object::App(app("shop")), Aspect::Here),
        (Object::Workload(app("shop"), workload("web")), Aspect::Moved),
    ];
    for (object, aspect) in wrong {
        assert!(matches!(told.ask(&object, Some(aspect)), Err(Stop::Asked(_))), "{object:?}");
    }
    let unknown = [
        Object::Replica(replica("shop-web-z")),
        Object::App(app("nope")),
        Object::Node(node("n9")),
        Object::Command(CommandId::new("nope").expect("an id")),
        Object::Event(999),
    ];
    for object in unknown {
        assert_eq!(told.ask(&object, None), Err(Stop::Unknown), "{object:?}");
    }
}

#[test]
fn a_revision_that_was_taken_back_shows_what_was_found() {
    let mut told = Told::running();
    told.by(
        Writer::Controller,
        None,
        AppConverged { app: app("shop"), revision: 1, failed: Vec::new() },
    );
    let deployed = told.deploy("c-2", 2, "web:2", 1);
    let failed = RolloutFailed {
        app: app("shop"),
        workload: workload("web"),
        revision: 2,
        back_to: 1,
        reason: "shop-web-b ended 3 times: exited with 3".to_owned(),
        replica: Some(replica("shop-web-b")),
        evidence: Some(Evidence {
            exit_code: Some(3),
            cause: "exited with 3".to_owned(),
            last_lines: vec!["cannot open the shop".to_owned()],
            ..Evidence::default()
        }),
        evidence_at: None,
        measured: None,
    };
    let back = told
        .0
        .fold
        .state()
        .declared(&app("shop"))
        .map(|_| told.0.fold.state().apps.get(&app("shop")).and_then(|shop| shop.good.clone()));
    let spec = back.flatten().expect("revision 1 converged").spec;
    let said = Said {
        writer: Writer::Controller,
        actor: "controller",
        command: Some("c-2"),
        cause: Some(deployed),
    };
    told.say(&said, failed);
    told.say(&said, AppDeployed { app: app("shop"), revision: 3, spec });
    let answer = told.why("shop", None);
    let why = part(&answer, "Why revision 2 was taken back");
    says(why, "web: shop-web-b ended 3 times");
    says(why, "cannot open the shop");
    assert_eq!(kinds(why), ["RolloutFailed", "AppDeployed", "CommandAccepted"]);
    let accepted = told.why("command/c-2", None);
    says(part(&accepted, "What followed"), "revision 2 failed: web: shop-web-b ended 3 times");
    let declared = told.why("shop", Some(Aspect::Exists));
    let why = part(&declared, "Why it is declared so");
    assert_eq!(kinds(why), ["AppDeployed", "RolloutFailed", "AppDeployed", "CommandAccepted"]);
}
