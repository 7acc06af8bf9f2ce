//! Sessions: a replica's output, and commands run in it, streamed to whoever asks.
//!
//! [`Asks`] hears what is asked on this node's subjects and hands it to the machine, which admits or
//! refuses; what is said in a session that is open goes to its task.

mod exec;
mod log;
mod session;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bus::{Bus, BusError, Message, Subscription};
use schemas::id::NodeName;
use schemas::live::{Ask, INBOX, Part, SESSION_BYTES_MAX, Said, Want};
use schemas::subject;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::agent::{Asking, Input, Wanted};
use crate::engine::{Engine, container_name};
use session::Session;

/// How much an asker may say before its session has heard it: more than it may have under way.
const QUEUE: usize = 64;

/// What an asker says to its session.
pub(crate) struct Heard {
    reply: String,
    through: u64,
    want: Option<Want>,
}

/// The sessions that are open, by id.
#[derive(Clone, Default)]
pub(crate) struct Open(Arc<Mutex<BTreeMap<String, Sender<Heard>>>>);

impl Open {
    fn begin(&self, session: &str) -> Receiver<Heard> {
        let (sender, heard) = channel(QUEUE);
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(session.to_owned(), sender);
        heard
    }

    fn end(&self, session: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(session);
    }

    /// Ends all of them: whoever runs a command ends that as well.
    pub(crate) fn end_all(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Hands something over; false when there is no such session. What comes faster than a session
    /// hears it is dropped: who counts what it sends will know.
    fn hand(&self, session: &str, heard: Heard) -> bool {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(session).is_some_and(|sender| {
            let _ = sender.try_send(heard);
            true
        })
    }
}

/// What is asked of this node.
pub(crate) struct Asks {
    bus: Bus,
    node: NodeName,
    logs: Subscription,
    execs: Subscription,
    open: Open,
}

impl Asks {
    pub(crate) async fn listen(bus: Bus, node: NodeName, open: Open) -> Result<Self, BusError> {
        let logs = bus.subscribe(&subject::container_log(&node, "*")).await?;
        let execs = bus.subscribe(&subject::exec(&node, "*")).await?;
        Ok(Self { bus, node, logs, execs, open })
    }

    /// The next message; `None` when the connection is gone for good.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        tokio::select! {
            message = self.logs.next() => message,
            message = self.execs.next() => message,
        }
    }

    /// What it means for the machine, if it asks for a session.
    pub(crate) async fn take(&self, message: Message) -> Option<Input> {
        // Answers go to inboxes and nowhere else: what an agent may say is not anybody's to direct.
        let reply = message.reply.filter(|reply| reply.starts_with(INBOX))?;
        let ask: Ask = match serde_json::from_slice(&message.payload) {
            Ok(ask) => ask,
            Err(error) => {
                refuse(&self.bus, "", &reply, 400, format!("it does not decode: {error}")).await;
                return None;
            }
        };
        let session = ask.session;
        if session.is_empty() || session.len() > SESSION_BYTES_MAX {
            let text = format!("session: give it 1 to {SESSION_BYTES_MAX} random characters");
            refuse(&self.bus, "", &reply, 400, text).await;
            return None;
        }
        let wanted = match ask.want {
            Some(Want::Log(log)) => Wanted::Log(log),
            Some(Want::Exec(exec)) => Wanted::Exec(exec),
            want => {
                let heard = Heard { reply: reply.clone(), through: ask.through, want };
                if !self.open.hand(&session, heard) {
                    let text = "there is no such session: it has ended, or the agent began anew";
                    refuse(&self.bus, &session, &reply, 410, text.to_owned()).await;
                }
                return None;
            }
        };
        let of_its_own = match wanted {
            Wanted::Log(_) => ".log.",
            Wanted::Exec(_) => ".exec.",
        };
        let replica = subject::parse_live(&message.subject, &self.node);
        let Some(replica) = replica.filter(|_| message.subject.contains(of_its_own)) else {
            let text = format!("{} is no subject for this", message.subject);
            refuse(&self.bus, &session, &reply, 400, text).await;
            return None;
        };
        Some(Input::Asked(Asking { session, reply, replica, wanted }))
    }
}

/// Says that a session is not to be.
pub(crate) async fn refuse(bus: &Bus, session: &str, reply: &str, code: u16, text: String) {
    let said = Said::Refused { code, text };
    let part = Part { session: session.to_owned(), n: 1, said };
    let payload = serde_json::to_vec(&part).expect("a part has string keys only");
    // Whoever does not hear it gives up by itself.
    let _ = bus.publish(reply, payload).await;
}

/// Serves one session to its end.
pub(crate) async fn serve(engine: Engine, bus: Bus, open: Open, asking: Asking, run: u32) {
    let Engine::Docker(engine) = engine else {
        let text = "the node's engine is simulated: nothing runs there".to_owned();
        return refuse(&bus, &asking.session, &asking.reply, 501, text).await;
    };
    let container = container_name(&asking.replica, run);
    let heard = open.begin(&asking.session);
    let session = Session::new(bus, asking.session.clone(), asking.reply, heard);
    match asking.wanted {
        Wanted::Log(wanted) => log::serve(&engine, session, &container, run, &wanted).await,
        Wanted::Exec(wanted) => exec::serve(&engine, session, &container, run, &wanted).await,
    }
    open.end(&asking.session);
}
