//! JetStream as the log: what the same events cost there, written durably and read back.

use bus::testing::Server;
use bus::{Bus, Expect};
use event_log::store::Row;
use runtime::Failure;
use schemas::stream;

use crate::clock::{Since, per_second};

/// How many messages are asked for at once.
const BATCH: usize = 1_000;

/// A server of its own, with the events stream.
pub(super) struct JetStream {
    _server: Server,
    bus: Bus,
}

impl JetStream {
    /// `synced`: it acknowledges only what would survive a power cut.
    pub(super) async fn start(synced: bool) -> Result<Self, Failure> {
        let server = if synced { Server::start_synced() } else { Server::start() };
        let bus = server.bus("bench").await;
        bus.ensure_stream(&stream::EVENTS).await?;
        Ok(Self { _server: server, bus })
    }

    /// Publishes in groups, each acknowledged before the next: events a second.
    pub(super) async fn publish(&self, rows: &[Row], group: usize) -> Result<u64, Failure> {
        let since = Since::now();
        for group in rows.chunks(group) {
            let mut sent = Vec::with_capacity(group.len());
            for row in group {
                let (subject, bytes) = (&row.subject, row.bytes.to_vec());
                sent.push(self.bus.publish_checked(subject, bytes, &Expect::default()).await?);
            }
            for ack in sent {
                ack.outcome().await?;
            }
        }
        Ok(per_second(rows.len() as u64, since.us()))
    }

    /// Reads so many events from the first on, and hands each to `each`: events a second.
    pub(super) async fn read(
        &self,
        count: usize,
        mut each: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<u64, Failure> {
        let since = Since::now();
        let mut follow = self.bus.follow(stream::EVENTS.name, 1, None);
        let mut read = 0;
        while read < count {
            for message in follow.next_batch(BATCH).await? {
                each(&message.payload)?;
                read += 1;
            }
        }
        Ok(per_second(read as u64, since.us()))
    }
}
