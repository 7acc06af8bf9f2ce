//! A cluster in miniature: two nodes whose agents report every 5 s, a controller that judges
//! commands by position and bounds, replicas that are there as soon as they are declared.

use cluster::history::{History, app, node, workload};
use cluster::state::App;
use schemas::command::Problem;
use schemas::event::{
    AppDeployed, CommandAccepted, CommandRejected, LeadershipTaken, Outcome, ReplicaEnded,
    ReplicaReady, ReplicasPlaced, ReplicasRequested, ReplicasRetired, RequestedReplica,
    RetireReason, RunStarted, WorkloadScaled,
};
use schemas::report::{Traffic, Usage};
use schemas::spec::{AppSpec, WorkloadSpec};

use super::*;

const NODES: [&str; 2] = ["n1", "n2"];

pub(crate) fn key() -> AppKey {
    app("shop")
}

pub(crate) fn web() -> WorkloadName {
    workload("web")
}

/// Half of the cpu is the target, with the usual windows.
pub(crate) fn autoscale(min: u32, max: u32) -> Autoscale {
    Autoscale { cpu_percent: Some(50), ..Autoscale::of_bounds(min, max) }
}

/// A load that replicas share, in percent of what one reserves.
pub(crate) fn spread(percent: u64) -> impl Fn(u64, u64) -> (u64, u64) {
    move |_, replicas| (percent / replicas, 0)
}

/// What clients ask for, of all replicas together; all gateways carry the same share of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) per_second: u64,
    pub(crate) p95_us: u64,
    pub(crate) in_flight: u64,
}

/// What a gateway has counted.
#[derive(Default)]
struct Counted {
    instance: u64,
    requests: BTreeMap<ReplicaId, u64>,
}

pub(crate) struct Bench {
    pub(crate) history: History,
    rules: Autoscaler,
    pub(crate) mono_ms: u64,
    pub(crate) silent: Vec<&'static str>,
    /// What goes through the gateways of both nodes; they say nothing while it is none.
    pub(crate) asked: Option<Asked>,
    /// Gateways that say nothing.
    pub(crate) mute: Vec<&'static str>,
    counted: BTreeMap<&'static str, Counted>,
    /// Commands get lost.
    pub(crate) deaf: bool,
    /// Every command is rejected.
    pub(crate) refuse: bool,
    pub(crate) sent: Vec<Request>,
    pub(crate) rejected: Vec<String>,
    /// What the last passing of time brought.
    pub(crate) said: Vec<String>,
    workloads: Vec<&'static str>,
    serial: u64,
    revision: u64,
}

impl Bench {
    pub(crate) fn of(replicas: u32, autoscale: Autoscale) -> Self {
        Self::with(&["web"], replicas, autoscale)
    }

    pub(crate) fn with(
        workloads: &[&'static str],
        replicas: u32,
        autoscale: impl Into<Option<Autoscale>>,
    ) -> Self {
        let mut history = History::default();
        for name in NODES {
            history.node(name, 1_000, 1);
        }
        let mut rules = Autoscaler::default();
        rules.lead(history.fold.state(), Now::default());
        let mut bench = Self {
            history,
            rules,
            mono_ms: 1_000,
            silent: Vec::new(),
            asked: None,
            mute: Vec::new(),
            counted: BTreeMap::new(),
            deaf: false,
            refuse: false,
            sent: Vec::new(),
            rejected: Vec::new(),
            said: Vec::new(),
            workloads: workloads.to_vec(),
            serial: 0,
            revision: 0,
        };
        bench.deploy(replicas, autoscale.into());
        bench
    }

    fn deploy(&mut self, replicas: u32, autoscale: Option<Autoscale>) {
        let mut spec = WorkloadSpec::of_image("web:1");
        spec.replicas = replicas;
        spec.autoscale = autoscale;
        spec.resources.cpu_millis = Some(100);
        spec.resources.memory_bytes = Some(1_000);
        let workloads = self.workloads.iter().map(|name| {
            let env = [("NAME".to_owned(), (*name).to_owned())].into();
            (workload(name), WorkloadSpec { env, ..spec.clone() })
        });
        let spec = AppSpec { name: key().name, workloads: workloads.collect() };
        self.revision += 1;
        let deployed = AppDeployed { app: key(), revision: self.revision, spec };
        self.history.add(&Writer::Controller, deployed);
        self.settle();
    }

    /// Declares the app anew, with so many replicas as there are.
    pub(crate) fn declare(&mut self, autoscale: impl Into<Option<Autoscale>>) {
        self.deploy(self.replicas(), autoscale.into());
    }

    fn app(&self) -> &App {
        self.history.fold.state().apps.get(&key()).expect("it is declared")
    }

    pub(crate) fn replicas(&self) -> u32 {
        self.app().workloads[&workload(self.workloads[0])].replicas
    }

    pub(crate) fn anomalies(&self) -> u64 {
        self.history.fold.state().anomalies()
    }

    /// Another leadership, whose instance is this one.
    pub(crate) fn lead_anew(&mut self) {
        let writer = Writer::Autoscaler;
        let term = self.history.fold.state().term(&writer) + 1;
        let instance = "autoscaler-2".to_owned();
        self.history.add(&writer, LeadershipTaken { writer: writer.clone(), term, instance });
        let now = Now { utc_ms: 0, mono_ms: self.mono_ms };
        self.rules.lead(self.history.fold.state(), now);
    }

    /// Makes actual as declared.
    fn settle(&mut self) {
        for name in self.workloads.clone() {
            let name = workload(name);
            let state = self.history.fold.state();
            let declared = &self.app().workloads[&name];
            let wanted = usize::try_from(declared.replicas).expect("small");
            let spec = declared.spec.clone();
            let there: Vec<ReplicaId> =
                state.replicas_of(&key(), &name).map(|(id, _)| id.clone()).collect();
            for _ in there.len()..wanted {
                self.begin(&name, &spec);
            }
            for id in there.into_iter().skip(wanted) {
                self.end(&name, id);
            }
        }
    }

    fn begin(&mut self, name: &WorkloadName, spec: &Digest) {
        let id = ReplicaId::derive(&key(), name, self.serial);
        let on = node(NODES[usize::from(self.serial % 2 == 1)]);
        self.serial += 1;
        let requested = ReplicasRequested {
            app: key(),
            workload: name.clone(),
            revision: self.revision,
            generation: 0,
            spec: spec.clone(),
            replicas: vec![RequestedReplica { id: id.clone(), replaces: None, node: None }],
        };
        self.history.add(&Writer::Controller, requested);
        let replicas = vec![id.clone()];
        let placed = ReplicasPlaced {
            node: on.clone(),
            replicas,
            chosen: String::new(),
            passed_over: Vec::new(),
        };
        self.history.add(&Writer::Scheduler, placed);
        let agent = Writer::Agent(on);
        let container = id.to_string();
        let started = RunStarted {
            replica: id.clone(),
            run: 1,
            container,
            endpoints: Vec::new(),
            inside: None,
        };
        self.history.add(&agent, started).add(&agent, ReplicaReady { replica: id, run: 1 });
    }

    fn end(&mut self, name: &WorkloadName, id: ReplicaId) {
        let replica = self.history.fold.state().replicas.get(&id).expect("it is there");
        let agent = Writer::Agent(replica.node.clone().expect("it was placed"));
        let retired = ReplicasRetired {
            app: key(),
            workload: name.clone(),
            replicas: vec![id.clone()],
            reason: RetireReason::ScaledDown,
            leaving: false,
        };
        self.history.add(&Writer::Controller, retired);
        self.history.add(&agent, ReplicaEnded { replica: id, outcome: Outcome::Stopped });
    }

    /// A person sets a number.
    pub(crate) fn scale(&mut self, to: u32) {
        let (app, workload, from) = (key(), workload(self.workloads[0]), self.replicas());
        let scaled = WorkloadScaled { app, workload, from, to, reason: None };
        self.history.add(&Writer::Controller, scaled);
        self.settle();
    }

    /// A command arrives at the controller.
    pub(crate) fn answer(&mut self, request: Request) {
        let state = self.history.fold.state();
        if state.receipts.contains(&request.id) {
            return;
        }
        let (app, workload) = (key(), request.scale.workload.clone());
        let declared = &self.app().workloads[&workload];
        let to = request.scale.replicas;
        let autoscale = declared.autoscale.expect("it is autoscaled");
        assert_eq!(autoscale.nearest(to), to, "never outside its bounds");
        let from = declared.replicas;
        assert_ne!(from, to, "nothing is asked for that is there");
        let current = request.common.expect_position.expect("it is given") >= self.app().changed_at;
        let (command, verb, sequence) = (request.id, "workload.scale".to_owned(), 1);
        if self.refuse || !current {
            let problem = Problem::new("changed_meanwhile", "expect_position", "", "");
            self.rejected.push(problem.code.clone());
            let rejected = CommandRejected { command, verb, sequence, problem };
            self.history.add(&Writer::Controller, rejected);
            return;
        }
        let reason = request.common.reason;
        self.said.push(format!("{from} → {to}: {}", reason.clone().expect("it is given")));
        let accepted = CommandAccepted {
            command: command.clone(),
            verb,
            sequence,
            proved: true,
            reason: reason.clone(),
        };
        let scaled = WorkloadScaled { app, workload, from, to, reason };
        let events = vec![accepted.into(), scaled.into()];
        self.history.caused(&Writer::Controller, events, Some(command));
        self.settle();
    }

    /// Lets time pass in steps of a look; what was done, with the reasons. `used` is what each of so
    /// many replicas uses at a time: thousandths of a core, and bytes.
    pub(crate) fn pass(&mut self, ms: u64, used: impl Fn(u64, u64) -> (u64, u64)) -> Vec<String> {
        self.said.clear();
        for _ in 0..ms / LOOK_MS {
            self.mono_ms += LOOK_MS;
            let now = Now { utc_ms: self.mono_ms, mono_ms: self.mono_ms };
            if self.mono_ms.is_multiple_of(5_000) {
                self.report(now, &used);
            }
            if self.mono_ms.is_multiple_of(1_000) {
                self.tell(now);
            }
            let place = self.history.fold.place();
            for request in self.rules.reflect(self.history.fold.state_mut(), place, now) {
                self.sent.push(request.clone());
                if !self.deaf {
                    self.answer(request);
                }
            }
        }
        self.said.clone()
    }

    fn report(&mut self, now: Now, used: impl Fn(u64, u64) -> (u64, u64)) {
        let replicas = u64::from(self.replicas());
        let (cpu_millis, memory_bytes) = used(self.mono_ms, replicas.max(1));
        for name in NODES.into_iter().filter(|name| !self.silent.contains(name)) {
            let state = self.history.fold.state();
            let usage =
                |(id, _): (&ReplicaId, _)| Usage { replica: id.clone(), cpu_millis, memory_bytes };
            let replicas = state.replicas_on(&node(name)).map(usage).collect();
            let report = UsageReport { node: node(name), time_ms: self.mono_ms, replicas };
            self.rules.input(Heard::Usage(report), self.history.fold.state(), now);
        }
    }

    /// A gateway begins anew, and counts from zero.
    pub(crate) fn restart_gateway(&mut self, name: &'static str) {
        let instance = self.counted.get(name).map_or(0, |counted| counted.instance) + 1;
        self.counted.insert(name, Counted { instance, requests: BTreeMap::new() });
    }

    /// Gateways count a second's requests, and tell.
    fn tell(&mut self, now: Now) {
        let Some(asked) = self.asked else { return };
        let state = self.history.fold.state();
        let ids: Vec<ReplicaId> =
            state.replicas_of(&key(), &web()).map(|(id, _)| id.clone()).collect();
        let shares = u64::try_from(ids.len() * NODES.len()).expect("small").max(1);
        for name in NODES {
            let counted = self.counted.entry(name).or_default();
            let mut replicas = Vec::new();
            for (nth, id) in (0..).zip(&ids) {
                // What does not divide goes to the first.
                let rest = if nth == 0 { asked.per_second % shares / 2 } else { 0 };
                let requests = counted.requests.entry(id.clone()).or_default();
                *requests += asked.per_second / shares + rest;
                let rate_milli = asked.per_second * 1_000 / shares;
                let (requests, failed, in_flight) = (*requests, 0, asked.in_flight / shares);
                let (replica, p95_us) = (id.clone(), asked.p95_us);
                let (p50_us, p99_us) = (p95_us / 2, p95_us * 2);
                if requests > 0 {
                    replicas.push(Traffic {
                        replica,
                        requests,
                        failed,
                        in_flight,
                        rate_milli,
                        p50_us,
                        p95_us,
                        p99_us,
                    });
                }
            }
            if self.mute.contains(&name) {
                continue;
            }
            let instance = format!("{name}-{}", counted.instance);
            let report = TrafficReport {
                node: node(name),
                instance,
                time_ms: now.utc_ms,
                replicas,
                calls: Vec::new(),
                ways: Vec::new(),
            };
            self.rules.input(Heard::Traffic(report), state, now);
        }
    }

    /// As [`Bench::pass`], without the reasons.
    pub(crate) fn steps(&mut self, ms: u64, used: impl Fn(u64, u64) -> (u64, u64)) -> Vec<String> {
        let said = self.pass(ms, used);
        said.iter().map(|said| said.split(':').next().unwrap_or_default().to_owned()).collect()
    }
}
