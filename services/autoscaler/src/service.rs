//! Wiring: reports of use and of traffic in, commands out.

use std::sync::Arc;

use bus::Bus;
use decider::Input;
use runtime::pump::{self, Queue, Service};
use runtime::{Admin, Failure, Shutdown};
use schemas::command::Command;
use schemas::id::Writer;
use schemas::registry::Role;
use schemas::report::{TrafficReport, UsageReport};
use schemas::subject;

use crate::rules::{Heard, Request};
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
        let usages = read(&bus, subject::USAGES, &queue, |payload| {
            let report: UsageReport = serde_json::from_slice(payload).ok()?;
            Some((subject::usage(&report.node), Heard::Usage(report)))
        });
        let traffic = read(&bus, subject::TRAFFICS, &queue, |payload| {
            let report: TrafficReport = serde_json::from_slice(payload).ok()?;
            Some((subject::traffic(&report.node), Heard::Traffic(report)))
        });
        tokio::try_join!(usages, traffic).map(|_| ())
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

/// Hands on what is reported, each report under the subject that its sender may use.
async fn read(
    bus: &Bus,
    subjects: &str,
    queue: &Queue<Autoscaler>,
    decode: impl Fn(&[u8]) -> Option<(String, Heard)>,
) -> Result<(), Failure> {
    let mut reports = bus.subscribe(subjects).await?;
    while let Some(message) = reports.next().await {
        // What does not decode is no sample: what is not sampled is held.
        let Some((subject, heard)) = decode(&message.payload) else {
            tracing::warn!(subject = message.subject, "a report that does not decode");
            continue;
        };
        if message.subject == subject && queue.send(Input::Rules(heard)).await.is_err() {
            break;
        }
    }
    Ok(())
}
