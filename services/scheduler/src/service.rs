//! Wiring: heartbeats in, node documents out.

use std::sync::Arc;

use bus::{Bus, Expect, PublishError};
use decider::Input;
use runtime::pump::{self, Queue, Service};
use runtime::{Admin, Failure, Shutdown};
use schemas::document::{DOCUMENT_BYTES_MAX, NodeDocument};
use schemas::registry::Role;
use schemas::report::Heartbeat;
use schemas::{stream, subject};

use crate::documents::Write;
use crate::{Config, Scheduler};

/// How often a document is tried again against another that lands first.
const TRIES: usize = 5;

struct Wiring;

/// Runs the scheduler until it is asked to stop.
///
/// # Errors
///
/// When the bus will not do, or the state folder cannot be used.
pub async fn run(config: Config, admin: Admin, shutdown: Shutdown) -> Result<(), Failure> {
    pump::run(Wiring, Role::Decider("scheduler"), &config.settings, &admin, shutdown).await
}

impl Service for Wiring {
    type Rules = Scheduler;

    fn rules(&self) -> Scheduler {
        Scheduler::default()
    }

    async fn listen(
        self: Arc<Self>,
        bus: Bus,
        queue: Queue<Scheduler>,
        _: u64,
    ) -> Result<(), Failure> {
        let mut heartbeats = bus.subscribe(subject::HEARTBEATS).await?;
        while let Some(message) = heartbeats.next().await {
            let Ok(heartbeat) = serde_json::from_slice::<Heartbeat>(&message.payload) else {
                continue;
            };
            if message.subject == subject::heartbeat(&heartbeat.node)
                && queue.send(Input::Rules(heartbeat)).await.is_err()
            {
                break;
            }
        }
        Ok(())
    }

    /// What cannot be written now is written when the agent's heartbeat shows that it lacks it.
    async fn send(&self, bus: &Bus, write: Write) {
        let node = write.document.node.clone();
        if let Err(error) = write_all(bus, write).await {
            tracing::warn!(%node, error = error.as_ref() as &dyn std::error::Error, "a document was not written");
        }
    }
}

async fn write_all(bus: &Bus, write: Write) -> Result<(), Failure> {
    let node = &write.document.node;
    for spec in &write.specs {
        let payload = serde_json::to_vec(spec)?;
        let subject = subject::spec(node, &spec.digest);
        bus.publish_checked(&subject, payload, &Expect::default()).await?.outcome().await?;
    }
    let payload = serde_json::to_vec(&write.document)?;
    if payload.len() > DOCUMENT_BYTES_MAX {
        let text =
            format!("the document has {} bytes, {DOCUMENT_BYTES_MAX} at most", payload.len());
        return Err(text.into());
    }
    let subject = subject::document(node);
    for _ in 0..TRIES {
        let before = bus.get_last(stream::NODES.name, &subject).await?;
        let last = before.as_ref().map_or(0, |message| message.sequence);
        let known = before.and_then(|m| serde_json::from_slice::<NodeDocument>(&m.payload).ok());
        if known.is_some_and(|known| known.place.after(&write.document.place)) {
            return Ok(());
        }
        let expect = Expect { last: None, last_on: Some((subject.clone(), last)) };
        let sent = bus.publish_checked(&subject, payload.clone(), &expect).await?;
        match sent.outcome().await {
            Ok(_) => return Ok(()),
            Err(PublishError::WrongLast(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err("another document landed first, again and again".into())
}
