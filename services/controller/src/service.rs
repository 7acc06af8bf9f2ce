//! Wiring: commands and what gateways report in, nothing out but events.

use std::sync::Arc;

use bus::{Bus, FollowError, Message};
use decider::Input;
use runtime::pump::{self, Queue, Service};
use runtime::{Admin, Failure, Shutdown};
use schemas::registry::Role;
use schemas::report::GatewayReport;
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
        let commands = read_commands(&bus, &queue, commands_read);
        let gateways = read_gateways(&bus, &queue);
        tokio::try_join!(commands, gateways).map(|_| ())
    }

    async fn send(&self, _: &Bus, output: std::convert::Infallible) {
        match output {}
    }
}

/// Goes on after the last command that has a receipt. A command that is read twice is known by its id,
/// so beginning too early is harmless; when the stream is another one than before, it is read from its
/// first message.
async fn read_commands(
    bus: &Bus,
    queue: &Queue<Controller>,
    commands_read: u64,
) -> Result<(), Failure> {
    let mut from = commands_read + 1;
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
                if queue.send(Input::Rules(Heard::Command(command))).await.is_err() {
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

/// What every gateway said last, then what they say from now on.
async fn read_gateways(bus: &Bus, queue: &Queue<Controller>) -> Result<(), Failure> {
    let mut reports = bus.subscribe(subject::GATEWAYS).await?;
    bus.flush().await?;
    let mut before = bus.follow(stream::REPORTS.name, 0, Some(subject::GATEWAYS));
    while !before.caught_up() {
        // One that is not to be had, or changes while it is read, holds nothing that is not said again.
        let Ok(batch) = before.next_batch(AT_ONCE).await else { break };
        if batch.is_empty() {
            break;
        }
        for message in &batch {
            hand_on(message, queue).await;
        }
    }
    let _ = queue.send(Input::Rules(Heard::Gateways)).await;
    while let Some(message) = reports.next().await {
        if !hand_on(&message, queue).await {
            break;
        }
    }
    Ok(())
}

/// Hands on what a gateway says of itself. Says whether anybody wants more.
async fn hand_on(message: &Message, queue: &Queue<Controller>) -> bool {
    let Ok(report) = serde_json::from_slice::<GatewayReport>(&message.payload) else {
        // Whoever cannot be understood is not heard.
        tracing::warn!(subject = message.subject, "a gateway's report that does not decode");
        return true;
    };
    message.subject != subject::gateway(&report.node)
        || queue.send(Input::Rules(Heard::Gateway(report))).await.is_ok()
}
