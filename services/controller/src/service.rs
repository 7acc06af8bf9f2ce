//! Wiring: commands and what gateways measure in, nothing out but events.

use std::sync::Arc;

use bus::{Bus, FollowError};
use decider::Input;
use runtime::pump::{self, Queue, Service};
use runtime::{Admin, Failure, Shutdown};
use schemas::registry::Role;
use schemas::report::TrafficReport;
use schemas::{stream, subject};

use crate::commands::CommandMessage;
use crate::{Config, Controller, Heard};

/// The header in which a sender may say who it is. A claim: nobody checks it.
const ACTOR_HEADER: &str = "Muster-Actor";

/// The header with a command's id.
const ID_HEADER: &str = "Nats-Msg-Id";

/// How many commands are read at once.
const AT_ONCE: usize = 64;

struct Wiring;

/// Runs the controller until it is asked to stop.
///
/// # Errors
///
/// When the bus will not do, or the state folder cannot be used.
pub async fn run(config: Config, admin: Admin, shutdown: Shutdown) -> Result<(), Failure> {
    pump::run(Wiring, Role::Decider("controller"), &config.settings, &admin, shutdown).await
}

impl Service for Wiring {
    type Rules = Controller;

    fn rules(&self) -> Controller {
        Controller::default()
    }

    async fn listen(
        self: Arc<Self>,
        bus: Bus,
        queue: Queue<Controller>,
        commands_read: u64,
    ) -> Result<(), Failure> {
        tokio::try_join!(commands(&bus, &queue, commands_read), traffic(&bus, &queue))?;
        Ok(())
    }

    async fn send(&self, _: &Bus, output: std::convert::Infallible) {
        match output {}
    }
}

/// Goes on after the last command that has a receipt. A command that is read twice is known by
/// its id, so beginning too early is harmless; when the stream is another one than before, it
/// is read from its first message.
async fn commands(bus: &Bus, queue: &Queue<Controller>, read: u64) -> Result<(), Failure> {
    let mut from = read + 1;
    loop {
        let mut follow = bus.follow(stream::COMMANDS.name, from, None);
        let error = loop {
            let batch = match follow.next_batch(AT_ONCE).await {
                Ok(batch) => batch,
                Err(error) => break error,
            };
            for message in batch {
                let command = CommandMessage::new(
                    message.sequence,
                    &message.subject,
                    message.header(ID_HEADER),
                    message.header(ACTOR_HEADER),
                    message.time_ms,
                    message.payload.to_vec(),
                );
                if queue.send(Input::Rules(command.into())).await.is_err() {
                    return Ok(());
                }
            }
        };
        from = match error {
            FollowError::Gone { first, .. } => first,
            FollowError::Rewound { .. } => 0,
            FollowError::Bus(error) => return Err(error.into()),
        };
    }
}

/// What goes through gateways, as they tell it.
async fn traffic(bus: &Bus, queue: &Queue<Controller>) -> Result<(), Failure> {
    let mut reports = bus.subscribe(subject::TRAFFICS).await?;
    while let Some(message) = reports.next().await {
        // What does not decode is nothing measured.
        let Ok(report) = serde_json::from_slice::<TrafficReport>(&message.payload) else {
            tracing::warn!(subject = message.subject, "a traffic report that does not decode");
            continue;
        };
        if message.subject == subject::traffic(&report.node)
            && queue.send(Input::Rules(Heard::Traffic(report))).await.is_err()
        {
            break;
        }
    }
    Ok(())
}
