//! Apps of every shape.

use schemas::id::Digest;
use serde_json::{Value, json};

use super::Scenario;
use crate::dice::Dice;
use crate::engine::HOPELESS;
use crate::redacted::CANARY;

/// How long waits of restarts are at most: short, so that what is at rest is known to be soon.
const LONGEST_WAIT_MS: u64 = 3_000;

impl Scenario {
    pub(super) fn app(&self, name: &str, dice: &mut Dice) -> Value {
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
            spec["configs"] = configs(dice);
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
        if dice.once_in(2) {
            spec["min_ready"] = json!(dice.within(1, 4));
        }
        if dice.once_in(3) {
            spec["update"]["max_surge"] = json!(0);
            spec["update"]["max_unavailable"] = json!(dice.within(1, 2));
        }
        spec
    }
}

pub(super) fn configs(dice: &mut Dice) -> Value {
    let said: &[u8] = dice.pick::<&[u8]>(&[b"one", b"two"]);
    json!({ "/etc/app": { "digest": Digest::of(said) } })
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
pub(super) fn rollout(dice: &mut Dice) -> Value {
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
            update["max_surge"] = json!(dice.below(2));
            update["max_unavailable"] = json!(1);
        }
        4 => update["rollback"] = json!(false),
        _ => {}
    }
    update
}

pub(super) fn probe(dice: &mut Dice) -> Value {
    json!({
        "check": { "tcp": { "port": 80 } },
        "interval_ms": dice.within(500, 2_000),
        "timeout_ms": 500,
        "retries": dice.within(1, 3),
        "start_period_ms": dice.below(1_500),
    })
}
