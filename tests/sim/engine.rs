//! A container engine: it goes on when its agent does not, and forgets, fails and restarts.
//!
//! An operation is made of requests, as the real one is: when the agent crashes, the request that is
//! under way still takes effect, and those after it are never made.

use std::collections::BTreeMap;

use node_agent::engine::{Done, Listed, Op, container_name};
use schemas::event::{Endpoint, Evidence};
use schemas::id::ReplicaId;
use schemas::spec::{Mode, Port, Protocol, WorkloadSpec};

use crate::dice::Dice;

/// An image that no engine ever finds.
pub(crate) const HOPELESS: &str = "nowhere";

/// An image that exits soon after each start; one that is never healthy; one that answers half of what
/// it is asked with an error.
pub(crate) const CRASHES: &str = "crash";
pub(crate) const SICK: &str = "sick";
pub(crate) const ERRS: &str = "errs";

/// What a container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Created,
    Running,
    Exited(i64),
}

/// A container.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub(crate) replica: ReplicaId,
    pub(crate) run: u32,
    pub(crate) status: Status,
    /// Whether it carries the labels of this node's agent.
    pub(crate) ours: bool,
    /// Whether somebody made it by hand.
    pub(crate) by_hand: bool,
    /// Until when its probes fail.
    pub(crate) sick_until_ms: u64,
    /// Whether a probe of it ever failed.
    pub(crate) was_sick: bool,
    /// When it exits by itself.
    ends_ms: Option<u64>,
    job: bool,
    image: String,
    host_ports: Vec<(Protocol, u16)>,
    /// Where its ports are reached.
    endpoints: Vec<Endpoint>,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Effect {
    /// The agent makes the next request of the operation.
    More,
    /// The operation is over.
    Done(Done),
}

/// An engine.
#[derive(Debug, Default)]
pub(crate) struct Engine {
    pub(crate) containers: BTreeMap<String, Container>,
    /// Until when it does not answer.
    pub(crate) away_until_ms: u64,
    /// The last port that it gave.
    ports: u16,
    /// How often the meaning of an image's tag has changed.
    pub(crate) tag: u64,
    /// A name is free although a container has it: what a test of the tests switches on.
    pub(crate) takes_names_twice: bool,
}

fn failed(step: &str, error: &str) -> Effect {
    Effect::Done(Done::Failed { step: step.to_owned(), error: error.to_owned() })
}

impl Container {
    /// Whether it runs, and answers half of what it is asked with an error.
    pub(crate) fn errs(&self) -> bool {
        self.status == Status::Running && self.image.starts_with(ERRS)
    }
}

impl Engine {
    /// Containers that ran out their time exit.
    fn pass(&mut self, now_ms: u64) {
        for container in self.containers.values_mut() {
            let over = container.ends_ms.is_some_and(|at| at <= now_ms);
            if over && container.status == Status::Running {
                let code = i64::from(container.image.starts_with(CRASHES));
                container.status = Status::Exited(code);
            }
        }
    }

    /// The engine carries out a request of an operation.
    pub(crate) fn request(
        &mut self,
        op: &Op,
        step: u8,
        now_ms: u64,
        dice: &mut Dice,
        faults: bool,
    ) -> Effect {
        self.pass(now_ms);
        if now_ms < self.away_until_ms {
            return failed("connect", "the engine does not answer");
        }
        let fails = faults && dice.once_in(25);
        match op {
            Op::Resolve { spec, .. } => self.resolve(&spec.spec, fails),
            Op::Start { replica, run, spec, .. } => match step {
                0 if fails => failed("create", "the disk is full"),
                0 => self.create(replica, *run, &spec.spec),
                _ if fails => failed("start", "no such device"),
                _ => self.start(&container_name(replica, *run), now_ms, dice),
            },
            Op::Examine { .. } | Op::Stop { .. } | Op::List { .. } if fails => {
                failed("ask", "context deadline exceeded")
            }
            Op::Examine { replica, run, remove } => {
                self.examine(&container_name(replica, *run), step, *remove)
            }
            Op::Stop { replica, run, remove, .. } => {
                self.stop(&container_name(replica, *run), step, *remove)
            }
            Op::Probe { replica, run, .. } => self.probe(&container_name(replica, *run), now_ms),
            Op::RemoveStray { container } => {
                self.containers.remove(container);
                Effect::Done(Done::StrayRemoved)
            }
            // Nothing here is short of disk.
            Op::RemoveImage { .. } => Effect::Done(Done::ImageInUse),
            Op::List { .. } => Effect::Done(Done::Listed(self.list())),
        }
    }

    fn resolve(&self, spec: &WorkloadSpec, fails: bool) -> Effect {
        if fails || spec.image.starts_with(HOPELESS) {
            return failed("pull", "the registry does not answer");
        }
        Effect::Done(Done::Resolved(format!("{}@sha256:{:064}", spec.image, self.tag)))
    }

    fn create(&mut self, replica: &ReplicaId, run: u32, spec: &WorkloadSpec) -> Effect {
        let mut name = container_name(replica, run);
        if let Some(there) = self.containers.get(&name) {
            if !there.ours {
                return failed("create", "the name is taken by another container");
            }
            if !self.takes_names_twice {
                return Effect::More;
            }
            name = format!("{name}-again");
        }
        let host_ports = spec.ports.iter().filter_map(|p| Some((p.protocol, p.host?))).collect();
        let endpoint = |port: &Port| {
            self.ports += 1;
            Endpoint {
                container: port.container,
                protocol: port.protocol,
                address: String::new(),
                port: port.host.unwrap_or(self.ports),
            }
        };
        let endpoints = spec.ports.iter().map(endpoint).collect();
        let container = Container {
            replica: replica.clone(),
            run,
            status: Status::Created,
            ours: true,
            by_hand: false,
            sick_until_ms: 0,
            was_sick: false,
            ends_ms: None,
            job: spec.mode == Mode::Job,
            image: spec.image.clone(),
            host_ports,
            endpoints,
        };
        self.containers.insert(name, container);
        Effect::More
    }

    fn start(&mut self, name: &str, now_ms: u64, dice: &mut Dice) -> Effect {
        let twice = format!("{name}-again");
        let name = if self.containers.contains_key(&twice) { twice.as_str() } else { name };
        let Some(container) = self.containers.get(name) else {
            return failed("start", "no such container");
        };
        let ports = container.host_ports.clone();
        let clash = self.containers.iter().any(|(other, there)| {
            other != name
                && there.status == Status::Running
                && there.host_ports.iter().any(|port| ports.contains(port))
        });
        if clash {
            return failed("start", "the port is already allocated");
        }
        let container = self.containers.get_mut(name).expect("it was there a moment ago");
        if container.status != Status::Running {
            container.status = Status::Running;
            container.ends_ms = match container.image.starts_with(CRASHES) {
                true => Some(now_ms + dice.within(20, 150)),
                false => container.job.then(|| now_ms + dice.within(200, 3_000)),
            };
        }
        Effect::Done(Done::Started {
            container: name.to_owned(),
            endpoints: container.endpoints.clone(),
            inside: None,
            image_checks: false,
        })
    }

    fn examine(&mut self, name: &str, step: u8, remove: bool) -> Effect {
        let Some(container) = self.containers.get(name) else {
            let cause = "its container was removed by hand".to_owned();
            return Effect::Done(Done::Examined(Evidence { cause, ..Evidence::default() }));
        };
        let exit_code = match container.status {
            Status::Running => return Effect::Done(Done::StillRuns),
            Status::Created => 128,
            Status::Exited(code) => code,
        };
        match (remove, step) {
            (true, 0) => return Effect::More,
            (true, _) => drop(self.containers.remove(name)),
            (false, _) => {}
        }
        let cause = format!("exited with {exit_code}");
        let exit_code = Some(exit_code);
        Effect::Done(Done::Examined(Evidence { exit_code, cause, ..Evidence::default() }))
    }

    fn stop(&mut self, name: &str, step: u8, remove: bool) -> Effect {
        if step == 0 {
            if let Some(container) = self.containers.get_mut(name)
                && container.status == Status::Running
            {
                container.status = Status::Exited(143);
            }
            return if remove { Effect::More } else { Effect::Done(Done::Stopped) };
        }
        self.containers.remove(name);
        Effect::Done(Done::Stopped)
    }

    fn probe(&mut self, name: &str, now_ms: u64) -> Effect {
        let outcome = match self.containers.get_mut(name) {
            Some(container) if container.status == Status::Running => {
                if container.sick_until_ms > now_ms || container.image.starts_with(SICK) {
                    container.was_sick = true;
                    Err("no answer".to_owned())
                } else {
                    Ok(())
                }
            }
            _ => Err("connection refused".to_owned()),
        };
        Effect::Done(Done::Probed(outcome))
    }

    fn list(&self) -> BTreeMap<String, Listed> {
        let ours = self.containers.iter().filter(|(_, container)| container.ours);
        ours.map(|(name, container)| {
            let listed = Listed {
                id: name.clone(),
                replica: container.replica.clone(),
                run: container.run,
                cluster: None,
                running: container.status == Status::Running,
                health: None,
                endpoints: container.endpoints.clone(),
                inside: None,
            };
            (name.clone(), listed)
        })
        .collect()
    }

    /// What runs, by name.
    pub(crate) fn running(&self) -> impl Iterator<Item = (&String, &Container)> {
        self.containers.iter().filter(|(_, container)| container.status == Status::Running)
    }

    /// The machine or the engine restarts: nothing runs any more.
    pub(crate) fn restart(&mut self) {
        for container in self.containers.values_mut() {
            if container.status == Status::Running {
                container.status = Status::Exited(137);
            }
        }
    }

    /// Somebody makes a container by hand: with our labels, or with a name that a run will want.
    pub(crate) fn make_by_hand(&mut self, replica: &ReplicaId, run: u32, ours: bool) {
        let container = Container {
            replica: replica.clone(),
            run,
            status: Status::Running,
            ours,
            by_hand: true,
            sick_until_ms: 0,
            was_sick: false,
            ends_ms: None,
            job: false,
            image: String::new(),
            host_ports: Vec::new(),
            endpoints: Vec::new(),
        };
        self.containers.entry(container_name(replica, run)).or_insert(container);
    }
}
