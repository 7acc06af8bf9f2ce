//! The nodes: an agent's process, its disk, its engine, and its connection.

use node_agent::agent::{Input, Output};
use node_agent::engine::{Done, Op, container_name};
use schemas::id::Digest;

use crate::checks::Failure;
use crate::engine::Effect;
use crate::service::Mail;
use crate::world::{What, World};

/// How often an agent reads its document, whatever it heard.
const READ_AGAIN_MS: u64 = 60_000;

impl World {
    pub(crate) fn node_up(&mut self, node: usize, life: u64) -> Result<(), Failure> {
        if self.nodes[node].life != life || self.nodes[node].agent.is_some() {
            return Ok(());
        }
        let name = self.nodes[node].name.clone();
        self.say(|| format!("agent/{name} starts"));
        let inputs = self.nodes[node].start();
        let life = self.nodes[node].life;
        self.plan_soon(20, What::ReadDocument { node, life });
        self.node_give(node, inputs)
    }

    pub(crate) fn node_crash(&mut self, node: usize) {
        if self.nodes[node].agent.is_none() {
            return;
        }
        self.count("an agent crashed");
        let name = self.nodes[node].name.clone();
        self.say(|| format!("agent/{name} crashes"));
        self.nodes[node].crash();
        let life = self.nodes[node].life;
        let wait = self.dice.within(100, 9_000);
        self.plan_in(wait, What::NodeUp { node, life });
    }

    /// A clean stop that was asked for is over.
    pub(crate) fn node_exit(&mut self, node: usize, life: u64) -> Result<(), Failure> {
        if self.nodes[node].life == life {
            self.node_crash(node);
        }
        Ok(())
    }

    pub(crate) fn node_pause(&mut self, node: usize, ms: u64) {
        if !self.nodes[node].runs() {
            return;
        }
        self.count("an agent was paused");
        let name = self.nodes[node].name.clone();
        self.say(|| format!("agent/{name} is paused for {ms} ms"));
        self.nodes[node].paused = true;
        let life = self.nodes[node].life;
        self.plan_in(ms, What::NodeResume { node, life });
    }

    pub(crate) fn node_resume(&mut self, node: usize, life: u64) -> Result<(), Failure> {
        if self.nodes[node].life != life || !self.nodes[node].paused {
            return Ok(());
        }
        self.nodes[node].paused = false;
        if self.dice.once_in(2) {
            self.node_give(node, vec![Input::Tick])?;
        }
        let inputs = std::mem::take(&mut self.nodes[node].sockets);
        self.node_give(node, inputs)
    }

    /// A link is cut: the node goes on, and hears and says nothing.
    pub(crate) fn cut_off(&mut self, node: usize, ms: u64) {
        self.count("a node was cut off");
        let name = self.nodes[node].name.clone();
        self.say(|| format!("{name} is cut off for {ms} ms"));
        self.nodes[node].cut_off = true;
        self.plan_in(ms, What::Rejoin { node });
    }

    pub(crate) fn rejoin(&mut self, node: usize) -> Result<(), Failure> {
        self.nodes[node].cut_off = false;
        let life = self.nodes[node].life;
        self.plan_soon(50, What::NodeMail { node, life, input: Input::Connected });
        self.plan_soon(100, What::ReadDocument { node, life });
        Ok(())
    }

    /// Its process reads the document, and again from then on.
    pub(crate) fn read_document(&mut self, node: usize, life: u64) -> Result<(), Failure> {
        if self.nodes[node].life != life {
            return Ok(());
        }
        self.plan_in(READ_AGAIN_MS, What::ReadDocument { node, life });
        let document = self.documents.document(&self.nodes[node].name).cloned();
        match document {
            Some(document) => self.node_mail(node, life, Input::Document(document)),
            None => Ok(()),
        }
    }

    pub(crate) fn fetch_spec(
        &mut self,
        node: usize,
        life: u64,
        digest: &Digest,
    ) -> Result<(), Failure> {
        match self.documents.spec(&self.nodes[node].name, digest).cloned() {
            Some(spec) => self.node_mail(node, life, Input::Spec(spec)),
            None => Ok(()),
        }
    }

    pub(crate) fn node_mail(
        &mut self,
        node: usize,
        life: u64,
        input: Input,
    ) -> Result<(), Failure> {
        let at = &mut self.nodes[node];
        let of_engine = matches!(input, Input::Done(..) | Input::EngineHint);
        if at.life != life || (at.cut_off && !of_engine) {
            return Ok(());
        }
        if at.paused {
            at.sockets.push(input);
            return Ok(());
        }
        self.node_give(node, vec![input])
    }

    pub(crate) fn node_wake(&mut self, node: usize, wake: u64) -> Result<(), Failure> {
        if self.nodes[node].wake != wake || !self.nodes[node].runs() {
            return Ok(());
        }
        self.node_give(node, vec![Input::Tick])
    }

    /// Hands the agent what came, and does what it says, until it crashes.
    fn node_give(&mut self, node: usize, inputs: Vec<Input>) -> Result<(), Failure> {
        let now = self.now(self.nodes[node].skew_ms);
        let life = self.nodes[node].life;
        for output in self.nodes[node].take(inputs, now) {
            if self.crashes_now(400) {
                self.node_crash(node);
            }
            if self.nodes[node].life != life {
                return Ok(());
            }
            self.node_says(node, output);
        }
        let next_ms = self.nodes[node].agent.as_ref().map_or(u64::MAX, |agent| agent.next_ms(now));
        self.nodes[node].wake += 1;
        let wake = self.nodes[node].wake;
        self.plan_in(next_ms.saturating_sub(now.mono_ms).max(1), What::NodeWake { node, wake });
        Ok(())
    }

    fn node_says(&mut self, node: usize, output: Output) {
        let life = self.nodes[node].life;
        let cut_off = self.nodes[node].cut_off;
        match output {
            Output::Keep if !self.protections.keeping && !self.dice.once_in(4) => {}
            Output::Keep => self.nodes[node].keep(),
            Output::Engine(op) => {
                let wait = match op {
                    Op::Resolve { .. } => self.dice.within(20, 300),
                    _ => self.dice.within(2, 40),
                };
                self.plan_in(wait, What::Request { node, life, op, step: 0 });
            }
            Output::Append(_) | Output::Heartbeat(_) | Output::FetchSpec(_) if cut_off => {}
            Output::Append(request) => self.append(&request, &format!("node/{node}/{life}")),
            Output::Heartbeat(heartbeat) => {
                for host in 0..self.hosts.len() {
                    if !self.hosts[host].process.hears_nodes() {
                        continue;
                    }
                    let life = self.hosts[host].life;
                    if let Some(wait) = self.travel() {
                        let mail = Mail::Heartbeat(heartbeat.clone());
                        self.plan_in(wait, What::Mail { host, life, mail });
                    }
                }
            }
            Output::Complain(what) => self.say(|| what),
            // Nobody asks for output, or runs a command.
            Output::Open { .. } | Output::Refuse { .. } => {}
            Output::FetchSpec(digest) => {
                if let Some(wait) = self.travel() {
                    self.plan_in(wait, What::FetchSpec { node, life, digest });
                }
            }
        }
    }

    /// A request gets to the engine. It takes effect although whoever made it may be gone; the next
    /// one of its operation is then never made.
    pub(crate) fn engine_request(
        &mut self,
        node: usize,
        life: u64,
        op: Op,
        step: u8,
    ) -> Result<(), Failure> {
        let name = self.nodes[node].name.clone();
        self.nodes[node].was_described |= self.checks.model.nodes.contains_key(&name);
        let op = if self.protections.files { op } else { self.with_new_files(op) };
        let before = self.checks.before(&op, step, &self.nodes[node]);
        let engine = &mut self.nodes[node].engine;
        let effect = engine.request(&op, step, self.now_ms, &mut self.dice, self.stormy);
        if step == 0 || !matches!(effect, Effect::More) {
            self.say_effect(&name, &op, &effect);
        }
        self.checks.after(&op, &effect, before, node, &self.nodes)?;
        if self.nodes[node].life != life {
            return Ok(());
        }
        let slow = self.stormy && self.dice.once_in(60);
        let wait = if slow { self.dice.within(1_000, 8_000) } else { self.dice.within(2, 30) };
        match effect {
            Effect::More => self.plan_in(wait, What::Request { node, life, op, step: step + 1 }),
            Effect::Done(done) => {
                self.plan_in(wait, What::NodeMail { node, life, input: Input::Done(op, done) });
            }
        }
        Ok(())
    }

    /// What went back is started with files as they are now.
    fn with_new_files(&self, mut op: Op) -> Op {
        if let Op::Start { assignment, spec, .. } = &mut op
            && self.checks.model.apps.get(&assignment.app).is_some_and(|app| app.way.back)
        {
            spec.configs.values_mut().for_each(|content| "bm93".clone_into(content));
        }
        op
    }

    fn say_effect(&mut self, node: &schemas::id::NodeName, op: &Op, effect: &Effect) {
        let what = match op {
            Op::Resolve { replica, .. } => format!("resolve for {replica}"),
            Op::Start { replica, run, .. } => format!("start {}", container_name(replica, *run)),
            Op::Examine { replica, run, .. } => {
                format!("examine {}", container_name(replica, *run))
            }
            Op::Stop { replica, run, .. } => format!("stop {}", container_name(replica, *run)),
            Op::RemoveStray { container } => format!("remove the stray {container}"),
            Op::Probe { .. } | Op::List { .. } | Op::RemoveImage { .. } => return,
        };
        let came = match effect {
            Effect::More => "begun".to_owned(),
            Effect::Done(Done::Failed { error, .. }) => error.clone(),
            Effect::Done(_) => "done".to_owned(),
        };
        self.say(|| format!("engine of {node}: {what}: {came}"));
    }
}
