//! What people ask of the cluster: apps of every shape, changes, mistakes and repeats.

use controller::commands::CommandMessage;
use schemas::id::NodeName;
use serde_json::{Value, json};

use crate::dice::Dice;
use crate::engine::HOPELESS;
use crate::node::Node;
use crate::redacted::CANARY;
use crate::world::{UTC_MS, What, World};

const APPS: [&str; 3] = ["red", "blue", "green"];

/// How long waits of restarts are at most: short, so that what is at rest is known to be soon.
const LONGEST_WAIT_MS: u64 = 3_000;

/// What this run is about.
#[derive(Debug)]
pub(crate) struct Scenario {
    nodes: Vec<NodeName>,
    sent: u64,
    /// The last command, for who sends it again.
    last: Option<(String, String, Vec<u8>)>,
    /// Whether nodes are removed here.
    removes: bool,
    /// Whether some images never come.
    hopeless: bool,
    asks_every_ms: u64,
    /// How long what is under way may go on.
    drain_ms: u64,
}

impl Scenario {
    pub(crate) fn new(nodes: &[Node], seed: u64, dice: &mut Dice) -> Self {
        Self {
            nodes: nodes.iter().map(|node| node.name.clone()).collect(),
            sent: 0,
            last: None,
            removes: dice.once_in(4),
            hopeless: dice.once_in(5),
            asks_every_ms: dice.within(600, 2_500),
            drain_ms: [0, 1_000, 4_000][usize::try_from(seed % 3).expect("small")],
        }
    }

    /// The `noun.verb` of a command, and what it says.
    fn command(&mut self, dice: &mut Dice) -> (&'static str, Value) {
        let app = *dice.pick(&APPS);
        let node = dice.pick(&self.nodes).clone();
        let workload = *dice.pick(&["web", "web", "db", "job", "each", "before"]);
        match dice.below(if self.sent < 2 { 1 } else { 26 }) {
            0..=7 => ("app.deploy", json!({ "app": self.app(app, dice) })),
            8..=10 => (
                "workload.scale",
                json!({ "app": app, "workload": "web", "replicas": dice.below(6) }),
            ),
            11 => ("workload.restart", json!({ "app": app, "workload": workload })),
            12 => ("app.delete", json!({ "app": app })),
            13 => ("node.cordon", json!({ "node": node })),
            14 => ("node.drain", json!({ "node": node })),
            15 | 16 => ("node.uncordon", json!({ "node": node })),
            17 => (
                "node.label",
                json!({ "node": node, "labels": { "disk": *dice.pick(&["ssd", "hdd", ""]) } }),
            ),
            18 => ("node.lost", json!({ "node": node })),
            19 if self.removes => ("node.remove", json!({ "node": node })),
            20 => ("config.put", json!({ "content_base64": "aGVsbG8=" })),
            21 => ("rollout.pause", json!({ "app": app })),
            22 => ("rollout.resume", json!({ "app": app, "workload": "web" })),
            23 => ("rollout.promote", json!({ "app": app, "full": dice.once_in(3) })),
            24 => ("rollout.abort", json!({ "app": app })),
            _ => mistake(app, dice),
        }
    }

    fn app(&self, name: &str, dice: &mut Dice) -> Value {
        let mut workloads = serde_json::Map::new();
        let mut has = |name: &str, spec: Value| {
            workloads.insert(name.to_owned(), spec);
        };
        let (db, job, each) = (dice.once_in(3), dice.once_in(3), dice.once_in(4));
        if db {
            has("db", self.db(name, dice));
        }
        if job {
            has("job", self.job(db, dice));
        }
        if each {
            has("each", self.each(dice));
        }
        for when in ["before", "after"] {
            if dice.once_in(4) {
                has(when, self.task(when, dice));
            }
        }
        has("web", self.web(name, db, job, dice));
        json!({ "name": name, "workloads": workloads })
    }

    fn image(&self, dice: &mut Dice) -> String {
        let hopeless = self.hopeless && dice.once_in(8);
        format!("{}:{}", if hopeless { HOPELESS } else { "app" }, dice.below(3))
    }

    fn web(&self, app: &str, db: bool, job: bool, dice: &mut Dice) -> Value {
        let image = self.image(dice);
        let mut spec = json!({
            "env": { "TOKEN": format!("{CANARY}{image}") },
            "image": image,
            "replicas": dice.below(5),
            "priority": dice.below(3),
            "resources": { "cpu_millis": dice.within(50, 700), "memory_bytes": dice.within(8, 200) << 20 },
            "restart": restart(dice),
            "update": rollout(dice),
            "stop_grace_ms": 500,
            "ports": [{ "container": 80, "published": 8_000 + app.len() }],
            "drain_ms": self.drain_ms,
        });
        let recreates = spec["update"]["strategy"] == json!("recreate");
        let replicas = spec["replicas"].as_u64().unwrap_or(0);
        if replicas > 1 && !recreates && dice.once_in(2) {
            spec["min_ready"] = json!(dice.within(1, replicas - 1));
        }
        if dice.once_in(2) {
            spec["probe"] = probe(dice);
        }
        let mut placement = serde_json::Map::new();
        if dice.once_in(4) {
            placement.insert("max_per_node".to_owned(), json!(dice.within(1, 2)));
        }
        if dice.once_in(4) {
            let (attribute, value) =
                *dice.pick(&[("label.zone", "a"), ("label.disk", "ssd"), ("node", "n0")]);
            let constraint =
                json!({ "attribute": attribute, "equal": dice.once_in(2), "value": value });
            placement.insert("constraints".to_owned(), json!([constraint]));
        }
        if dice.once_in(4) {
            placement.insert("strategy".to_owned(), json!("bin_pack"));
        }
        if dice.once_in(5) {
            placement.insert("spread_over".to_owned(), json!("zone"));
        }
        spec["placement"] = Value::Object(placement);
        let mut first = serde_json::Map::new();
        if db && dice.once_in(2) {
            first.insert("db".to_owned(), json!(dice.pick(&["started", "healthy"])));
        }
        if job && dice.once_in(2) {
            first.insert("job".to_owned(), json!("completed"));
        }
        spec["depends_on"] = Value::Object(first);
        spec
    }

    /// A workload that has a volume, a port of its node, or both.
    fn db(&self, app: &str, dice: &mut Dice) -> Value {
        let mut spec = json!({
            "image": self.image(dice),
            "resources": { "cpu_millis": 200, "memory_bytes": 32 << 20 },
            "restart": restart(dice),
            "update": update(dice),
            "stop_grace_ms": 1_000,
            "drain_ms": self.drain_ms,
        });
        let volume = dice.once_in(2);
        if volume {
            spec["mounts"] = json!([{ "source": { "volume": "data" }, "target": "/data" }]);
        }
        if !volume || dice.once_in(2) {
            let port =
                if dice.once_in(2) { 5_432 } else { 5_000 + u64::try_from(app.len()).unwrap_or(0) };
            spec["ports"] = json!([{ "container": 5_432, "host": port }]);
        }
        if dice.once_in(2) {
            spec["probe"] = probe(dice);
        }
        spec
    }

    fn job(&self, db: bool, dice: &mut Dice) -> Value {
        let mut spec = json!({
            "image": self.image(dice),
            "mode": "job",
            "replicas": dice.within(1, 2),
            "restart": { "delay_ms": 200, "delay_max_ms": LONGEST_WAIT_MS },
            "update": update(dice),
        });
        if db && dice.once_in(2) {
            spec["depends_on"] = json!({ "db": dice.pick(&["started", "healthy"]) });
        }
        spec
    }

    /// A job of the rollouts of `web`.
    fn task(&self, when: &str, dice: &mut Dice) -> Value {
        let rollback = when == "after" && dice.once_in(2);
        json!({
            "image": self.image(dice),
            "mode": "job",
            "task": { "of": "web", "when": when, "rollback": rollback },
            "restart": restart(dice),
            "update": update(dice),
            "stop_grace_ms": 500,
        })
    }

    fn each(&self, dice: &mut Dice) -> Value {
        let mut spec = json!({
            "image": self.image(dice),
            "mode": "global",
            "resources": { "cpu_millis": 20 },
            "restart": restart(dice),
            "update": update(dice),
            "stop_grace_ms": 500,
        });
        if dice.once_in(3) {
            let constraint = json!({ "attribute": "label.zone", "value": "a" });
            spec["placement"] = json!({ "constraints": [constraint] });
        }
        spec
    }
}

fn restart(dice: &mut Dice) -> Value {
    let mut restart = json!({
        "delay_ms": dice.within(100, 500),
        "delay_max_ms": LONGEST_WAIT_MS,
        "reset_ms": 5_000,
    });
    if dice.once_in(4) {
        restart["attempts"] = json!(dice.within(1, 3));
    }
    restart
}

fn update(dice: &mut Dice) -> Value {
    json!({
        "parallelism": dice.within(1, 2),
        "healthy_for_ms": dice.within(200, 2_000),
        "deadline_ms": 15_000,
    })
}

/// An update of what may stand side by side, in all of its ways.
fn rollout(dice: &mut Dice) -> Value {
    let mut update = update(dice);
    match dice.below(8) {
        0 => update["strategy"] = json!("recreate"),
        1 => {
            let hold = |dice: &mut Dice| match dice.once_in(4) {
                true => Value::Null,
                false => json!(dice.within(200, 3_000)),
            };
            let steps = json!([
                { "weight_percent": dice.within(1, 50), "hold_ms": hold(dice) },
                { "weight_percent": dice.within(50, 100), "hold_ms": hold(dice) },
            ]);
            update["strategy"] = json!({ "canary": { "steps": steps } });
        }
        2 => {
            let after = match dice.once_in(4) {
                true => Value::Null,
                false => json!(dice.within(200, 3_000)),
            };
            update["strategy"] = json!({ "blue_green": { "promote_after_ms": after } });
        }
        3 => {
            update["max_surge"] = json!(0);
            update["max_unavailable"] = json!(1);
        }
        4 => update["rollback"] = json!(false),
        _ => {}
    }
    update
}

fn probe(dice: &mut Dice) -> Value {
    json!({
        "check": { "tcp": { "port": 80 } },
        "interval_ms": dice.within(500, 2_000),
        "timeout_ms": 500,
        "retries": dice.within(1, 3),
        "start_period_ms": dice.below(1_500),
    })
}

/// Commands that must be refused, or change nothing.
fn mistake(app: &str, dice: &mut Dice) -> (&'static str, Value) {
    let cycle = json!({
        "a": { "image": "app:1", "depends_on": { "b": "started" } },
        "b": { "image": "app:1", "depends_on": { "a": "healthy" } },
    });
    dice.pick(&[
        ("app.deploy", json!({ "app": { "name": app, "workloads": {} } })),
        ("app.deploy", json!({ "app": { "name": app, "workloads": cycle } })),
        ("app.deploy", json!({ "app": { "name": app, "workloads": { "web": { "image": "?" } } } })),
        ("app.deploy", json!({ "app": { "name": app }, "force": true })),
        ("workload.scale", json!({ "app": app, "workload": "web", "replicas": 100_000 })),
        ("workload.scale", json!({ "app": app, "workload": "nothing", "replicas": 1 })),
        ("app.delete", json!({ "app": app, "expect_position": 1 })),
        ("app.fly", json!({ "app": app })),
        ("node.drain", json!({ "node": "nowhere" })),
        ("config.put", json!({ "content_base64": "?" })),
        ("app.delete", Value::Null),
    ])
    .clone()
}

impl World {
    /// Somebody wants something.
    pub(crate) fn ask(&mut self) {
        if !self.stormy {
            return;
        }
        let scenario = &mut self.scenario;
        let again = self.dice.once_in(12);
        let (id, subject, payload) = match scenario.last.clone().filter(|_| again) {
            Some(last) => last,
            None => {
                let (verb, body) = scenario.command(&mut self.dice);
                scenario.sent += 1;
                let id = format!("c{}", scenario.sent);
                let payload = match &body {
                    Value::Null => b"{".to_vec(),
                    body => serde_json::to_vec(body).expect("JSON"),
                };
                (id, schemas::subject::command(verb), payload)
            }
        };
        scenario.last = Some((id.clone(), subject.clone(), payload.clone()));
        let every_ms = scenario.asks_every_ms;
        self.say(|| format!("asked: {id} {subject} {}", String::from_utf8_lossy(&payload)));
        let time_ms = UTC_MS + self.now_ms;
        let sequence = self.commands.next();
        let message = CommandMessage::new(sequence, &subject, Some(&id), None, time_ms, payload);
        self.command_arrives(message);
        self.plan_soon(2 * every_ms, What::Ask);
    }
}
