//! What people ask of the cluster: apps of every shape, changes, mistakes and repeats.

mod rollouts;
mod specs;

use controller::commands::CommandMessage;
use schemas::id::NodeName;
use serde_json::{Value, json};

use crate::dice::Dice;
use crate::node::Node;
use crate::world::{UTC_MS, What, World};

use rollouts::Stand;

const APPS: [&str; 3] = ["red", "blue", "green"];

/// What files of theirs say, in base64: stored before anything else is asked for.
const FILES: [&str; 2] = ["b25l", "dHdv"];

/// What people mostly ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mix {
    /// Everything.
    Everything,
    /// Revision after revision of two apps, many of which fail, and what else people do to a rollout.
    Rollouts,
}

impl Mix {
    /// The mix of a seed: three of nine are about rollouts.
    pub(crate) fn of(seed: u64) -> Self {
        match seed / 3 % 3 {
            1 => Self::Rollouts,
            _ => Self::Everything,
        }
    }

    /// How long things go wrong, in ms: in time for some revisions one after the other.
    pub(crate) fn storm_ms(self) -> u64 {
        match self {
            Self::Everything => 25_000,
            Self::Rollouts => 45_000,
        }
    }

    /// After how long at most the next thing goes wrong, in ms.
    pub(crate) fn fault_every_ms(self) -> u64 {
        match self {
            Self::Everything => 700,
            Self::Rollouts => 2_400,
        }
    }
}

/// After how long in the calm, at most half as long again, replicas are to be better spread.
const CALM_MS: u64 = 8_000;

/// How often somebody looks after things in the calm.
const LOOKS: u64 = 6;

/// What this run is about.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) mix: Mix,
    /// What all revisions of an app have in common follows from this, until somebody rebuilds it.
    shapes: [u64; 2],
    stands: [Stand; 2],
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
    /// How often somebody wanted something since nothing goes wrong any more.
    calm: u64,
    /// The app of which something was paused last.
    paused: Option<&'static str>,
}

impl Scenario {
    pub(crate) fn new(nodes: &[Node], mix: Mix, seed: u64, dice: &mut Dice) -> Self {
        Self {
            mix,
            shapes: [seed << 1, (seed << 1) | 1],
            stands: <[Stand; 2]>::default(),
            nodes: nodes.iter().map(|node| node.name.clone()).collect(),
            sent: 0,
            last: None,
            removes: dice.once_in(4),
            hopeless: dice.once_in(5),
            asks_every_ms: dice.within(600, 2_500),
            drain_ms: [0, 1_000, 4_000][usize::try_from(seed % 3).expect("small")],
            calm: 0,
            paused: None,
        }
    }

    fn next_id(&mut self) -> String {
        self.sent += 1;
        format!("c{}", self.sent)
    }

    /// Files come before all else.
    fn file(&self) -> Option<(&'static str, Value)> {
        let content = FILES.get(usize::try_from(self.sent).ok()?)?;
        Some(("config.put", json!({ "content_base64": content })))
    }

    /// The `noun.verb` of a command, and what it says.
    fn command(&mut self, dice: &mut Dice) -> (&'static str, Value) {
        // Whoever paused something has it go on, most of the time.
        if let Some(app) = self.paused.take()
            && !dice.once_in(4)
        {
            return ("rollout.resume", json!({ "app": app }));
        }
        if self.mix == Mix::Rollouts {
            return self.of_rollouts(dice);
        }
        let app = *dice.pick(&APPS);
        let node = dice.pick(&self.nodes).clone();
        let workload = *dice.pick(&["web", "web", "db", "job", "each", "before"]);
        if let Some(file) = self.file() {
            return file;
        }
        match dice.below(if self.sent < 4 { 1 } else { 28 }) {
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
            21 => {
                self.paused = Some(app);
                ("rollout.pause", json!({ "app": app }))
            }
            22 => ("rollout.resume", json!({ "app": app, "workload": "web" })),
            23 => ("rollout.promote", json!({ "app": app, "full": dice.once_in(3) })),
            24 => ("rollout.abort", json!({ "app": app })),
            25 if dice.once_in(2) => ("rebalance.start", json!({})),
            25 => ("rebalance.start", json!({ "app": app })),
            26 => ("rebalance.auto", json!({ "on": !dice.once_in(3) })),
            _ => mistake(app, dice),
        }
    }
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
            self.ask_in_the_calm();
            return;
        }
        self.look_how_apps_stand();
        let scenario = &mut self.scenario;
        let again = self.dice.once_in(12);
        let (id, subject, payload) = match scenario.last.clone().filter(|_| again) {
            Some(last) => last,
            None => {
                let (verb, body) = scenario.command(&mut self.dice);
                let (subject, payload) = (schemas::subject::command(verb), payload(&body));
                (scenario.next_id(), subject, payload)
            }
        };
        scenario.last = Some((id.clone(), subject.clone(), payload.clone()));
        let every_ms = scenario.asks_every_ms;
        self.arrive(&id, &subject, payload);
        self.plan_soon(2 * every_ms, What::Ask);
    }

    fn ask_in_the_calm(&mut self) {
        self.scenario.calm += 1;
        let calm = self.scenario.calm;
        match calm {
            1 => return self.plan_soon(2 * CALM_MS, What::Ask),
            // Now that most is as declared, replicas are to go to where they are better off.
            2 => self.send("rebalance.start", &json!({})),
            _ => {}
        }
        if self.scenario.mix == Mix::Rollouts && calm <= LOOKS {
            self.mend();
            self.plan_soon(CALM_MS, What::Ask);
        }
    }

    fn send(&mut self, verb: &str, body: &Value) {
        let id = self.scenario.next_id();
        self.arrive(&id, &schemas::subject::command(verb), payload(body));
    }

    fn arrive(&mut self, id: &str, subject: &str, payload: Vec<u8>) {
        self.say(|| format!("asked: {id} {subject} {}", String::from_utf8_lossy(&payload)));
        let time_ms = UTC_MS + self.now_ms;
        let sequence = self.commands.next();
        let message = CommandMessage::new(sequence, subject, Some(id), None, time_ms, payload);
        self.command_arrives(message);
    }
}

fn payload(body: &Value) -> Vec<u8> {
    match body {
        Value::Null => b"{".to_vec(),
        body => serde_json::to_vec(body).expect("JSON"),
    }
}
