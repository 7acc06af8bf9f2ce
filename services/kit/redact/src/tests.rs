//! Histories written without their secrets: nothing of these is left, and the rest means what it meant.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cluster::Fold;
use cluster::history::{History, app, node, replica, workload};
use schemas::command::Problem;
use schemas::envelope::Envelope;
use schemas::event::{
    AppDeployed, AppStalled, CommandAccepted, CommandRejected, ConfigStored, Event, Evidence,
    ExecStarted, HistoryForked, NoteAdded, Outcome, PositionVoided, ReplicaEnded, ReplicaReady,
    ReplicaUnready, ReplicasPlaced, ReplicasRequested, RequestedReplica, RunEnded, RunFailed,
    RunStarted, SequencerTaken,
};
use schemas::id::{AppKey, CommandId, Digest, Writer};
use schemas::place::Hash;
use schemas::spec::{AppSpec, Check, ConfigFile, Probe, Route, WorkloadSpec};

use crate::{Extent, Policy, Redacted, Shape, Survey};

/// What must not be left of a history, wherever it stood.
const CANARIES: [&str; 8] = [
    "c4nary-env",
    "c4nary-password",
    "c4nary-label",
    "c4nary-header",
    "c4nary-file",
    "c4nary-typed",
    "c4nary \"quoted\"",
    "c4nary-second",
];

/// What is taken out only when everything is.
const WRITTEN: [&str; 4] = ["--verbose-flag", "printed by it", "written by ana", "exec-argument"];

fn written(entries: &[Vec<u8>], policy: &Policy) -> (Vec<Vec<u8>>, Redacted) {
    let mut survey = Survey::new(policy.clone());
    entries.iter().for_each(|entry| survey.read(entry).expect("it is an event"));
    let mut redactor = survey.done();
    let mut out = Vec::new();
    for entry in entries {
        out.extend(redactor.take(entry).expect("it is an event"));
    }
    out.extend(redactor.rest());
    (out, redactor.redacted().clone())
}

fn folded(entries: &[Vec<u8>]) -> Fold {
    let mut fold = Fold::new();
    entries.iter().for_each(|entry| {
        fold.push(entry).expect("it is the next entry");
    });
    fold
}

/// What holds of every history, whatever of it is written.
fn holds(entries: &[Vec<u8>], extent: Extent, app: Option<&AppKey>, from: u64) -> Vec<Vec<u8>> {
    let to = u64::try_from(entries.len()).expect("it is short");
    let policy = Policy { extent, app: app.cloned(), from, to };
    let (out, _) = written(entries, &policy);
    assert_eq!(out.len(), entries.len(), "{policy:?}");
    let (was, is) = (folded(entries), folded(&out));
    assert_eq!(is.cursor().basis(), was.cursor().basis(), "{policy:?}");
    assert_eq!(Shape::of(is.state(), app), Shape::of(was.state(), app), "{policy:?}");
    let anomalies = [&is, &was].map(|fold| fold.state().anomalies());
    match app {
        Some(_) => assert!(anomalies[0] <= anomalies[1], "{:?}", is.state().cluster.anomalous),
        None => assert_eq!(anomalies[0], anomalies[1], "{:?}", is.state().cluster.anomalous),
    }
    for (is, was) in out.iter().zip(entries) {
        let [is, was] = [is, was].map(|entry| Envelope::decode(entry).expect("it decodes"));
        if !matches!(is.event, Event::PositionVoided(_)) {
            assert_eq!(is.event.kind(), was.event.kind());
            assert_eq!(is.header.id, was.header.id);
            assert_eq!(is.header.basis, was.header.basis);
        }
        assert_eq!(is.header.recorded_ms, was.header.recorded_ms);
    }
    out
}

fn command(id: &str) -> CommandId {
    CommandId::new(id).expect("an id")
}

fn file(content: &str) -> ConfigStored {
    ConfigStored {
        digest: Digest::of(content.as_bytes()),
        content_base64: BASE64_STANDARD.encode(content),
    }
}

const FILE: &str = "[db]\nuser = shop\npassword = \"c4nary-file\"\n";

fn spec(number: u64) -> WorkloadSpec {
    let mut spec = WorkloadSpec::of_image("web:1");
    let env = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    spec.env = [
        env("TOKEN", "c4nary-env"),
        env("DATABASE", "postgres://shop:c4nary-password@db/shop"),
        env("QUOTED", "c4nary \"quoted\""),
        env("NUMBER", &number.to_string()),
        env("EMPTY", ""),
    ]
    .into();
    spec.labels = [env("auth", "c4nary-label")].into();
    spec.command = Some(vec!["/web".to_owned(), "--verbose-flag".to_owned()]);
    spec.entrypoint = Some(vec!["--token=c4nary-env".to_owned()]);
    spec.probe = Some(Probe::of_check(Check::Http { port: 80, path: "/?t=c4nary-env".to_owned() }));
    let digest = Digest::of(FILE.as_bytes());
    spec.configs = [("/etc/shop".to_owned(), ConfigFile { digest, mode: None })].into();
    let route: Route = serde_json::from_str(r#"{"set_headers":{"Authorization":"c4nary-header"}}"#)
        .expect("a route");
    spec.routes = vec![route];
    spec
}

fn deploy(history: &mut History, name: &str, revision: u64, spec: WorkloadSpec, by: &str) {
    let sequence = history.fold.place().position;
    let accepted = CommandAccepted {
        command: command(by),
        verb: "app.deploy".to_owned(),
        sequence,
        proved: false,
        reason: Some("written by ana, with c4nary-env".to_owned()),
    };
    let requested = ReplicasRequested {
        app: app(name),
        workload: workload("web"),
        revision,
        generation: 0,
        spec: spec.digest(),
        replicas: vec![RequestedReplica {
            id: replica(&format!("{name}-web-{revision}")),
            replaces: None,
            node: None,
        }],
    };
    let spec = AppSpec { name: app(name).name, workloads: [(workload("web"), spec)].into() };
    let deployed = AppDeployed { app: app(name), revision, spec };
    let events = vec![accepted.into(), deployed.into(), requested.into()];
    history.caused(&Writer::Controller, events, Some(command(by)));
}

/// Two apps, two revisions, runs that end badly, people who write too much.
fn incident() -> History {
    let mut history = History::default();
    history.node("n1", 4, 8);
    let agent = Writer::Agent(node("n1"));
    // It is printed before anybody declares it.
    let note = |object: &str, text: &str| NoteAdded {
        object: object.to_owned(),
        text: text.to_owned(),
        fields: [("token".to_owned(), "c4nary-env".to_owned())].into(),
    };
    history.add(&Writer::Controller, note("app/main/shop", "written by ana: c4nary-second"));
    let put = Some(command("c-0123456789abcdef01234567"));
    history.caused(&Writer::Controller, vec![file(FILE).into()], put);
    history.add(&Writer::Controller, file("of nobody: c4nary-file"));
    deploy(&mut history, "shop", 1, spec(1), "c-89abcdef0123456789abcdef");
    deploy(&mut history, "other", 1, spec(1), "o1");
    let replicas = vec![replica("shop-web-1"), replica("other-web-1")];
    let placed = ReplicasPlaced {
        node: node("n1"),
        replicas,
        chosen: "1 of 1".to_owned(),
        passed_over: vec![],
    };
    history.add(&Writer::Scheduler, placed);
    for name in ["shop", "other"] {
        let (id, run) = (replica(&format!("{name}-web-1")), 1);
        let started = RunStarted {
            replica: id.clone(),
            run,
            container: "c".to_owned(),
            endpoints: vec![],
            inside: None,
        };
        let said = "401: c4nary-password rejected, printed by it".to_owned();
        let unready = ReplicaUnready { replica: id.clone(), run, output: said.clone() };
        let exec = ExecStarted {
            replica: id.clone(),
            run,
            command: vec!["sh".to_owned(), "exec-argument c4nary-env".to_owned()],
            actor: "ana".to_owned(),
        };
        let lines = ["token c4nary-env", r#"{"q":"c4nary \"quoted\""}"#, "cut short: c4nary-passw"];
        let last_lines = [said].into_iter().chain(lines.map(str::to_owned)).collect();
        let cause = "exited with 1: c4nary-label".to_owned();
        let evidence = Evidence { exit_code: Some(1), out_of_memory: false, cause, last_lines };
        let ended = RunEnded { replica: id.clone(), run, evidence, retry_ms: Some(1) };
        let (step, error) = ("start".to_owned(), "bad header c4nary-header".to_owned());
        let failed = RunFailed { replica: id.clone(), run: 2, step, error, retry_ms: 1 };
        history.add(&agent, started).add(&agent, ReplicaReady { replica: id.clone(), run });
        history.add(&agent, unready).add(&agent, exec).add(&agent, ended).add(&agent, failed);
        let reason = "gave up: password = \"c4nary-file\"".to_owned();
        history.add(&agent, ReplicaEnded { replica: id, outcome: Outcome::Failed { reason } });
    }
    let problem = Problem::new(
        "invalid_value",
        "app.workloads.web.env.PIN",
        "invalid type: c4nary-typed, expected a string",
        "a text",
    );
    let rejected = CommandRejected {
        command: command("c-ffffffffffffffffffffffff"),
        verb: "app.deploy".to_owned(),
        sequence: 9,
        problem,
    };
    history.add(&Writer::Controller, rejected);
    let mut second = spec(2);
    second.env.insert("TOKEN".to_owned(), "c4nary-second".to_owned());
    deploy(&mut history, "shop", 2, second, "s2");
    let (revision, reason) = (2, "c4nary-second fits nowhere".to_owned());
    let stalled = AppStalled { app: app("shop"), revision, workload: workload("web"), reason };
    history.add(&Writer::Controller, stalled);
    history.add(&Writer::Controller, note("command/c-89abcdef0123456789abcdef", "c4nary-label"));
    let voided = PositionVoided { sha256: Digest::of(b"c4nary-env") };
    history.add(&Writer::EventLog, voided);
    let from = history.fold.place();
    history.add(&Writer::EventLog, HistoryForked { from });
    let (after, accept_loss) = (from.position + 1, Some(from));
    let taken = SequencerTaken { instance: "log-2".to_owned(), after, genesis: None, accept_loss };
    history.add(&Writer::EventLog, taken);
    history
}

/// Fails when anything of the secrets, or anything by which they could be guessed, is left.
fn is_clean(out: &[Vec<u8>], history: &History, secrets: &[&str]) {
    let text: String =
        out.iter().map(|entry| String::from_utf8_lossy(entry).into_owned()).collect();
    let mut guessed: Vec<String> = history
        .entries
        .iter()
        .filter_map(|entry| match Envelope::decode(entry).expect("it decodes").event {
            Event::ConfigStored(e) => Some(e.digest.to_string()),
            Event::ReplicasRequested(e) => Some(e.spec.to_string()),
            _ => None,
        })
        .collect();
    let mut hash = Hash::ZERO;
    for entry in &history.entries {
        hash = hash.extend(entry);
        guessed.push(hash.to_string());
    }
    let genesis = &history.fold.state().cluster.genesis;
    guessed.push(format!("\"genesis\":\"{genesis}\""));
    guessed.push(Digest::of(b"c4nary-env").to_string());
    guessed.extend(["0123456789abcdef01234567", "89abcdef0123456789abcdef"].map(str::to_owned));
    let escaped =
        |secret: &str| serde_json::Value::from(secret).to_string().trim_matches('"').to_owned();
    for secret in secrets {
        let base64 = BASE64_STANDARD.encode(secret);
        guessed.extend([(*secret).to_owned(), escaped(secret), escaped(&escaped(secret))]);
        guessed.push(base64.trim_end_matches('=').to_owned());
    }
    guessed.push("c4nary".to_owned());
    for secret in guessed {
        let at =
            text.find(&secret).map(|at| text[..at].chars().rev().take(300).collect::<String>());
        let at = at.map(|reversed| reversed.chars().rev().collect::<String>());
        assert_eq!(at, None, "{secret} is left");
    }
}

#[test]
fn nothing_is_left_of_what_is_secret_and_all_the_rest_is() {
    let history = incident();
    for from in [1, 12, 100] {
        for app in [None, Some(app("shop")), Some(app("other"))] {
            let out = holds(&history.entries, Extent::Values, app.as_ref(), from);
            is_clean(&out, &history, &CANARIES);
            let out = holds(&history.entries, Extent::All, app.as_ref(), from);
            is_clean(&out, &history, &[&CANARIES[..], &WRITTEN[..]].concat());
        }
    }
    let out = holds(&history.entries, Extent::Values, None, 1);
    let text: String =
        out.iter().map(|entry| String::from_utf8_lossy(entry).into_owned()).collect();
    for written in WRITTEN {
        assert!(text.contains(written), "{written} is no secret");
    }
}

#[test]
fn the_same_value_is_the_same_wherever_it_stands() {
    let history = incident();
    let out = holds(&history.entries, Extent::Values, None, 1);
    let deployed: Vec<AppDeployed> = out
        .iter()
        .filter_map(|entry| match Envelope::decode(entry).expect("it decodes").event {
            Event::AppDeployed(e) => Some(e),
            _ => None,
        })
        .collect();
    let env = |i: usize, key: &str| {
        let spec: &AppDeployed = &deployed[i];
        spec.spec.workloads[&workload("web")].env[key].clone()
    };
    let token = env(0, "TOKEN");
    assert!(token.starts_with("redacted-"), "{token}");
    assert_eq!(token, env(1, "TOKEN"), "two apps share it");
    assert_ne!(token, env(2, "TOKEN"), "the second revision has another");
    assert_ne!(
        env(0, "NUMBER"),
        env(2, "NUMBER"),
        "what is too short to look for is taken out too"
    );
    assert_eq!((env(0, "NUMBER"), env(0, "EMPTY").as_str()), (env(1, "NUMBER"), ""));
    let text: String =
        out.iter().map(|entry| String::from_utf8_lossy(entry).into_owned()).collect();
    assert!(text.contains(&format!("written by ana, with {token}")), "{text}");
    assert!(text.contains(&format!("token {token}")) && text.contains(&format!("--token={token}")));
    // A file that a spec names is there, under the digest of what is in it.
    let fold = folded(&out);
    let specs = fold.state().apps.iter().flat_map(|(_, app)| app.specs.values());
    for file in specs.flat_map(|spec| spec.configs.values()) {
        let content = fold.state().configs.get(&file.digest).expect("it is stored");
        let content = BASE64_STANDARD.decode(content).expect("it is base64");
        assert_eq!(Digest::of(&content), file.digest);
    }
}

#[test]
fn what_concerns_other_apps_is_void() {
    let history = incident();
    let shop = app("shop");
    let out = holds(&history.entries, Extent::Values, Some(&shop), 1);
    let fold = folded(&out);
    assert_eq!(Shape::of(fold.state(), None).counts(), [1, 1, 1]);
    let text: String =
        out.iter().map(|entry| String::from_utf8_lossy(entry).into_owned()).collect();
    for gone in ["main/other", "other-web-1", "\"o1\"", "of nobody"] {
        assert!(!text.contains(gone), "{gone} is left");
    }
    assert!(text.contains("shop-web-1") && text.contains("\"s2\""));
    assert_eq!(fold.state().configs.len(), 1, "the file of nobody is left out");
    let policy = Policy { app: Some(app("nobodys")), to: 1, ..Policy::default() };
    let mut survey = Survey::new(policy);
    history.entries.iter().for_each(|entry| survey.read(entry).expect("it is an event"));
    assert!(!survey.knows_the_app());
}

#[test]
fn of_what_was_before_only_that_is_left_which_the_state_follows_from() {
    let history = incident();
    let end = u64::try_from(history.entries.len()).expect("it is short");
    let count = |from: u64| {
        let out = holds(&history.entries, Extent::Values, None, from);
        let text: String =
            out.iter().map(|entry| String::from_utf8_lossy(entry).into_owned()).collect();
        ["NoteAdded", "ExecStarted", "rejected, printed by it", "RunEnded"]
            .map(|what| text.matches(what).count())
    };
    assert_eq!(count(1), [2, 2, 4, 2]);
    // What a probe said is a part of the state; what was printed is not.
    assert_eq!(count(end), [0, 0, 2, 2]);
}

#[test]
fn a_place_that_an_event_names_is_one_of_the_history_that_is_written() {
    let history = incident();
    let out = holds(&history.entries, Extent::Values, Some(&app("shop")), 1);
    let mut hash = Hash::ZERO;
    let mut hashes = vec![hash];
    let mut named = 0;
    for entry in &out {
        let place = match Envelope::decode(entry).expect("it decodes").event {
            Event::HistoryForked(e) => Some(e.from),
            Event::SequencerTaken(e) => e.accept_loss,
            _ => None,
        };
        if let Some(place) = place {
            let at = usize::try_from(place.position).expect("it is short");
            assert_eq!(hashes[at], place.hash);
            named += 1;
        }
        hash = hash.extend(entry);
        hashes.push(hash);
    }
    assert_eq!(named, 2);
}

#[test]
fn a_batch_that_was_left_unfinished_or_has_a_void_in_it_stays_as_it_was() {
    let history = incident();
    // Of the batch that deploys `other`, the end is missing, as when event-log ends in the midst of it.
    let of = |entry: &Vec<u8>| Envelope::decode(entry).expect("it decodes");
    let at = history.entries.iter().position(
        |entry| matches!(of(entry).event, Event::AppDeployed(e) if e.app == app("other")),
    );
    let mut entries = history.entries[..=at.expect("it is there")].to_vec();
    let fold = folded(&entries);
    let next = |fold: &Fold, event: Event, series: &str, epoch: u64| {
        let mut envelope = of(&history.entries[0]);
        let place = fold.cursor();
        envelope.header.batch.series = schemas::id::Series::derive(series, 0);
        (envelope.header.epoch, envelope.header.position) = (epoch, place.position + 1);
        envelope.header.recorded_ms = 1_000;
        (envelope.header.prev_hash, envelope.event) = (place.hash, event);
        envelope.encode()
    };
    let epoch = fold.cursor().epoch;
    let voided = PositionVoided { sha256: Digest::of(b"junk") };
    entries.push(next(&fold, voided.into(), "void", epoch));
    let taken = SequencerTaken {
        instance: "log-2".to_owned(),
        after: fold.cursor().position + 1,
        genesis: None,
        accept_loss: None,
    };
    entries.push(next(&folded(&entries), taken.into(), "taken", epoch + 1));
    for app in [None, Some(app("shop")), Some(app("other"))] {
        let _ = holds(&entries, Extent::Values, app.as_ref(), 1);
        let unfinished = &entries[..entries.len() - 1];
        let out = holds(unfinished, Extent::Values, app.as_ref(), 1);
        assert_eq!(out.len(), unfinished.len());
    }
}

#[test]
fn what_was_written_can_be_written_again() {
    let history = incident();
    let once = holds(&history.entries, Extent::Values, None, 1);
    let again = holds(&once, Extent::All, Some(&app("shop")), 1);
    assert_ne!(folded(&again).state().cluster.genesis, folded(&once).state().cluster.genesis);
}

#[test]
fn the_logs_of_all_releases_fold_alike_without_their_secrets() {
    let logs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/logs");
    let mut read = 0;
    for release in fs::read_dir(logs).expect("they are there") {
        let log = release.expect("it can be read").path().join("log.jsonl");
        let text = fs::read_to_string(log).expect("it is text");
        let entries: Vec<Vec<u8>> = text.lines().map(|line| line.as_bytes().to_vec()).collect();
        let fold = folded(&entries);
        let apps: Vec<AppKey> = fold.state().apps.iter().map(|(key, _)| key.clone()).collect();
        for extent in [Extent::Values, Extent::All] {
            for app in apps.iter().map(Some).chain([None]) {
                // Up to every position: each is the end of a history.
                for end in 1..=entries.len() {
                    let _ = holds(&entries[..end], extent, app, 1);
                }
                let _ = holds(&entries, extent, app, 20);
            }
        }
        read += entries.len();
    }
    assert!(read > 40, "{read} entries");
}

#[test]
fn beyond_the_end_only_types_are_skipped_in_which_nothing_is_noted() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../schemas/golden/v1/event");
    for extent in [Extent::Values, Extent::All] {
        let policy = Policy { extent, ..Policy::default() };
        let kinds = Survey::new(policy.clone()).kinds().expect("it is of no app");
        let mut noted = 0;
        for sample in fs::read_dir(&samples).expect("they are there") {
            let sample = sample.expect("it is readable").path();
            let text = fs::read_to_string(&sample).expect("it is text");
            let mut survey = Survey::new(policy.clone());
            let noting = |survey: &Survey| format!("{:?} {:?}", survey.values, survey.names);
            let before = noting(&survey);
            survey.read(text.trim().as_bytes()).expect("it is an event");
            if noting(&survey) != before {
                noted += 1;
                let name = sample.file_name().and_then(|name| name.to_str()).expect("a name");
                let kind = name.split('.').next().expect("a name");
                assert!(kinds.iter().any(|known| known == kind), "{name} notes something");
            }
        }
        assert!(noted >= 6, "{noted} samples have something to note");
    }
    let of_one = Policy { app: Some(app("shop")), ..Policy::default() };
    assert_eq!(Survey::new(of_one).kinds(), None, "any event may say what concerns it");
}
