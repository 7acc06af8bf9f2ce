//! A session with a node's agent: parts as they come, in order, while it hears that we listen.

use std::time::Duration;

use bus::{Bus, Subscription};
use runtime::clock;
use schemas::id::NodeName;
use schemas::live::{Ask, LISTENING_MS, PARTS_AHEAD, Part, REPLY_MS, REPLY_PARTS, Said, Want};

use crate::client::Client;
use crate::error::{CliError, Code};

/// How long the first part may take.
const BEGIN: Duration = Duration::from_secs(15);

/// After how many parts the agent is told that they were taken.
const TELL_EVERY: u64 = PARTS_AHEAD / 4;

pub(crate) struct Session {
    bus: Bus,
    node: NodeName,
    subject: String,
    id: String,
    inbox: String,
    parts: Subscription,
    /// The last part that came, and the last that the agent knows to have come.
    through: u64,
    told: u64,
    told_ms: u64,
    /// Which of our inboxes is in use, since when, and what came before.
    reply: u64,
    reply_since: (u64, u64),
}

impl Session {
    /// Asks, and waits until the agent goes ahead: the run it is about.
    pub(crate) async fn begin(
        client: &Client,
        node: &NodeName,
        subject: String,
        want: Want,
    ) -> Result<(Self, u32), CliError> {
        let (inbox, parts) = client.bus.inboxes().await?;
        let now_ms = clock::mono_ms();
        let mut session = Self {
            bus: client.bus.clone(),
            node: node.clone(),
            subject,
            id: runtime::entropy::hex(),
            inbox,
            parts,
            through: 0,
            told: 0,
            told_ms: now_ms,
            reply: 0,
            reply_since: (now_ms, 0),
        };
        session.say(Some(want)).await?;
        let first = tokio::time::timeout(BEGIN, session.next()).await;
        let first = first.map_err(|_| {
            let text = format!("the agent of {node} did not answer in {} s", BEGIN.as_secs());
            CliError::new(Code::Unreachable, text)
        })?;
        match first? {
            Said::Began { run } => Ok((session, run)),
            other => Err(CliError::internal(format!("a session began with {other:?}"))),
        }
    }

    /// Says something, and with it how far we are.
    pub(crate) async fn say(&mut self, want: Option<Want>) -> Result<(), CliError> {
        let now_ms = clock::mono_ms();
        let (since_ms, since) = self.reply_since;
        if now_ms - since_ms >= REPLY_MS || self.through - since >= REPLY_PARTS {
            self.reply += 1;
            self.reply_since = (now_ms, self.through);
        }
        (self.told, self.told_ms) = (self.through, now_ms);
        let ask = Ask { session: self.id.clone(), through: self.through, want };
        let payload = serde_json::to_vec(&ask).map_err(|e| CliError::internal(e.to_string()))?;
        let reply = format!("{}.{}", self.inbox, self.reply);
        Ok(self.bus.publish_with_reply(&self.subject, &reply, payload).await?)
    }

    /// What comes next. A refusal is an error; after the end nothing comes.
    pub(crate) async fn next(&mut self) -> Result<Said, CliError> {
        loop {
            if self.through - self.told >= TELL_EVERY {
                self.say(None).await?;
            }
            let message = tokio::select! {
                message = self.parts.next() => message,
                () = clock::sleep_until(self.told_ms + LISTENING_MS) => {
                    self.say(None).await?;
                    continue;
                }
            };
            let lost = || CliError::new(Code::Unreachable, "the connection to NATS is gone");
            let message = message.ok_or_else(lost)?;
            // The server's own way of saying that nobody is there.
            if message.payload.is_empty() {
                let text = format!("the agent of {} does not answer: is it running?", self.node);
                return Err(CliError::new(Code::Unreachable, text));
            }
            let part: Part = serde_json::from_slice(&message.payload).map_err(|error| {
                CliError::internal(format!("what {} says does not decode: {error}", self.node))
            })?;
            if let Said::Refused { code, text } = part.said {
                return Err(refused(code, text));
            }
            if part.n != self.through + 1 {
                let text = "some of it was lost on the way: the connection was interrupted";
                return Err(CliError::new(Code::Unreachable, text));
            }
            self.through = part.n;
            return Ok(part.said);
        }
    }

    /// Ends it, now.
    pub(crate) async fn stop(&mut self) {
        if self.say(Some(Want::Stop)).await.is_ok() {
            // Whoever does not hear it ends by itself in a while.
            let _ = self.bus.flush().await;
        }
    }
}

fn refused(code: u16, text: String) -> CliError {
    let code = match code {
        404 => Code::NotFound,
        409 | 429 => Code::Refused,
        400..=499 => Code::Usage,
        _ => Code::Internal,
    };
    CliError::new(code, text)
}
