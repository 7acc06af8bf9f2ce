//! A client of the bus: finding the cluster, publishing commands, asking for reads.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bus::{Bus, Connect, PublishError};
use schemas::command::{Command, Common};
use schemas::id::CommandId;
use schemas::read::{Head, LogPage, LogRequest, StatePage, StateRequest};
use schemas::registry::Role;
use schemas::subject;
use serde::{Deserialize, Serialize};

use crate::args::To;
use crate::error::{CliError, Code};

/// How long event-log may take to answer a read.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long nobody may be there to answer, in ms, and how often that is tried.
const PATIENCE_MS: u64 = 5_000;
const RETRY: Duration = Duration::from_millis(200);

/// How to reach a cluster, as `muster dev` leaves it for the command line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Context {
    pub(crate) url: String,
    pub(crate) user: String,
    pub(crate) password: String,
}

impl Context {
    /// Where `muster dev` leaves it.
    pub(crate) fn path(dev_dir: &Path) -> PathBuf {
        dev_dir.join("context.json")
    }
}

/// The folder of `muster dev`, unless another is given.
pub(crate) fn default_dev_dir() -> PathBuf {
    runtime::settings::user_state_dir().join("muster").join("dev")
}

/// A connection, and who one is on it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) bus: Bus,
    pub(crate) user: String,
    proved: bool,
}

impl Client {
    pub(crate) async fn connect(to: &To) -> Result<Self, CliError> {
        let dev_dir = runtime::settings::dev_dir().unwrap_or_else(default_dev_dir);
        let context = std::fs::read(Context::path(&dev_dir))
            .ok()
            .filter(|_| to.nats_url.is_none())
            .and_then(|text| serde_json::from_slice::<Context>(&text).ok());
        let (url, user, password) = match context {
            Some(context) => (context.url, context.user, Some(context.password)),
            None => (
                to.nats_url.clone().unwrap_or_else(|| "nats://127.0.0.1:4222".to_owned()),
                to.nats_user.clone().unwrap_or_else(|| "muster".to_owned()),
                to.nats_password.clone(),
            ),
        };
        let role = Role::User(user.clone());
        let connect = Connect {
            url: url.clone(),
            name: "muster command line".to_owned(),
            credentials: password.clone().map(|password| (user.clone(), password)),
            inbox_prefix: role.inbox_prefix(),
        };
        let bus = Bus::connect(&connect).await.map_err(|error| {
            CliError::new(
                Code::Unreachable,
                format!("{error}\nIs the cluster running? Start one with `muster dev`."),
            )
        })?;
        Ok(Self { bus, user, proved: password.is_some() })
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
    async fn patiently(&self, subject: &str, payload: Vec<u8>) -> Result<Vec<u8>, CliError> {
        let until = runtime::clock::mono_ms() + PATIENCE_MS;
        loop {
            match self.bus.request(subject, payload.clone(), DEADLINE).await {
                Ok(answer) => return Ok(answer.to_vec()),
                Err(bus::RequestError::NobodyThere(_)) if runtime::clock::mono_ms() < until => {
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
