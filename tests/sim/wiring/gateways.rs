//! The gateways: what they read, what they report, and whether what follows from that is right.

use event_log::sequencer::Said;
use gateway::follow::Need;
use runtime::reader::Read;
use schemas::append::Request;
use schemas::event::Event;
use schemas::id::{ReplicaId, Writer};
use schemas::place::Place;
use schemas::read::LogRequest;
use schemas::report::GatewayReport;

use crate::checks::{Failure, failure};
use crate::engine::{Container, Status};
use crate::scenario::Mix;
use crate::service::Mail;
use crate::world::{Bent, What, World, bend};

/// How many entries are read at once.
const AT_ONCE: u64 = 300;

/// How long a gateway must have reported before it is held against a controller that it did not wait for
/// it, in ms: reports may be late, and whoever begins to listen has a moment to do so.
const SURELY_HEARD_MS: u64 = 3_000;

/// How long it takes at most, where nothing goes wrong, until what is recorded is seen, in ms.
const PUBLISHED_MS: u64 = 10;

impl World {
    pub(crate) fn gateway_up(&mut self, gateway: usize, life: u64) -> Result<(), Failure> {
        if self.gateways[gateway].life != life || self.gateways[gateway].serving.is_some() {
            return Ok(());
        }
        let asks = self.gateways[gateway].dice.once_in(2);
        let fold = match self.shown() {
            Some(shown) if asks => shown.restore().or_else(|what| failure("snapshots", what))?,
            _ => None,
        };
        let mut fold = fold.unwrap_or_default();
        if self.protections.bent == Some(Bent::Gateways) {
            bend(&mut fold);
        }
        self.gateways[gateway].start(fold);
        let life = self.gateways[gateway].life;
        self.plan_in(1, What::GatewayLook { gateway, life });
        Ok(())
    }

    pub(crate) fn gateway_crash(&mut self, gateway: usize) {
        if self.gateways[gateway].serving.is_none() {
            return;
        }
        self.count("a gateway crashed");
        let name = self.gateways[gateway].node.clone();
        self.say(|| format!("the gateway of {name} crashes"));
        self.gateways[gateway].crash();
        let life = self.gateways[gateway].life;
        let wait = self.gateways[gateway].dice.within(100, 8_000);
        self.plan_in(wait, What::GatewayUp { gateway, life });
    }

    /// It goes on serving by what it knows, and is not heard; or it does nothing at all.
    pub(crate) fn gateway_away(&mut self, gateway: usize, ms: u64, paused: bool) {
        self.count(if paused { "a gateway was paused" } else { "a gateway was cut off" });
        let name = self.gateways[gateway].node.clone();
        self.say(|| format!("the gateway of {name} is away for {ms} ms, paused: {paused}"));
        let until_ms = self.now_ms + ms;
        let gateway = &mut self.gateways[gateway];
        gateway.falls_silent();
        match paused {
            true => gateway.paused_until_ms = until_ms,
            false => gateway.cut_until_ms = until_ms,
        }
    }

    /// It looks what there is to read, to serve and to tell, and again before long.
    pub(crate) fn gateway_look(&mut self, gateway: usize, life: u64) -> Result<(), Failure> {
        if self.gateways[gateway].life != life {
            return Ok(());
        }
        let wait = self.gateways[gateway].dice.within(20, 120);
        self.plan_in(wait, What::GatewayLook { gateway, life });
        let now_ms = self.now_ms;
        if now_ms < self.gateways[gateway].paused_until_ms {
            return Ok(());
        }
        let node = self.nodes.iter().find(|node| node.name == self.gateways[gateway].node);
        let is_cut = self.gateways[gateway].is_cut(now_ms) || node.is_some_and(|node| node.cut_off);
        if is_cut {
            self.gateways[gateway].falls_silent();
        } else {
            self.gateway_reads(gateway)?;
        }
        let nodes = &self.nodes;
        let runs = |name: &str| {
            let mut there = nodes.iter().filter_map(|node| node.engine.containers.get(name));
            there.any(|container| container.status == Status::Running)
        };
        self.gateways[gateway].serve(now_ms, self.stormy, runs);
        if self.scenario.mix == Mix::Rollouts {
            let errs = |name: &str| {
                let mut there = nodes.iter().filter_map(|node| node.engine.containers.get(name));
                there.any(Container::errs)
            };
            self.gateways[gateway].request(errs);
        }
        if !is_cut && let Some(report) = self.gateways[gateway].report(now_ms) {
            self.gateway_reports(gateway, report)?;
        }
        if !is_cut && let Some(report) = self.gateways[gateway].traffic(now_ms) {
            for (host, life) in self.listening() {
                self.plan_in(1, What::Mail { host, life, mail: Mail::Traffic(report.clone()) });
            }
        }
        Ok(())
    }

    /// The controllers that listen to gateways.
    fn listening(&self) -> Vec<(usize, u64)> {
        let hosts = self.hosts.iter().enumerate();
        let controllers = hosts.filter(|(_, host)| {
            host.process.writer() == Writer::Controller && host.commands.is_some()
        });
        controllers.map(|(i, host)| (i, host.life)).collect()
    }

    fn gateway_reads(&mut self, gateway: usize) -> Result<(), Failure> {
        let facts = self.events.facts();
        let Some(serving) = &self.gateways[gateway].serving else { return Ok(()) };
        let (next, log_first) = (serving.next, serving.log_first || serving.next < facts.first);
        let reads: Vec<Read> = if log_first {
            let request = LogRequest { from: next, ..LogRequest::default() };
            let page = self.shown().and_then(|shown| shown.page(&request).ok());
            let events = page.map(|page| page.events).unwrap_or_default();
            events.into_iter().map(|event| Read::Logged(event.get().as_bytes().to_vec())).collect()
        } else if next > facts.last + 1 {
            Vec::new()
        } else {
            let to = facts.last.min(next + AT_ONCE);
            let read = self.events.read(next, to, usize::MAX);
            let entries = read.into_iter().map(|message| Read::Entry(message.bytes.to_vec()));
            entries.chain((to == facts.last).then_some(Read::CaughtUp)).collect()
        };
        let Some(serving) = &mut self.gateways[gateway].serving else { return Ok(()) };
        serving.log_first = log_first && reads.is_empty();
        for read in reads {
            serving.next += u64::from(!matches!(read, Read::CaughtUp));
            match serving.follower.take(read) {
                None => {}
                Some(Need::Fetch { from }) => {
                    (serving.next, serving.log_first) = (from, true);
                    break;
                }
                Some(Need::Rebuild { why }) => {
                    let name = &self.gateways[gateway].node;
                    return failure("history-stays", format!("gateway/{name} must rebuild: {why}"));
                }
            }
        }
        Ok(())
    }

    fn gateway_reports(
        &mut self,
        gateway: usize,
        mut report: GatewayReport,
    ) -> Result<(), Failure> {
        if let Some(mark) = report.mark.as_ref().filter(|_| self.protections.bent.is_none()) {
            self.checks.mark(&report.instance, mark)?;
        }
        if let Some(said) = Said::serving(report.clone()) {
            self.count("a state of a gateway was told");
            self.tell_logs(&said);
        }
        if !self.protections.letting_go {
            // It says of everything, whatever comes, that it has let go of it.
            report.place.position = u64::MAX;
            report.open.clear();
        }
        self.reports.insert(report.node.clone(), report.clone());
        // Who does not listen yet reads the last one when he begins.
        for (host, life) in self.listening() {
            let late = self.stormy && self.gateways[gateway].dice.once_in(40);
            let wait = self.gateways[gateway].dice.within(1, if late { 1_500 } else { 5 });
            if !(self.stormy && self.gateways[gateway].dice.once_in(40)) {
                let mail = Mail::Gateway(report.clone());
                self.plan_in(wait, What::Mail { host, life, mail });
            }
        }
        Ok(())
    }

    /// A controller that begins to listen has what every gateway said last, and then misses nothing.
    pub(crate) fn hear_gateways(&mut self, host: usize) {
        if self.hosts[host].process.writer() != Writer::Controller {
            return;
        }
        let life = self.hosts[host].life;
        for report in self.reports.values().cloned().collect::<Vec<_>>() {
            self.plan_in(1, What::Mail { host, life, mail: Mail::Gateway(report) });
        }
        self.plan_in(2, What::Mail { host, life, mail: Mail::Gateways });
    }

    /// Judges a decision by what gateways do just now. It counts when it becomes history.
    pub(crate) fn judge_release(&mut self, host: usize, request: &Request) {
        for draft in &request.events {
            let Some(Ok(Event::ReplicasReleased(e))) = Event::decode(&draft.kind, draft.data.get())
            else {
                continue;
            };
            if let Some(what) = e.replicas.iter().find_map(|id| self.too_early(host, id)) {
                let key = (request.series.clone(), request.n);
                self.checks.model.too_early.insert(key, what);
            }
        }
    }

    /// Who is cut short, or may still send something, before there was time enough.
    fn too_early(&self, host: usize, id: &ReplicaId) -> Option<String> {
        let known = self.hosts[host].process.fold()?.state();
        let replica = self.checks.model.replicas.get(id)?;
        let (left_at, left_ms) = replica.left?;
        if known.replicas.get(id).is_some_and(|replica| known.is_unknown(replica)) {
            return None;
        }
        // What is under way has its time from when the end is recorded, a little before that is seen.
        let waited_ms = (self.now_ms + PUBLISHED_MS).saturating_sub(left_ms);
        let drain_ms = replica.spec.drain_ms;
        let is_lost = |name| {
            known
                .nodes
                .get(name)
                .is_some_and(|node| node.status == cluster::state::NodeStatus::Lost)
        };
        self.gateways.iter().find_map(|gateway| {
            let serving = gateway.serving.as_ref()?;
            if !gateway.is_heard(self.now_ms, SURELY_HEARD_MS) || is_lost(&gateway.node) {
                return None;
            }
            let sends = serving.may_send(id, left_at)
                && waited_ms < drain_ms.max(controller::leaving::SILENT_MS);
            let open = serving.open_on(id);
            let cuts = open > 0 && waited_ms < drain_ms;
            let Place { position, .. } = serving.table.place;
            (sends || cuts).then(|| {
                format!(
                    "{id} left at {left_at}, {waited_ms} ms before; the gateway of {} serves by {position} \
                     and has {open} under way there",
                    gateway.node
                )
            })
        })
    }
}
