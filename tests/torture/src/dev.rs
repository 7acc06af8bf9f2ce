//! A whole `muster dev` of one node, on folders that are mounted for it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bus::{Bus, Connect};
use runtime::Failure;
use schemas::envelope::Envelope;
use schemas::event::Event;
use schemas::id::{CommandId, NodeName};
use schemas::registry::Role;
use schemas::{stream, subject};
use serde_json::{Value, json};

use crate::load::As;
use crate::process::{LOOK, PATIENCE};

/// The user of the command line.
const USER: &str = "dev";

/// How long it may take to stop.
const STOP: Duration = Duration::from_secs(15);

/// A running `muster dev`. Ended when dropped, with what it made on the engine.
#[derive(Debug)]
pub(crate) struct Dev {
    child: Child,
    folder: PathBuf,
    prefix: String,
    /// Its server.
    pub(crate) url: String,
    /// A connection of the command line's user.
    pub(crate) bus: Bus,
}

impl Dev {
    /// Starts one in a folder, and waits until everything serves.
    pub(crate) async fn start(
        folder: &Path,
        output: &Path,
        settings: &[(&str, &str)],
    ) -> Result<Self, Failure> {
        let prefix = format!("torture{}-", std::process::id());
        let log = std::fs::OpenOptions::new().create(true).append(true).open(output)?;
        let child = Command::new(tests::cluster::program("muster"))
            .args(["dev", "--nodes", "1", "--node-prefix", &prefix, "--data-dir"])
            .arg(folder)
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut child = Guard(Some(child));
        let started = async {
            loop {
                if let Some(status) = child.get().try_wait()? {
                    return Err::<(String, Bus), Failure>(format!("it ended: {status}").into());
                }
                let ready = std::fs::read_to_string(output)?;
                if ready.lines().any(|line| line.starts_with("ready "))
                    && let Ok(connected) = connected(folder).await
                {
                    return Ok(connected);
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let late = |_| Err(format!("it does not serve after {PATIENCE:?}").into());
        let started = tokio::time::timeout(PATIENCE, started).await.unwrap_or_else(late);
        let (url, bus) = started.map_err(|error| format!("muster dev: {error}"))?;
        let child = child.0.take().ok_or("it was started")?;
        Ok(Self { child, folder: folder.to_owned(), prefix, url, bus })
    }

    /// The agents that may join, and are not run here: nodes from the second on.
    pub(crate) fn joining(&self, number: usize) -> Result<As, Failure> {
        let node = NodeName::new(&format!("{}{}", self.prefix, number + 1))?;
        let users: Value = serde_json::from_slice(&std::fs::read(self.folder.join("users.json"))?)?;
        let role = Role::Agent(node.clone());
        let password = users[role.user()].as_str().unwrap_or_default().to_owned();
        Ok(As { node, credentials: Some((role.user(), password)), inbox: role.inbox_prefix() })
    }

    /// Publishes a command that asks for more, and waits for its receipt: accepted, or the code it
    /// was refused with.
    pub(crate) async fn note(&self, patience: Duration) -> Result<Option<String>, Failure> {
        let id = CommandId::new(&runtime::entropy::hex())?;
        let subject = format!("muster.v1.evt.main.command.{id}.*");
        let mut receipts = self.bus.subscribe(&subject).await?;
        let note = json!({ "object": "app/main/nothing", "text": "is there room?" });
        let note = serde_json::to_vec(&note)?;
        let headers = [("Nats-Msg-Id", id.as_str())];
        let to = subject::command_as(USER, "note.add");
        self.bus.publish_command(&to, note, &headers).await?;
        let message = tokio::time::timeout(patience, receipts.next());
        let message = message.await.map_err(|_| format!("no receipt after {patience:?}"))?;
        let message = message.ok_or("the connection is gone")?;
        Ok(match Envelope::decode(&message.payload)?.event {
            Event::CommandRejected(rejected) => Some(rejected.problem.code),
            _ => None,
        })
    }

    /// Sends such commands until one has this receipt. Those that get none are lost on nobody: their
    /// sender knows.
    pub(crate) async fn until_noted(
        &self,
        wanted: Option<&str>,
        patience: Duration,
    ) -> Result<(), Failure> {
        let mut last = String::new();
        let asked = async {
            loop {
                match self.note(Duration::from_secs(3)).await {
                    Ok(code) if code.as_deref() == wanted => return,
                    Ok(code) => last = format!("{code:?}"),
                    Err(error) => last = error.to_string(),
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        if tokio::time::timeout(patience, asked).await.is_ok() {
            return Ok(());
        }
        let what = format!("no command was answered {wanted:?} within {patience:?}; last: {last}");
        Err(what.into())
    }

    /// Stops it as Ctrl-C does, and waits until it has.
    pub(crate) async fn stop(&mut self) -> Result<(), Failure> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        let ended = async {
            while self.child.try_wait()?.is_none() {
                tokio::time::sleep(LOOK).await;
            }
            Ok::<(), Failure>(())
        };
        tokio::time::timeout(STOP, ended).await.map_err(|_| "it does not stop")?
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = Command::new("kill").arg(self.child.id().to_string()).status();
            for _ in 0..100 {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    break;
                }
                std::thread::sleep(LOOK * 4);
            }
            let _ = (self.child.kill(), self.child.wait());
        }
        let networks = format!("name=muster-{}", self.prefix);
        let found = tests::cluster::docker(&["network", "ls", "-q", "--filter", &networks]);
        for id in found.split_whitespace() {
            let _ = tests::cluster::docker(&["network", "rm", id]);
        }
    }
}

/// Kills what is still in it.
struct Guard(Option<Child>);

impl Guard {
    fn get(&mut self) -> &mut Child {
        self.0.as_mut().expect("it is taken at the end only")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = (child.kill(), child.wait());
        }
    }
}

/// As the context that `muster dev` leaves for the command line says.
async fn connected(folder: &Path) -> Result<(String, Bus), Failure> {
    let context: Value = serde_json::from_slice(&std::fs::read(folder.join("context.json"))?)?;
    let of = |key: &str| context[key].as_str().unwrap_or_default().to_owned();
    let to = Connect {
        url: of("url"),
        name: "muster-torture".to_owned(),
        credentials: Some((of("user"), of("password"))),
        inbox_prefix: Role::User(of("user")).inbox_prefix(),
    };
    let bus = Bus::connect(&to).await?;
    bus.stream_state(stream::EVENTS.name).await?;
    Ok((of("url"), bus))
}
