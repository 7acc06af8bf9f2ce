//! Revision after revision: many fail, each in another way, and people do what they do to rollouts.

use serde_json::{Value, json};

use super::specs::{configs, probe, rollout};
use super::{Scenario, mistake};
use crate::dice::Dice;
use crate::engine::{CRASHES, ERRS, HOPELESS, SICK};
use crate::model::App;
use crate::world::World;

/// The apps that this is about.
const APPS: [&str; 2] = ["red", "blue"];

/// How such an app stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stand {
    /// It is not there, or does not get to be as declared.
    #[default]
    Bad,
    UnderWay,
    /// It is as declared, or was: there is something to go back to.
    Good,
}

impl Stand {
    fn of(app: &App) -> Self {
        match app.stalled {
            _ if app.way.is_proven() => Self::Good,
            Some(_) => Self::Bad,
            None => Self::UnderWay,
        }
    }

    fn is_good(&self) -> bool {
        *self == Self::Good
    }
}

impl Scenario {
    pub(super) fn of_rollouts(&mut self, dice: &mut Dice) -> (&'static str, Value) {
        if let Some(file) = self.file() {
            return file;
        }
        let (any, good) = (dice.below(APPS.len()), self.stands.iter().position(Stand::is_good));
        let which = good.filter(|_| dice.once_in(2)).unwrap_or(any);
        let app = APPS[which];
        let node = dice.pick(&self.nodes).clone();
        match dice.below(if self.sent < 4 { 1 } else { 28 }) {
            // Mostly they wait for what comes of one revision before they declare the next.
            0..=14 if self.stands[which] == Stand::UnderWay && !dice.once_in(3) => {
                ("node.uncordon", json!({ "node": node }))
            }
            0..=14 => ("app.deploy", json!({ "app": self.revision(which, dice) })),
            15 => (
                "workload.scale",
                json!({ "app": app, "workload": "web", "replicas": dice.within(1, 4) }),
            ),
            16 => {
                let workload = *dice.pick(&["web", "web", "db", "before", "after"]);
                ("workload.restart", json!({ "app": app, "workload": workload }))
            }
            17 => {
                self.paused = Some(app);
                ("rollout.pause", json!({ "app": app }))
            }
            18 => ("rollout.resume", json!({ "app": app })),
            19 | 20 => ("rollout.promote", json!({ "app": app, "full": dice.once_in(3) })),
            21 | 22 => ("rollout.abort", json!({ "app": app })),
            23 => ("node.drain", json!({ "node": node })),
            24 => ("node.uncordon", json!({ "node": node })),
            25 => ("node.lost", json!({ "node": node })),
            26 => ("rebalance.start", json!({})),
            _ if dice.once_in(3) => ("app.delete", json!({ "app": app })),
            _ => mistake(app, dice),
        }
    }

    /// Another revision of an app, which may be one that fails; most of those that follow on a good one do.
    fn revision(&mut self, which: usize, dice: &mut Dice) -> Value {
        if dice.once_in(12) {
            self.shapes[which] = dice.roll();
        }
        let mut app = self.good(which, dice);
        let workloads = &mut app["workloads"];
        let bad = |image: &str, dice: &mut Dice| json!(format!("{image}:{}", dice.below(2)));
        match dice.below(if self.stands[which].is_good() { 13 } else { 40 }) {
            0 | 1 => workloads["web"]["image"] = bad(CRASHES, dice),
            2 | 3 => {
                workloads["web"]["image"] = bad(SICK, dice);
                workloads["web"]["probe"] = probe(dice);
            }
            4..=6 => {
                workloads["web"]["image"] = bad(ERRS, dice);
                workloads["web"]["update"] = held(dice);
            }
            7 => workloads["web"]["image"] = bad(HOPELESS, dice),
            8 | 9 => {
                let jobs = ["before", "after"].into_iter();
                let job = jobs.rev().find(|job| workloads.get(job).is_some());
                workloads[job.unwrap_or("web")]["image"] = bad(CRASHES, dice);
            }
            _ => {}
        }
        soon(&mut workloads["web"]["update"], dice);
        app
    }

    /// A revision that can be as declared: of the app's shape, with another image, other files and another
    /// way to roll it out.
    fn good(&self, which: usize, dice: &mut Dice) -> Value {
        let mut app = self.app(APPS[which], &mut Dice::new(self.shapes[which]));
        let version = format!("app:{}", dice.below(4));
        let workloads = app["workloads"].as_object_mut().expect("an app has workloads");
        for (name, spec) in workloads {
            let is_new = name == "web" || dice.once_in(4);
            spec["image"] = json!(if is_new { &version } else { "app:0" });
            let update = &mut spec["update"];
            (update["healthy_for_ms"], update["deadline_ms"]) = (json!(400), json!(7_000));
        }
        let web = &mut app["workloads"]["web"];
        web["update"] = if dice.once_in(3) { held(dice) } else { rollout(dice) };
        if web["replicas"] == json!(0) && !dice.once_in(4) {
            web["replicas"] = json!(2);
        }
        if web["update"]["strategy"] == json!("recreate") {
            web["min_ready"] = Value::Null;
        }
        if dice.once_in(2) {
            web["configs"] = configs(dice);
        }
        // Where it is placed is not what this is about.
        web["placement"]["constraints"] = json!([]);
        app
    }
}

/// An update by which new ones stand beside the old ones for a while.
fn held(dice: &mut Dice) -> Value {
    let mut hold_ms = || if dice.once_in(8) { Value::Null } else { json!(dice.within(500, 3_500)) };
    let (first, second) = (hold_ms(), hold_ms());
    if dice.once_in(3) {
        return json!({ "strategy": { "blue_green": { "promote_after_ms": first } } });
    }
    let steps = json!([
        { "weight_percent": dice.within(20, 60), "hold_ms": first },
        { "weight_percent": dice.within(60, 100), "hold_ms": second },
    ]);
    json!({ "strategy": { "canary": { "steps": steps } } })
}

/// What comes of a revision shows in time for the next one.
fn soon(update: &mut Value, dice: &mut Dice) {
    update["healthy_for_ms"] = json!(dice.within(200, 900));
    update["deadline_ms"] = json!(dice.within(2_500, 6_000));
}

/// Whether an image never gets to be as declared.
fn fails(image: &str) -> bool {
    [CRASHES, SICK, HOPELESS].iter().any(|bad| image.starts_with(bad))
}

impl World {
    pub(super) fn look_how_apps_stand(&mut self) {
        let apps = &self.checks.model.apps;
        self.scenario.stands = APPS.map(|name| {
            let app = apps.iter().find(|(key, _)| key.name.as_str() == name);
            app.map_or_else(Stand::default, |(_, app)| Stand::of(app))
        });
    }

    /// Whoever declared what can never be as declared declares something else; where what fails is still
    /// there later, for the other fits nowhere, the app is given up.
    pub(super) fn mend(&mut self) {
        for (which, name) in APPS.into_iter().enumerate() {
            let model = &self.checks.model;
            let mut apps = model.apps.iter();
            let Some((key, app)) =
                apps.find(|(key, app)| key.name.as_str() == name && !app.deleting)
            else {
                continue;
            };
            let mut declared = app.workloads.values().map(|workload| &workload.spec);
            let mut there = model.replicas.values().filter(|replica| replica.app == *key);
            if self.scenario.calm > 3 && there.any(|replica| fails(&replica.spec.image)) {
                self.send("app.delete", &json!({ "app": name }));
            } else if declared.any(|spec| fails(&spec.image)) {
                let mut app = self.scenario.good(which, &mut self.dice);
                app["workloads"]["web"]["update"] =
                    json!({ "healthy_for_ms": 300, "deadline_ms": 9_000 });
                self.send("app.deploy", &json!({ "app": app }));
            }
        }
    }
}
