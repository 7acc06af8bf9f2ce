//! An instance of a deciding service: the real machine, and what is around it in its process.

use cluster::{Fold, Marks};
use controller::Heard;
use controller::commands::CommandMessage;
use decider::{Decider, Input, Now, Output, Role, Rules};
use health::Health;
use scheduler::Scheduler;
use scheduler::documents::Write;
use schemas::append::{Answer, Request};
use schemas::id::Writer;
use schemas::place::Place;
use schemas::report::{Beat, GatewayReport, Heartbeat, StandbyReport, TrafficReport};

use crate::blind::{Blind, Blindness};
use crate::log::MARK_EVERY;

/// What comes to an instance.
#[derive(Clone, Debug)]
pub(crate) enum Mail {
    /// An entry, from the stream.
    Entry(Vec<u8>),
    /// An entry, from a page of the log.
    Logged(Vec<u8>),
    CaughtUp,
    Answer(Answer),
    Beat(Beat),
    Connected,
    Heartbeat(Heartbeat),
    Command(CommandMessage),
    Gateway(GatewayReport),
    /// All that gateways said before has been handed in.
    Gateways,
    Traffic(TrafficReport),
    Tick,
    Stop,
}

/// What an instance sends.
#[derive(Debug)]
pub(crate) enum Sent {
    Append(Request),
    Beat(Beat),
    StandsBy(StandbyReport),
    Fetch { from: u64 },
    Rebuild { why: String },
    Complain(String),
    Write(Write),
}

/// What a service listens to and sends beside events. A service joins the simulation with this and
/// one line in [`all`].
pub(crate) trait Wired: Rules + 'static {
    /// Whether it listens to heartbeats.
    const HEARS_NODES: bool;

    /// A heartbeat, a command or what a gateway reports, if it listens to that.
    fn hears(mail: Mail) -> Option<Self::Input>;

    /// A document, if it writes any.
    fn says(output: Self::Output) -> Option<Write>;
}

impl Wired for Blind {
    const HEARS_NODES: bool = false;

    fn hears(mail: Mail) -> Option<Heard> {
        match mail {
            Mail::Command(command) => Some(Heard::Command(command)),
            Mail::Gateway(report) => Some(Heard::Gateway(report)),
            Mail::Gateways => Some(Heard::Gateways),
            Mail::Traffic(report) => Some(Heard::Traffic(report)),
            _ => None,
        }
    }

    fn says(output: Self::Output) -> Option<Write> {
        match output {}
    }
}

impl Wired for Scheduler {
    const HEARS_NODES: bool = true;

    fn hears(mail: Mail) -> Option<Heartbeat> {
        if let Mail::Heartbeat(heartbeat) = mail { Some(heartbeat) } else { None }
    }

    fn says(write: Write) -> Option<Write> {
        Some(write)
    }
}

impl Wired for Health {
    const HEARS_NODES: bool = true;

    fn hears(mail: Mail) -> Option<Heartbeat> {
        if let Mail::Heartbeat(heartbeat) = mail { Some(heartbeat) } else { None }
    }

    fn says(output: Self::Output) -> Option<Write> {
        match output {}
    }
}

/// Every deciding service, in two instances each; the controller blind to something, or not.
pub(crate) fn all(blind: Option<Blindness>) -> Vec<Box<dyn Process>> {
    (0..2)
        .flat_map(|i| -> [Box<dyn Process>; 3] {
            [
                Box::new(Instance::new(i, move || Blind::to(blind))),
                Box::new(Instance::new(i, Scheduler::default)),
                Box::new(Instance::new(i, Health::default)),
            ]
        })
        .collect()
}

/// An instance, whatever its rules.
pub(crate) trait Process {
    fn writer(&self) -> Writer;
    fn name(&self) -> String;
    fn is_up(&self) -> bool;
    fn hears_nodes(&self) -> bool;

    /// A process begins, on a snapshot or on nothing; with the id on its disk, or on another disk.
    fn start(&mut self, snapshot: Option<Fold>, other_disk: bool);
    fn crash(&mut self);

    fn take(&mut self, mail: Vec<Mail>, now: Now) -> Vec<Sent>;

    /// When it wants to be called again.
    fn next_ms(&self, now: Now) -> u64;

    fn fold(&self) -> Option<&Fold>;
    fn role(&self) -> Option<Role>;
    fn is_at_rest(&self) -> bool;

    /// The place it has folded, and the hash of its state there.
    fn state(&self) -> Option<(Place, String)> {
        let fold = self.fold()?;
        Some((fold.place(), fold.state().hash()))
    }

    fn leads(&self) -> bool {
        matches!(self.role(), Some(Role::Leading { .. }))
    }
}

/// An instance of a service with these rules.
struct Instance<R> {
    rules: Box<dyn Fn() -> R>,
    writer: Writer,
    index: u64,
    disks: u64,
    lives: u64,
    machine: Option<Decider<R>>,
}

impl<R: Wired> Instance<R> {
    fn new(index: u64, rules: impl Fn() -> R + 'static) -> Self {
        let writer = rules().writer();
        Self { rules: Box::new(rules), writer, index, disks: 0, lives: 0, machine: None }
    }
}

impl<R: Wired> Process for Instance<R> {
    fn writer(&self) -> Writer {
        self.writer.clone()
    }

    fn name(&self) -> String {
        format!("{}-{}", self.writer, self.index)
    }

    fn is_up(&self) -> bool {
        self.machine.is_some()
    }

    fn hears_nodes(&self) -> bool {
        R::HEARS_NODES
    }

    fn start(&mut self, snapshot: Option<Fold>, other_disk: bool) {
        self.lives += 1;
        self.disks += u64::from(other_disk);
        let instance = format!("{}.{}", self.name(), self.disks);
        let seed = format!("{}/{}", self.name(), self.lives);
        let machine = Decider::new((self.rules)(), instance, seed);
        let machine = machine.marking(Marks::every(MARK_EVERY));
        self.machine = Some(match snapshot {
            Some(fold) => machine.from_fold(fold),
            None => machine,
        });
    }

    fn crash(&mut self) {
        self.machine = None;
    }

    fn take(&mut self, mail: Vec<Mail>, now: Now) -> Vec<Sent> {
        let Some(machine) = &mut self.machine else { return Vec::new() };
        let inputs = mail.into_iter().filter_map(|mail| {
            Some(match mail {
                Mail::Entry(bytes) => Input::Entry(bytes),
                Mail::Logged(bytes) => Input::Logged(bytes),
                Mail::CaughtUp => Input::CaughtUp,
                Mail::Answer(answer) => Input::Answer(answer),
                Mail::Beat(beat) => Input::Beat(beat),
                Mail::Connected => Input::Connected,
                Mail::Tick => Input::Tick,
                Mail::Stop => Input::Stop,
                heard @ (Mail::Heartbeat(_)
                | Mail::Command(_)
                | Mail::Gateway(_)
                | Mail::Gateways
                | Mail::Traffic(_)) => Input::Rules(R::hears(heard)?),
            })
        });
        let outputs = machine.on(inputs, now);
        outputs
            .into_iter()
            .filter_map(|output| {
                Some(match output {
                    Output::Append(request) => Sent::Append(request),
                    Output::Beat(beat) => Sent::Beat(beat),
                    Output::StandsBy(report) => Sent::StandsBy(report),
                    Output::Fetch { from } => Sent::Fetch { from },
                    Output::Rebuild { why } => Sent::Rebuild { why },
                    Output::Complain(what) => Sent::Complain(what),
                    Output::Rules(output) => Sent::Write(R::says(output)?),
                })
            })
            .collect()
    }

    fn next_ms(&self, now: Now) -> u64 {
        self.machine.as_ref().map_or(u64::MAX, |machine| machine.next_ms(now))
    }

    fn fold(&self) -> Option<&Fold> {
        self.machine.as_ref().map(Decider::fold)
    }

    fn role(&self) -> Option<Role> {
        self.machine.as_ref().map(Decider::role)
    }

    fn is_at_rest(&self) -> bool {
        self.machine.as_ref().is_some_and(Decider::at_rest)
    }
}

/// What is around an instance: its reading of streams, and the process that can be paused.
pub(crate) struct Host {
    pub(crate) process: Box<dyn Process>,
    /// The number of its process: what was sent to an earlier one does not arrive.
    pub(crate) life: u64,
    /// While it is paused, what arrives waits in its sockets.
    pub(crate) paused: bool,
    pub(crate) sockets: Vec<Mail>,
    /// Which of the planned wake-ups counts.
    pub(crate) wake: u64,
    /// The next entry to read, and whether from the log instead of the stream.
    pub(crate) next: u64,
    pub(crate) log_first: bool,
    pub(crate) reading: bool,
    /// The next command to read, once history is known.
    pub(crate) commands: Option<u64>,
    /// When the last command that was sent gets here: they keep their order.
    pub(crate) commands_ms: u64,
    pub(crate) skew_ms: u64,
}

impl Host {
    pub(crate) fn new(process: Box<dyn Process>, skew_ms: u64) -> Self {
        Self {
            process,
            life: 0,
            paused: false,
            sockets: Vec::new(),
            wake: 0,
            next: 1,
            log_first: false,
            reading: false,
            commands: None,
            commands_ms: 0,
            skew_ms,
        }
    }

    pub(crate) fn runs(&self) -> bool {
        self.process.is_up() && !self.paused
    }

    pub(crate) fn start(&mut self, snapshot: Option<Fold>, other_disk: bool) {
        self.life += 1;
        self.next = snapshot.as_ref().map_or(0, |fold| fold.cursor().position) + 1;
        self.log_first = false;
        self.commands = None;
        self.process.start(snapshot, other_disk);
    }

    pub(crate) fn crash(&mut self) {
        self.process.crash();
        self.life += 1;
        self.paused = false;
        self.sockets.clear();
    }
}
