//! What goes wrong, and how it stops.

use bytes::Bytes;
use node_agent::agent::Input;
use schemas::id::{ReplicaId, Writer};

use crate::checks::Failure;
use crate::engine::Status;
use crate::log::Log;
use crate::scenario::Mix;
use crate::service::{Host, Mail};
use crate::world::{What, World};

impl World {
    /// Something goes wrong, and before long something else.
    pub(crate) fn fault(&mut self) -> Result<(), Failure> {
        if !self.stormy {
            return Ok(());
        }
        self.plan_soon(self.scenario.mix.fault_every_ms(), What::Fault);
        self.go_wrong()
    }

    /// While a revision is taken back, more goes wrong than otherwise.
    pub(crate) fn notice_ways_back(&mut self) {
        let ways_back = self.checks.model.ways_back;
        if ways_back > self.ways_back && self.stormy && self.scenario.mix == Mix::Rollouts {
            for within_ms in [100, 1_500, 4_000] {
                self.plan_soon(within_ms, What::Trouble);
            }
        }
        self.ways_back = ways_back;
    }

    /// Whoever takes a revision back crashes, or something else goes wrong meanwhile.
    pub(crate) fn trouble(&mut self) -> Result<(), Failure> {
        if !self.stormy {
            return Ok(());
        }
        self.count("something went wrong on a way back");
        let leads =
            |host: &Host| host.process.writer() == Writer::Controller && host.process.leads();
        match self.hosts.iter().position(leads).filter(|_| self.dice.once_in(3)) {
            Some(host) => self.host_crash(host),
            None => self.go_wrong()?,
        }
        Ok(())
    }

    fn go_wrong(&mut self) -> Result<(), Failure> {
        self.gateway_fault();
        let host = self.dice.below(self.hosts.len());
        let node = self.dice.below(self.nodes.len());
        let log = self.dice.below(self.logs.len());
        match self.dice.below(42) {
            0..=1 => self.log_crash_if_up(log),
            2 => self.log_reconnect(log),
            3 => self.restart_server(),
            4..=5 => self.publish_by_hand(),
            6..=7 => self.host_crash(host),
            8..=9 => {
                let ms = self.dice.within(300, 8_000);
                self.host_pause(host, ms);
            }
            10 => self.stop_host(host)?,
            11 => self.host_reconnect(host),
            12..=14 => self.node_crash(node),
            15..=16 => {
                let ms = self.dice.within(500, 14_000);
                self.node_pause(node, ms);
            }
            17..=18 => {
                let ms = self.dice.within(500, 14_000);
                self.cut_off(node, ms);
            }
            19 => self.stop_node(node)?,
            20..=27 => self.end_container(node),
            28..=30 => self.sicken(node),
            31 => self.restart_engine(node),
            32 => {
                let ms = self.dice.within(200, 5_000);
                self.count("an engine did not answer");
                self.nodes[node].engine.away_until_ms = self.now_ms + ms;
            }
            33..=34 => self.make_by_hand(node),
            35 => self.nodes.iter_mut().for_each(|node| node.engine.tag += 1),
            36 | 39..=41 => self.replace_removed(),
            37..=38 => {
                let ms = self.dice.within(300, 6_000);
                self.log_pause(log, ms);
            }
            _ => {}
        }
        Ok(())
    }

    fn gateway_fault(&mut self) {
        for gateway in 0..self.gateways.len() {
            let dice = &mut self.gateways[gateway].dice;
            let (what, ms) = (dice.below(24), dice.within(300, 9_000));
            match what {
                0 => self.gateway_crash(gateway),
                1 => self.gateway_away(gateway, ms, true),
                2 => self.gateway_away(gateway, ms, false),
                _ => {}
            }
        }
    }

    fn log_crash_if_up(&mut self, log: usize) {
        if self.logs[log].is_up() {
            self.log_crash(log);
        }
    }

    /// The server restarts: streams in memory are empty, that of events has lost its end or all,
    /// and everybody connects anew.
    fn restart_server(&mut self) {
        self.count("the server restarted");
        let last = self.events.last;
        // Where there is a standby, the server syncs: what is lost is lost where every log has it. All of it:
        // what was published by hand may have an entry behind it that a log had sent already.
        let messages = &self.events.messages;
        let whole = self.logs.len() == 1
            || messages.back().is_some_and(|newest| {
                let has = |log: &Log| messages.iter().all(|m| log.has(m.sequence, &m.bytes));
                newest.sequence + 1 >= self.checks.model.next && self.logs.iter().all(has)
            });
        match self.dice.below(3) {
            0 if whole => {
                self.say(|| "the server restarts, without the events stream".to_owned());
                self.events.messages.clear();
                self.events.last = 0;
            }
            1 if whole => {
                let lost = self.dice.within(1, 12);
                self.say(|| format!("the server restarts, without the last {lost} events"));
                self.events.lose_after(last.saturating_sub(lost));
            }
            _ => self.say(|| "the server restarts".to_owned()),
        }
        self.appends.forget();
        self.reports.clear();
        for log in 0..self.logs.len() {
            self.log_reconnect(log);
        }
        for host in 0..self.hosts.len() {
            self.host_reconnect(host);
        }
        for node in 0..self.nodes.len() {
            let life = self.nodes[node].life;
            self.plan_soon(50, What::NodeMail { node, life, input: Input::Connected });
        }
    }

    /// Somebody publishes an event by hand. While the stream lacks what was seen, that would be
    /// another history, which event-log refuses; a test of its own says so.
    fn publish_by_hand(&mut self) {
        if self.events.last + 1 < self.checks.model.next {
            return;
        }
        self.count("an event was published by hand");
        let subjects =
            ["muster.v1.evt.main.app.shop.deployed", "muster.v1.evt.cluster.log.sequencer.taken"];
        let subject = *self.dice.pick(&subjects);
        let bytes = Bytes::from(self.dice.roll().to_string().into_bytes());
        self.say(|| format!("somebody publishes by hand on {subject}"));
        self.events.add(subject, bytes);
        self.news();
    }

    /// A clean stop, and a start after it.
    fn stop_host(&mut self, host: usize) -> Result<(), Failure> {
        let life = self.hosts[host].life;
        let name = self.hosts[host].process.name();
        self.say(|| format!("{name} is asked to stop"));
        self.plan_in(1_000, What::Exit { host, life });
        self.mail(host, life, Mail::Stop)
    }

    fn stop_node(&mut self, node: usize) -> Result<(), Failure> {
        let life = self.nodes[node].life;
        let name = self.nodes[node].name.clone();
        self.say(|| format!("agent/{name} is asked to stop"));
        self.plan_in(1_000, What::NodeExit { node, life });
        self.node_mail(node, life, Input::Stop)
    }

    fn some_running(&mut self, node: usize) -> Option<String> {
        let running: Vec<String> =
            self.nodes[node].engine.running().map(|(name, _)| name.clone()).collect();
        (!running.is_empty()).then(|| self.dice.pick(&running).clone())
    }

    /// A container ends, or is removed by hand. The engine says so, mostly.
    fn end_container(&mut self, node: usize) {
        let Some(name) = self.some_running(node) else { return };
        let containers = &mut self.nodes[node].engine.containers;
        if self.dice.once_in(3) {
            containers.remove(&name);
            self.count("a container vanished");
            self.say(|| format!("{name} vanishes"));
        } else if let Some(container) = containers.get_mut(&name) {
            let code = *self.dice.pick(&[0, 1, 137]);
            container.status = Status::Exited(code);
            self.count("a container ended");
            self.say(|| format!("{name} exits with {code}"));
        }
        self.hint(node);
    }

    fn hint(&mut self, node: usize) {
        let life = self.nodes[node].life;
        if let Some(wait) = self.travel() {
            self.plan_in(wait, What::NodeMail { node, life, input: Input::EngineHint });
        }
    }

    fn sicken(&mut self, node: usize) {
        let Some(name) = self.some_running(node) else { return };
        let until_ms = self.now_ms + self.dice.within(500, 9_000);
        if let Some(container) = self.nodes[node].engine.containers.get_mut(&name) {
            container.sick_until_ms = until_ms;
            self.count("a container was sick");
            self.say(|| format!("{name} is sick until {until_ms}"));
        }
    }

    fn restart_engine(&mut self, node: usize) {
        self.count("an engine restarted");
        let name = self.nodes[node].name.clone();
        self.say(|| format!("the engine of {name} restarts"));
        self.nodes[node].engine.restart();
        self.hint(node);
    }

    /// Somebody starts a container by hand: one with our labels that nobody asked for, or one that
    /// has the name that a run of ours will want.
    fn make_by_hand(&mut self, node: usize) {
        let here = self.nodes[node].name.clone();
        let replicas = self.checks.model.replicas.iter();
        let mine = replicas.filter(|(_, replica)| replica.node.as_ref() == Some(&here));
        let next = mine.map(|(id, replica)| (id.clone(), replica.run + 1)).next();
        let ours = self.dice.once_in(2);
        let stray = ReplicaId::new("red-web-zzzzz").expect("an id");
        let (replica, run) = next.filter(|_| !ours).unwrap_or((stray, 1));
        self.count("a container was made by hand");
        self.say(|| format!("somebody makes {replica}-{run} on {here}, with our labels: {ours}"));
        self.nodes[node].engine.make_by_hand(&replica, run, ours);
        self.hint(node);
    }

    /// A machine that the cluster was told to forget comes back as another one.
    fn replace_removed(&mut self) {
        let model = &self.checks.model;
        let removed = self.nodes.iter().position(|node| {
            node.was_described && !model.nodes.contains_key(&node.name) && !node.cut_off
        });
        let Some(node) = removed else { return };
        self.count("a machine was replaced");
        let name = self.nodes[node].name.clone();
        self.say(|| format!("{name} comes back as another machine"));
        self.nodes[node].replace();
        let life = self.nodes[node].life;
        self.plan_soon(500, What::NodeUp { node, life });
    }

    /// Nothing goes wrong any more, and what is down or away comes back.
    pub(crate) fn heal(&mut self) -> Result<(), Failure> {
        self.say(|| "nothing goes wrong any more".to_owned());
        self.stormy = false;
        for log in &mut self.logs {
            log.paused_until_ms = 0;
        }
        for gateway in &mut self.gateways {
            (gateway.paused_until_ms, gateway.cut_until_ms) = (0, 0);
        }
        for host in 0..self.hosts.len() {
            let life = self.hosts[host].life;
            self.resume(host, life)?;
        }
        for node in 0..self.nodes.len() {
            let life = self.nodes[node].life;
            self.node_resume(node, life)?;
            if self.nodes[node].cut_off {
                self.rejoin(node)?;
            }
            let engine = &mut self.nodes[node].engine;
            engine.away_until_ms = 0;
            engine.containers.retain(|_, container| container.ours);
            for container in engine.containers.values_mut() {
                container.sick_until_ms = 0;
            }
        }
        Ok(())
    }
}
