//! Wiring: usage reports in, commands out.

use std::sync::Arc;

use bus::Bus;
use decider::Input;
use runtime::pump::{self, Queue, Service};
use runtime::{Admin, Failure, Shutdown};
use schemas::command::Command;
use schemas::id::Writer;
use schemas::registry::Role;
use schemas::report::UsageReport;
use schemas::subject;

use crate::rules::Request;
use crate::{Autoscaler, Config};

/// The header with a command's id.
const ID_HEADER: &str = "Nats-Msg-Id";

struct Wiring;

/// Runs the autoscaler until it is asked to stop.
///
/// # Errors
///
/// When the bus will not do, or the state folder cannot be used.
pub async fn run(config: Config, admin: Admin, shutdown: Shutdown) -> Result<(), Failure> {
    pump::run(Wiring, Role::Decider("autoscaler"), &config.settings, &admin, shutdown).await
}

impl Service for Wiring {
    type Rules = Autoscaler;

    fn rules(&self) -> Autoscaler {
        Autoscaler::default()
    }

    async fn listen(
        self: Arc<Self>,
        bus: Bus,
        queue: Queue<Autoscaler>,
        _: u64,
    ) -> Result<(), Failure> {
        let mut usages = bus.subscribe(subject::USAGES).await?;
        while let Some(message) = usages.next().await {
            // What does not decode is no sample: what is not sampled is held.
            let Ok(report) = serde_json::from_slice::<UsageReport>(&message.payload) else {
                tracing::warn!(subject = message.subject, "a usage report that does not decode");
                continue;
            };
            if message.subject == subject::usage(&report.node)
                && queue.send(Input::Rules(report)).await.is_err()
            {
                break;
            }
        }
        Ok(())
    }

    /// Under the subject on which the broker proves who sends. Whether it arrived, the receipt
    /// tells; until then it is sent again.
    async fn send(&self, bus: &Bus, request: Request) {
        let Request { id, scale, common } = request;
        let (app, workload, to) = (scale.app.clone(), scale.workload.clone(), scale.replicas);
        tracing::info!(%app, %workload, to, %id, reason = common.reason, "scaling");
        let command = Command::Scale(scale);
        let subject = subject::command_as(&Writer::Autoscaler.to_string(), command.verb());
        let payload = command.encode(&common);
        let header = (ID_HEADER, id.as_str());
        if let Err(error) = bus.publish_with_header(&subject, payload, header).await {
            tracing::warn!(%error, %app, %workload, "the command was not sent");
        }
    }
}
