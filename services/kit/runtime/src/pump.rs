//! Carries messages between the bus and a deciding service's machine.
//!
//! One loop owns the machine. Around it are readers: of events, answers, beats, and whatever else the
//! service listens to. All send into one bounded queue, so that a slow machine slows its readers.

use std::sync::Arc;
use std::time::Duration;

use bus::Bus;
use decider::{Decider, Input, Level, Output, Role as Doing, Rules};
use schemas::append::{Answer, INBOX_HEADER};
use schemas::id::Writer;
use schemas::registry::Role;
use schemas::report::Beat;
use schemas::subject;
use tokio::sync::mpsc::{Sender, channel};

use crate::{Admin, Failure, Settings, Shutdown, clock, entropy, history, reader};

/// How many messages may wait for the machine.
const QUEUE: usize = 8_192;

/// How many messages the machine takes in before it decides.
const AT_ONCE: usize = 1_024;

/// How long a clean stop may take to be recorded.
const RELEASE: Duration = Duration::from_secs(1);

/// How long a service waits before it reads history again from its beginning.
const RETRY: Duration = Duration::from_millis(200);

/// What a reader beside those of events sends into.
pub type Queue<R> = Sender<Input<<R as Rules>::Input>>;

/// A deciding service: its rules, and what it reads and writes beside events.
pub trait Service: Send + Sync + 'static {
    /// Its rules.
    type Rules: Rules<Input: Send, Output: Send> + Send;

    /// Rules that know nothing yet.
    fn rules(&self) -> Self::Rules;

    /// Reads what it listens to beside events into the queue, for as long as the queue is there.
    /// `commands_read` is the last command that the state has a receipt of.
    fn listen(
        self: Arc<Self>,
        bus: Bus,
        queue: Queue<Self::Rules>,
        commands_read: u64,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Sends what the rules want sent beside events.
    fn send(
        &self,
        bus: &Bus,
        output: <Self::Rules as Rules>::Output,
    ) -> impl Future<Output = ()> + Send;
}

/// How one life of the machine ended.
enum Ended {
    Stopped,
    Rebuild,
}

/// Runs a deciding service until it is asked to stop.
///
/// # Errors
///
/// When the bus will not do, or the state folder cannot be used.
pub async fn run<S: Service>(
    service: S,
    role: Role,
    settings: &Settings,
    admin: &Admin,
    shutdown: Shutdown,
) -> Result<(), Failure> {
    let service = Arc::new(service);
    let name = role.user();
    admin.readiness.set(&name, Some("NATS".to_owned()));
    let Some(bus) = settings.connect(&role, &shutdown).await? else { return Ok(()) };
    let instance = entropy::kept_id(&settings.state_dir.join(&name), "instance")?;
    loop {
        let machine = Decider::new(service.rules(), instance.clone(), entropy::hex());
        let machine = match history::snapshot(&bus).await {
            Some(fold) => machine.from_fold(fold),
            None => machine,
        };
        let life = Life {
            service: service.clone(),
            name: name.clone(),
            bus: bus.clone(),
            admin: admin.clone(),
            machine,
            heard: reader::Heard::default(),
        };
        match life.run(&shutdown).await? {
            Ended::Stopped => return Ok(()),
            Ended::Rebuild => tokio::time::sleep(RETRY).await,
        }
    }
}

/// One machine from its first event to its end.
struct Life<S: Service> {
    service: Arc<S>,
    name: String,
    bus: Bus,
    admin: Admin,
    machine: Decider<S::Rules>,
    heard: reader::Heard,
}

impl<S: Service> Life<S> {
    async fn run(mut self, shutdown: &Shutdown) -> Result<Ended, Failure> {
        let (queue, mut arrived) = channel(QUEUE);
        let (inbox, answers) = self.bus.inbox().await?;
        let writer = self.service.rules().writer();
        let from = self.machine.fold().cursor().position + 1;
        let commands_read = self.machine.fold().state().cluster.commands_read;
        let mut readers = crate::tasks::Tasks::default();
        let mut events = crate::tasks::Tasks::default();
        let (bus, heard) = (self.bus.clone(), self.heard.clone());
        events.spawn("events", reader::events(bus, queue.clone(), from, false, heard));
        readers.spawn("answers", read_answers(answers, queue.clone()));
        readers.spawn("beats", read_beats(self.bus.clone(), queue.clone(), writer));
        readers.spawn("connections", read_connections(self.bus.clone(), queue.clone()));
        let mut listening = Some(commands_read);
        let mut releasing = None;
        loop {
            // Commands are read once history is known: only then is it known which are answered.
            if self.machine.role() != Doing::CatchingUp && listening.take().is_some() {
                let read = self.machine.fold().state().cluster.commands_read;
                let listen = self.service.clone().listen(self.bus.clone(), queue.clone(), read);
                readers.spawn("listen", listen);
            }
            let now = clock::now();
            let mut inputs = Vec::new();
            tokio::select! {
                () = clock::sleep_until(self.machine.next_ms(now)) => inputs.push(Input::Tick),
                _ = arrived.recv_many(&mut inputs, AT_ONCE) => {}
                () = shutdown.requested(), if releasing.is_none() => {
                    releasing = Some(tokio::time::Instant::now() + RELEASE);
                    inputs.push(Input::Stop);
                }
                Some((task, ended)) = readers.ended() => {
                    ended.map_err(|error| format!("{task}: {error}"))?;
                }
            }
            let began = tokio::time::Instant::now();
            let outputs = self.machine.on(inputs, clock::now());
            self.admin.metrics.observe(
                "muster_decision_seconds",
                "What arrived taken in, and decided on.",
                &[("service", &self.name)],
                began.elapsed().as_secs_f64(),
            );
            for output in outputs {
                if let Some(ended) = self.send(output, &inbox, &queue, &mut events).await {
                    return Ok(ended);
                }
            }
            self.tell();
            if releasing
                .is_some_and(|until| self.machine.at_rest() || tokio::time::Instant::now() > until)
            {
                return Ok(Ended::Stopped);
            }
        }
    }

    async fn send(
        &mut self,
        output: Output<<S::Rules as Rules>::Output>,
        inbox: &str,
        queue: &Queue<S::Rules>,
        events: &mut crate::tasks::Tasks,
    ) -> Option<Ended> {
        match output {
            Output::Append(request) => {
                let subject = subject::append(&request.writer);
                let payload = serde_json::to_vec(&request).expect("a request has string keys only");
                // What is not sent now is offered again.
                let sent = self.bus.publish_with_header(&subject, payload, (INBOX_HEADER, inbox));
                if let Err(error) = sent.await {
                    tracing::warn!(%error, "a request was not sent");
                }
            }
            Output::Beat(beat) => {
                let payload = serde_json::to_vec(&beat).expect("a beat has string keys only");
                let _ = self.bus.publish(&subject::beat(&beat.writer), payload).await;
            }
            Output::StandsBy(report) => {
                let payload = serde_json::to_vec(&report).expect("a report has string keys only");
                let _ = self.bus.publish(&subject::standby(&report.writer), payload).await;
            }
            Output::Fetch { from } => {
                events.shutdown().await;
                let (bus, heard) = (self.bus.clone(), self.heard.clone());
                events.spawn("events", reader::events(bus, queue.clone(), from, true, heard));
            }
            Output::Rebuild { why } => {
                tracing::error!(
                    service = self.name,
                    why,
                    "what was folded is not in the history: reading it again"
                );
                self.admin.metrics.count(
                    "muster_rebuilds",
                    "States dropped because history differed.",
                    &[("service", &self.name)],
                    1,
                );
                return Some(Ended::Rebuild);
            }
            Output::Complain(what) => {
                tracing::error!(service = self.name, what, "something is wrong")
            }
            Output::Rules(output) => self.service.send(&self.bus, output).await,
        }
        None
    }

    /// What the health page shows.
    fn tell(&self) {
        let service = [("service", self.name.as_str())];
        let missing =
            if self.bus.connected() { self.machine.waits_for() } else { Some("NATS".to_owned()) };
        self.admin.readiness.set(&self.name, missing);
        let term = match self.machine.role() {
            Doing::Leading { term } => term,
            _ => 0,
        };
        let state = self.machine.fold().state();
        let metrics = &self.admin.metrics;
        self.heard.tell(metrics, &self.name, self.machine.place());
        metrics.set(
            "muster_leading_term",
            "The leadership of this instance; 0 on standby.",
            &service,
            term,
        );
        metrics.set("muster_anomalies", "Impossible events met.", &service, state.anomalies());
        metrics.set("muster_batches", "Batches recorded.", &service, self.machine.batches);
        metrics.set("muster_refusals", "Batches refused.", &service, self.machine.refusals);
        for Level { name, help, value } in self.machine.rules().levels() {
            metrics.set(name, help, &service, value);
        }
    }
}

async fn read_answers<I: Send>(
    mut answers: bus::Subscription,
    queue: Sender<Input<I>>,
) -> Result<(), Failure> {
    while let Some(message) = answers.next().await {
        match serde_json::from_slice::<Answer>(&message.payload) {
            Ok(answer) => {
                if queue.send(Input::Answer(answer)).await.is_err() {
                    return Ok(());
                }
            }
            Err(error) => tracing::warn!(%error, "an answer that does not decode"),
        }
    }
    Ok(())
}

async fn read_beats<I: Send>(
    bus: Bus,
    queue: Sender<Input<I>>,
    writer: Writer,
) -> Result<(), Failure> {
    let mut beats = bus.subscribe(&subject::beat(&writer)).await?;
    while let Some(message) = beats.next().await {
        if let Ok(beat) = serde_json::from_slice::<Beat>(&message.payload)
            && queue.send(Input::Beat(beat)).await.is_err()
        {
            break;
        }
    }
    Ok(())
}

async fn read_connections<I: Send>(bus: Bus, queue: Sender<Input<I>>) -> Result<(), Failure> {
    let mut connections = bus.connections();
    while queue.send(Input::Connected).await.is_ok() {
        if connections.changed().await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Waits until nobody reads the queue any more: for a service that listens to nothing else.
pub async fn nothing_else<I>(queue: Sender<Input<I>>) {
    queue.closed().await;
}
