//! A client of the bus: finding the cluster, publishing commands, asking for reads.

use std::time::Duration;

use bus::{Bus, BusError, PublishError};
use runtime::Shutdown;
use schemas::command::{Command, Common};
use schemas::id::CommandId;
use schemas::proof::{Proof, ProofRequest};
use schemas::read::{Head, LogPage, LogRequest, Moment, MomentRequest, StatePage, StateRequest};
use schemas::subject;
use serde::{Deserialize, Serialize};

use crate::args::{Point, To, When};
use crate::context;
use crate::error::{CliError, Code};

/// How long event-log may take to answer a read.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long nobody may be there to answer, in ms, and how often that is tried.
const PATIENCE_MS: u64 = 5_000;
const RETRY: Duration = Duration::from_millis(200);

/// What a read is answered that asks for more than was folded so far.
const NOT_YET: u16 = 425;

/// A connection, and who one is on it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) bus: Bus,
    pub(crate) user: String,
    /// Whether Ctrl-C was pressed.
    pub(crate) shutdown: Shutdown,
    proved: bool,
}

impl Client {
    pub(crate) async fn connect(to: &To, shutdown: Shutdown) -> Result<Self, CliError> {
        let target = context::find(to)?;
        let bus = Bus::connect_secured(&target.connect, &target.security).await;
        let bus = bus.map_err(|error| {
            let code = match &error {
                BusError::Denied { .. } => Code::NotPermitted,
                BusError::Credentials { .. } => Code::Usage,
                _ => Code::Unreachable,
            };
            let from = &target.from;
            let hint = match &error {
                BusError::Unreachable { .. } => {
                    "Is the cluster running? Start one with `muster dev`."
                }
                _ => "`muster context show` says what else it could be.",
            };
            CliError::new(code, format!("{error} (named by {from})\n{hint}"))
        })?;
        Ok(Self { bus, user: target.user, proved: target.proved, shutdown })
    }

    /// Publishes a command under a fresh id, and says under which.
    pub(crate) async fn command(
        &self,
        command: &Command,
        common: Common,
    ) -> Result<CommandId, CliError> {
        let id = match &common.id {
            Some(id) => id.clone(),
            None => CommandId::new(&runtime::entropy::hex())
                .map_err(|e| CliError::internal(e.to_string()))?,
        };
        let payload = command.encode(&common);
        self.publish(command.verb(), payload, &id).await?;
        Ok(id)
    }

    async fn publish(&self, verb: &str, payload: Vec<u8>, id: &CommandId) -> Result<(), CliError> {
        let subject = if self.proved {
            subject::command_as(&self.user, verb)
        } else {
            subject::command(verb)
        };
        let headers = [("Nats-Msg-Id", id.as_str()), ("Muster-Actor", self.user.as_str())];
        match self.bus.publish_command(&subject, payload, &headers).await {
            Ok(_) => Ok(()),
            Err(error @ PublishError::Denied(_)) => {
                let text = format!("{error}: the user {} may not send commands", self.user);
                Err(CliError::new(Code::NotPermitted, text))
            }
            Err(PublishError::NoStream(_)) => Err(CliError::new(
                Code::Unreachable,
                "the cluster has no stream for commands yet: is event-log running?",
            )),
            Err(error) => {
                Err(CliError::new(Code::Unreachable, format!("the command was not taken: {error}")))
            }
        }
    }

    async fn read<Q: Serialize, A: for<'a> Deserialize<'a>>(
        &self,
        verb: &str,
        request: &Q,
    ) -> Result<A, CliError> {
        let payload = serde_json::to_vec(request).map_err(|e| CliError::internal(e.to_string()))?;
        let answer = self.patiently(&subject::api(verb), payload).await?;
        serde_json::from_slice(&answer).map_err(|error| {
            CliError::internal(format!("the answer on {verb} does not decode: {error}"))
        })
    }

    /// Asks; when nobody is there, again for a while: a service that restarts is back in a moment.
    /// So is what event-log has published a moment before it folds it.
    async fn patiently(&self, subject: &str, payload: Vec<u8>) -> Result<Vec<u8>, CliError> {
        let until = runtime::clock::mono_ms() + PATIENCE_MS;
        loop {
            match self.bus.request(subject, payload.clone(), DEADLINE).await {
                Ok(answer) => return Ok(answer.to_vec()),
                Err(
                    bus::RequestError::NobodyThere(_)
                    | bus::RequestError::Refused { code: NOT_YET, .. },
                ) if runtime::clock::mono_ms() < until => {
                    tokio::time::sleep(RETRY).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Where the log ends.
    pub(crate) async fn head(&self) -> Result<Head, CliError> {
        self.read("head", &serde_json::json!({})).await
    }

    /// A page of events.
    pub(crate) async fn log(&self, request: &LogRequest) -> Result<LogPage, CliError> {
        self.read("log", request).await
    }

    /// The signed end of the log, and the proof that an event is in it.
    pub(crate) async fn proof(&self, request: &ProofRequest) -> Result<Proof, CliError> {
        self.read("proof", request).await
    }

    /// The place that a moment means, by the clock and in the zone of this machine.
    pub(crate) async fn moment(&self, when: When) -> Result<Moment, CliError> {
        let mut request = MomentRequest::default();
        match when.point(runtime::clock::utc_ms(), &chrono::Local) {
            Point::Now => {}
            Point::Position(position) => request.position = Some(position),
            Point::Time(ms) => request.time_ms = Some(ms),
        }
        self.read("moment", &request).await
    }

    /// The whole state, page by page.
    pub(crate) async fn state(&self, mut request: StateRequest) -> Result<StatePage, CliError> {
        let mut whole: StatePage = self.read("state", &request).await?;
        while let Some(next) = whole.next.take() {
            request.after = Some(next);
            let page: StatePage = self.read("state", &request).await?;
            whole.replicas.extend(page.replicas);
            whole.next = page.next;
        }
        Ok(whole)
    }
}
