//! A node: its agent, which may be down, paused or cut off, its disk, and its engine, which goes on.

use std::collections::BTreeMap;

use decider::Now;
use node_agent::agent::{Agent, Input, Output};
use schemas::event::NodeDescription;
use schemas::id::NodeName;

use crate::dice::Dice;
use crate::engine::Engine;

/// A node.
pub(crate) struct Node {
    pub(crate) name: NodeName,
    /// The id on its disk.
    instance: String,
    disks: u64,
    pub(crate) agent: Option<Agent>,
    /// The number of its process.
    pub(crate) life: u64,
    pub(crate) paused: bool,
    pub(crate) sockets: Vec<Input>,
    pub(crate) wake: u64,
    /// Whether nothing from the bus gets here, and nothing from here to the bus.
    pub(crate) cut_off: bool,
    /// Whether the cluster ever knew it.
    pub(crate) was_described: bool,
    disk: Vec<u8>,
    pub(crate) engine: Engine,
    description: NodeDescription,
    pub(crate) skew_ms: u64,
}

impl Node {
    pub(crate) fn new(index: usize, dice: &mut Dice) -> Self {
        let name = NodeName::new(&format!("n{index}")).expect("a name");
        let zone = ["a", "b"][index % 2];
        let description = NodeDescription {
            address: format!("10.0.0.{index}"),
            arch: "amd64".to_owned(),
            os: String::new(),
            engine: String::new(),
            agent: String::new(),
            cpu_millis: *dice.pick(&[1_000, 2_000, 3_000]),
            memory_bytes: *dice.pick(&[256, 512, 1_024]) << 20,
            disk_bytes: 1 << 40,
            pids: 0,
            labels: BTreeMap::from([("zone".to_owned(), zone.to_owned())]),
        };
        Self {
            instance: format!("{name}.0"),
            name,
            disks: 0,
            agent: None,
            life: 0,
            paused: false,
            sockets: Vec::new(),
            wake: 0,
            cut_off: false,
            was_described: false,
            disk: Vec::new(),
            engine: Engine::default(),
            description,
            skew_ms: dice.within(0, 2_000),
        }
    }

    pub(crate) fn runs(&self) -> bool {
        self.agent.is_some() && !self.paused
    }

    /// A process begins on what is on disk.
    pub(crate) fn start(&mut self) -> Vec<Input> {
        self.life += 1;
        let kept = match self.disk.as_slice() {
            [] => Default::default(),
            text => serde_json::from_slice(text).expect("what was kept decodes"),
        };
        let seed = format!("{}/{}/{}", self.name, self.disks, self.life);
        self.agent = Some(Agent::new(self.name.clone(), self.instance.clone(), kept, &seed));
        vec![Input::Connected, Input::Described(self.description.clone())]
    }

    pub(crate) fn crash(&mut self) {
        self.agent = None;
        self.life += 1;
        self.paused = false;
        self.sockets.clear();
    }

    /// Another machine, of the same name.
    pub(crate) fn replace(&mut self) {
        self.crash();
        self.disks += 1;
        self.instance = format!("{}.{}", self.name, self.disks);
        self.disk.clear();
        self.engine.containers.clear();
        self.was_described = false;
    }

    pub(crate) fn keep(&mut self) {
        if let Some(agent) = &self.agent {
            self.disk = serde_json::to_vec(agent.kept()).expect("it has string keys only");
        }
    }

    pub(crate) fn take(&mut self, inputs: Vec<Input>, now: Now) -> Vec<Output> {
        self.agent.as_mut().map_or_else(Vec::new, |agent| agent.on(inputs, now))
    }
}
