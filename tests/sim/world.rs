//! The simulated world: everything that is there, and what happens next.
//!
//! One thread, virtual time, one seed. Whatever takes time is planned in the agenda and carried out
//! when its moment comes; so between any two things that a process does, it may crash.
//!
//! Not here: what goes wrong (`faults`), what is asked for (`scenario`), what must hold (`checks`),
//! and how each part is wired (`wiring/`).

use std::collections::BTreeMap;

use cluster::Fold;
use decider::Now;
use event_log::sequencer::{self, Message, Outcome, Seat};
use event_log::testing::{FakeStore, FakeStream};
use node_agent::agent;
use node_agent::engine::Op;
use scheduler::documents::Write;
use schemas::id::NodeName;
use schemas::report::GatewayReport;

use crate::agenda::Agenda;
use crate::blind::Blindness;
use crate::checks::{Checks, Failure};
use crate::dice::Dice;
use crate::gateway::Gateway;
use crate::log::Log;
use crate::node::Node;
use crate::scenario::{Mix, Scenario};
use crate::service::{self, Host, Mail};
use crate::streams::{Appends, Commands, Documents};
use crate::trace::Trace;

/// What the utc clock shows when virtual time begins.
pub(crate) const UTC_MS: u64 = 1_700_000_000_000;

/// What happens at a moment.
#[derive(Debug)]
pub(crate) enum What {
    /// Something comes to an instance of a deciding service, or it wants to be called.
    Mail {
        host: usize,
        life: u64,
        mail: Mail,
    },
    Wake {
        host: usize,
        wake: u64,
    },
    Read {
        host: usize,
        life: u64,
    },
    Up {
        host: usize,
        life: u64,
    },
    Resume {
        host: usize,
        life: u64,
    },
    Exit {
        host: usize,
        life: u64,
    },

    /// Something comes to an agent, or it wants to be called.
    NodeMail {
        node: usize,
        life: u64,
        input: agent::Input,
    },
    NodeWake {
        node: usize,
        wake: u64,
    },
    NodeUp {
        node: usize,
        life: u64,
    },
    NodeResume {
        node: usize,
        life: u64,
    },
    NodeExit {
        node: usize,
        life: u64,
    },
    ReadDocument {
        node: usize,
        life: u64,
    },
    FetchSpec {
        node: usize,
        life: u64,
        digest: schemas::id::Digest,
    },
    Rejoin {
        node: usize,
    },
    /// A request of an operation gets to an engine.
    Request {
        node: usize,
        life: u64,
        op: Op,
        step: u8,
    },

    /// The disk takes the next group.
    LogStores {
        log: usize,
        life: u64,
    },
    /// A gateway looks about itself, or begins to.
    GatewayLook {
        gateway: usize,
        life: u64,
    },
    GatewayUp {
        gateway: usize,
        life: u64,
    },

    /// Something comes to event-log.
    LogInput {
        log: usize,
        life: u64,
        input: sequencer::Input,
    },
    LogAsks {
        log: usize,
        life: u64,
        asks: Asks,
    },
    LogOutcome {
        log: usize,
        connection: u64,
        position: u64,
        outcome: Outcome,
    },
    LogRead {
        log: usize,
        life: u64,
    },
    LogFollow {
        log: usize,
        life: u64,
    },
    LogTick {
        log: usize,
        life: u64,
    },
    LogUp {
        log: usize,
        life: u64,
    },

    /// Something comes to the server.
    Publish {
        log: usize,
        connection: u64,
        message: Box<Message>,
    },
    Append {
        subject: String,
        inbox: String,
        bytes: Vec<u8>,
    },
    Purge {
        up_to: u64,
    },
    Document {
        write: Box<Write>,
        specs_only: bool,
    },

    /// Somebody wants something, or something goes wrong.
    Ask,
    Fault,
    /// Something goes wrong because of what happens just now.
    Trouble,
}

/// What event-log wants of the events stream.
#[derive(Debug)]
pub(crate) enum Asks {
    Inspect,
    Read { from: u64, to: u64 },
    Seat { next: u64 },
    Fetch { from: u64, to: u64 },
    Confirm { ticket: u64 },
    Probe,
}

/// What protects the system. A test of the tests takes one away.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Protections {
    /// The store has on disk what it says it has.
    pub(crate) durability: bool,
    /// The sequencer checks leaderships and bases.
    pub(crate) fencing: bool,
    /// The server checks what must be last before it takes an event.
    pub(crate) stream_checks: bool,
    /// An agent's disk has what it must before anything is done.
    pub(crate) keeping: bool,
    /// An engine has one container of a name.
    pub(crate) names: bool,
    /// Everybody folds what the log says, but these.
    pub(crate) bent: Option<Bent>,
    /// Gateways say that they have let go of a replica when they have.
    pub(crate) letting_go: bool,
    /// What a way back brings back are the images that ran.
    pub(crate) images: bool,
    /// What a way back brings back are the files that were there.
    pub(crate) files: bool,
    /// What the controller does not see.
    pub(crate) blind: Option<Blindness>,
    /// What people ask for, where that is not for the seed to say.
    pub(crate) mix: Option<Mix>,
}

/// Who folds something else. Nothing follows from it: only the hash tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bent {
    /// A deciding service.
    Health,
    /// The second event-log.
    SecondLog,
    /// Every gateway.
    Gateways,
}

/// Changes a fold so that nothing follows from it.
pub(crate) fn bend(fold: &mut Fold) {
    fold.state_mut().cluster.anomalies += 1;
}

impl Protections {
    pub(crate) const ALL: Self = Self {
        durability: true,
        fencing: true,
        stream_checks: true,
        keeping: true,
        names: true,
        bent: None,
        letting_go: true,
        images: true,
        files: true,
        blind: None,
        mix: None,
    };
}

/// The world.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) now_ms: u64,
    pub(crate) dice: Dice,
    /// Whether things go wrong.
    pub(crate) stormy: bool,
    pub(crate) agenda: Agenda<What>,
    pub(crate) protections: Protections,
    pub(crate) logs: Vec<Log>,
    /// Which of them was the last to lead.
    pub(crate) leading: Option<usize>,
    pub(crate) events: FakeStream,
    pub(crate) appends: Appends,
    pub(crate) commands: Commands,
    pub(crate) documents: Documents,
    /// After a connection broke: until when what was sent on it still gets to the server.
    pub(crate) cuts: BTreeMap<u64, u64>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) gateways: Vec<Gateway>,
    /// What each gateway said last, as the server keeps it.
    pub(crate) reports: BTreeMap<NodeName, GatewayReport>,
    pub(crate) scenario: Scenario,
    pub(crate) checks: Checks,
    pub(crate) trace: Trace,
    /// How often each thing happened, so that a test sees that there was a storm.
    pub(crate) happened: BTreeMap<&'static str, u64>,
    /// How many revisions were taken back so far.
    pub(crate) ways_back: u64,
}

impl World {
    pub(crate) fn new(seed: u64, protections: Protections) -> Self {
        let mut dice = Dice::new(seed);
        let mix = protections.mix.unwrap_or_else(|| Mix::of(seed));
        let store = || match protections.durability {
            true => FakeStore::new(),
            false => FakeStore::without_durability(),
        };
        let keeps = *dice.pick(&[40, 120, 100_000]);
        let events =
            FakeStream { keeps: usize::try_from(keeps).expect("small"), ..Default::default() };
        let skew = |dice: &mut Dice| dice.within(0, 2_000);
        let count = *dice.pick(&[1, 2, 2]);
        let seat = |i| match count {
            1 => Seat::Only,
            _ => Seat::OneOf { begins: i == 0 },
        };
        let logs = (0..count).map(|i| Log::new(i, seat(i), store(), keeps, skew(&mut dice)));
        let mut logs: Vec<Log> = logs.collect();
        for log in logs.iter_mut().skip(1) {
            log.bent = protections.bent == Some(Bent::SecondLog);
        }
        let hosts = service::all(protections.blind)
            .into_iter()
            .map(|p| Host::new(p, skew(&mut dice)))
            .collect();
        let count = 3 + dice.below(5);
        let mut nodes: Vec<Node> = (0..count).map(|i| Node::new(i, &mut dice)).collect();
        for node in &mut nodes {
            node.engine.takes_names_twice = !protections.names;
        }
        // On so many nodes: none, or some of them.
        let gateways = nodes.iter().zip(0_u64..).take(usize::try_from(seed % 4).expect("small"));
        let gateways =
            gateways.map(|(node, i)| Gateway::new(node.name.clone(), (seed << 8) | i)).collect();
        let mut world = Self {
            seed,
            now_ms: 0,
            stormy: true,
            agenda: Agenda::default(),
            protections,
            logs,
            leading: None,
            events,
            appends: Appends::default(),
            commands: Commands::default(),
            documents: Documents::default(),
            cuts: BTreeMap::new(),
            hosts,
            scenario: Scenario::new(&nodes, mix, seed, &mut dice),
            gateways,
            reports: BTreeMap::new(),
            nodes,
            checks: Checks::new(),
            trace: Trace::default(),
            happened: BTreeMap::new(),
            ways_back: 0,
            dice,
        };
        world.begin();
        world
    }

    /// Everything starts at about the same time.
    fn begin(&mut self) {
        for log in 0..self.logs.len() {
            self.plan_soon(300, What::LogUp { log, life: 0 });
        }
        for host in 0..self.hosts.len() {
            self.plan_soon(500, What::Up { host, life: 0 });
        }
        for node in 0..self.nodes.len() {
            self.plan_soon(500, What::NodeUp { node, life: 0 });
        }
        for gateway in 0..self.gateways.len() {
            let wait = self.gateways[gateway].dice.within(1, 2_000);
            self.plan_in(wait, What::GatewayUp { gateway, life: 0 });
        }
        self.agenda.plan(1_000, What::Ask);
        self.agenda.plan(2_000, What::Fault);
    }

    pub(crate) fn now(&self, skew_ms: u64) -> Now {
        Now { utc_ms: UTC_MS + skew_ms + self.now_ms, mono_ms: 10_000 + self.now_ms }
    }

    pub(crate) fn plan_in(&mut self, ms: u64, what: What) {
        self.agenda.plan(self.now_ms + ms, what);
    }

    /// Some time from now, up to `ms`.
    pub(crate) fn plan_soon(&mut self, ms: u64, what: What) {
        let wait = self.dice.within(1, ms);
        self.plan_in(wait, what);
    }

    pub(crate) fn say(&mut self, line: impl FnOnce() -> String) {
        self.trace.say(self.now_ms, line);
    }

    pub(crate) fn count(&mut self, what: &'static str) {
        *self.happened.entry(what).or_default() += 1;
    }

    /// How long a message is on its way; none: it is lost. In a storm it may be late.
    pub(crate) fn travel(&mut self) -> Option<u64> {
        if self.stormy {
            match self.dice.roll() % 40 {
                0 => return None,
                1 => return Some(self.dice.within(100, 2_500)),
                _ => {}
            }
        }
        Some(self.dice.within(1, 5))
    }

    /// When a message arrives, in ms from now: mostly once, in a storm never or twice as well.
    pub(crate) fn arrivals(&mut self) -> Vec<u64> {
        let twice = self.stormy && self.dice.once_in(30);
        (0..=usize::from(twice)).filter_map(|_| self.travel()).collect()
    }

    /// Whether a process crashes just now, between two things it does.
    pub(crate) fn crashes_now(&mut self, once_in: u64) -> bool {
        self.stormy && self.dice.once_in(once_in)
    }

    /// Carries out the next thing that was planned.
    pub(crate) fn step(&mut self) -> Result<(), Failure> {
        let (at, what) = self.agenda.next().expect("somebody always wants to be called again");
        self.now_ms = at;
        self.checks.model.now_ms = at;
        match what {
            What::Mail { host, life, mail } => self.mail(host, life, mail),
            What::Wake { host, wake } => self.wake(host, wake),
            What::Read { host, life } => self.read_events(host, life),
            What::Up { host, life } => self.host_up(host, life),
            What::Resume { host, life } => self.resume(host, life),
            What::Exit { host, life } => self.host_exit(host, life),
            What::NodeExit { node, life } => self.node_exit(node, life),
            What::NodeMail { node, life, input } => self.node_mail(node, life, input),
            What::NodeWake { node, wake } => self.node_wake(node, wake),
            What::NodeUp { node, life } => self.node_up(node, life),
            What::NodeResume { node, life } => self.node_resume(node, life),
            What::ReadDocument { node, life } => self.read_document(node, life),
            What::FetchSpec { node, life, digest } => self.fetch_spec(node, life, &digest),
            What::Rejoin { node } => self.rejoin(node),
            What::Request { node, life, op, step } => self.engine_request(node, life, op, step),
            What::LogInput { log, life, input } if life == self.logs[log].life => {
                self.log_input(log, input)
            }
            What::LogAsks { log, life, asks } if life == self.logs[log].life => {
                self.log_asks(log, asks)
            }
            What::LogOutcome { log, connection, position, outcome } => {
                self.log_outcome(log, connection, position, outcome)
            }
            What::LogRead { log, life } if life == self.logs[log].life => self.log_read(log),
            What::LogFollow { log, life } if life == self.logs[log].life => self.log_follow(log),
            What::LogTick { log, life } if life == self.logs[log].life => self.log_tick(log),
            What::LogStores { log, life } if life == self.logs[log].life => self.log_stores(log),
            What::LogUp { log, life } if life == self.logs[log].life => self.log_up(log),
            What::LogInput { .. }
            | What::LogAsks { .. }
            | What::LogRead { .. }
            | What::LogFollow { .. }
            | What::LogTick { .. }
            | What::LogStores { .. }
            | What::LogUp { .. } => Ok(()),
            What::Publish { log, connection, message } => self.serve(log, connection, &message),
            What::Append { subject, inbox, bytes } => {
                self.append_arrives(subject, inbox, bytes);
                Ok(())
            }
            What::Purge { up_to } => {
                self.appends.purge(up_to);
                Ok(())
            }
            What::Document { write, specs_only } => {
                self.document_arrives(*write, specs_only);
                Ok(())
            }
            What::GatewayLook { gateway, life } => self.gateway_look(gateway, life),
            What::GatewayUp { gateway, life } => self.gateway_up(gateway, life),
            What::Ask => {
                self.ask();
                Ok(())
            }
            What::Fault => self.fault(),
            What::Trouble => self.trouble(),
        }?;
        self.notice_ways_back();
        Ok(())
    }
}
