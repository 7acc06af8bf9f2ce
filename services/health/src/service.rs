//! Wiring: heartbeats in, nothing out but events.

use std::sync::Arc;

use bus::Bus;
use decider::Input;
use runtime::pump::{self, Queue, Service};
use runtime::{Admin, Failure, Shutdown};
use schemas::registry::Role;
use schemas::report::Heartbeat;
use schemas::subject;

use crate::rules::Limits;
use crate::{Config, Health};

struct Wiring {
    limits: Limits,
}

/// Runs the health service until it is asked to stop.
///
/// # Errors
///
/// When the bus will not do, or the state folder cannot be used.
pub async fn run(config: Config, admin: Admin, shutdown: Shutdown) -> Result<(), Failure> {
    let wiring = Wiring { limits: config.limits()? };
    pump::run(wiring, Role::Decider("health"), &config.settings, &admin, shutdown).await
}

impl Service for Wiring {
    type Rules = Health;

    fn rules(&self) -> Health {
        Health::with(self.limits)
    }

    async fn listen(
        self: Arc<Self>,
        bus: Bus,
        queue: Queue<Health>,
        _: u64,
    ) -> Result<(), Failure> {
        let mut heartbeats = bus.subscribe(subject::HEARTBEATS).await?;
        while let Some(message) = heartbeats.next().await {
            // What does not decode is no sign of life.
            let Ok(heartbeat) = serde_json::from_slice::<Heartbeat>(&message.payload) else {
                tracing::warn!(subject = message.subject, "a heartbeat that does not decode");
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

    async fn send(&self, _: &Bus, output: std::convert::Infallible) {
        match output {}
    }
}
