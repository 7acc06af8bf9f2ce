//! What containers use: read from the engine, and what follows from two readings.
//!
//! Cpu is a counter, so it takes two readings and the time between them. The engine says when it read;
//! its answer may come a second later, so neither the asking nor the answer is that time.

use std::collections::BTreeMap;
use std::time::Duration;

use bollard::models::ContainerStatsResponse;
use bollard::query_parameters::StatsOptionsBuilder;
use futures_util::StreamExt as _;
use schemas::id::ReplicaId;
use schemas::report::Usage;

use super::docker::Engine;

/// How many containers are asked about at a time. The engine answers for one in up to a second.
const AT_ONCE: usize = 32;

/// After which a container is left out: the next sample comes soon.
const DEADLINE: Duration = Duration::from_secs(4);

/// One reading of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// When the engine read it, in microseconds since 1970 by its clock.
    at_us: u64,
    /// Cpu time since the container began, in nanoseconds.
    cpu_ns: u64,
    /// Memory without the page cache that would be given back first.
    memory_bytes: u64,
}

impl Reading {
    /// None when the container does not run: all is zero then, the time included.
    fn of(stats: ContainerStatsResponse) -> Option<Self> {
        let at = chrono::DateTime::parse_from_rfc3339(&stats.read?).ok()?;
        let at_us = u64::try_from(at.timestamp_micros()).ok()?;
        let cpu_ns = stats.cpu_stats?.cpu_usage?.total_usage?;
        let memory = stats.memory_stats?;
        // Version 1 of control groups counts below the container's group, version 2 has one name.
        let cache = memory.stats.as_ref().and_then(|stats| {
            stats.get("total_inactive_file").or_else(|| stats.get("inactive_file")).copied()
        });
        let memory_bytes = memory.usage?.saturating_sub(cache.unwrap_or(0));
        Some(Self { at_us, cpu_ns, memory_bytes })
    }

    /// What a replica used since an earlier reading. None when there is no time between them, or the
    /// engine's clock went back.
    fn since(&self, before: &Self, replica: &ReplicaId) -> Option<Usage> {
        let elapsed_us = self.at_us.checked_sub(before.at_us).filter(|elapsed| *elapsed > 0)?;
        Some(Usage {
            replica: replica.clone(),
            // Nanoseconds a microsecond are thousandths of a core.
            cpu_millis: self.cpu_ns.saturating_sub(before.cpu_ns) / elapsed_us,
            memory_bytes: self.memory_bytes,
        })
    }
}

impl Engine {
    /// What replicas used since `before`, which holds the readings of the last sample by container.
    pub async fn usage(
        &self,
        containers: &BTreeMap<String, ReplicaId>,
        before: &mut BTreeMap<String, Reading>,
    ) -> Vec<Usage> {
        let names: Vec<String> = containers.keys().cloned().collect();
        let read = names
            .into_iter()
            .map(|name| async move { self.read(&name).await.map(|reading| (name, reading)) });
        let read = futures_util::stream::iter(read).buffer_unordered(AT_ONCE);
        let now: BTreeMap<String, Reading> = read.filter_map(std::future::ready).collect().await;
        let sampled = now
            .iter()
            .filter_map(|(name, reading)| reading.since(before.get(name)?, containers.get(name)?));
        let sampled = sampled.collect();
        before.retain(|name, _| containers.contains_key(name));
        before.extend(now);
        sampled
    }

    async fn read(&self, container: &str) -> Option<Reading> {
        let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
        let mut stats = std::pin::pin!(self.docker.stats(container, Some(options)));
        let answer = tokio::time::timeout(DEADLINE, stats.next()).await;
        Reading::of(answer.ok()??.ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As an engine on version 1 of control groups says it.
    fn stats(read: &str, cpu_ns: u64, usage: u64, inactive: u64) -> ContainerStatsResponse {
        let text = format!(
            r#"{{"read":"{read}","cpu_stats":{{"cpu_usage":{{"total_usage":{cpu_ns}}}}},
            "memory_stats":{{"usage":{usage},"stats":{{"total_inactive_file":{inactive},"cache":9}}}}}}"#
        );
        serde_json::from_str(&text).expect("it decodes")
    }

    fn usage(before: ContainerStatsResponse, now: ContainerStatsResponse) -> Option<(u64, u64)> {
        let replica = ReplicaId::new("shop-web-a").expect("an id");
        let used = Reading::of(now)?.since(&Reading::of(before)?, &replica)?;
        Some((used.cpu_millis, used.memory_bytes))
    }

    #[test]
    fn cpu_is_what_was_added_over_the_time_between_two_readings() {
        let first = || stats("2026-11-25T03:25:56.77013411Z", 841_871_232, 1, 0);
        let busy = stats("2026-11-25T03:25:58.853245659Z", 2_740_877_911, 53_514_240, 438_272);
        assert_eq!(usage(first(), busy), Some((911, 53_075_968)));
        let idle = stats("2026-11-25T03:26:06.77013411Z", 841_871_232, 5, 9);
        assert_eq!(usage(first(), idle), Some((0, 0)));
    }

    #[test]
    fn what_cannot_be_told_is_left_out() {
        let first = || stats("2026-11-25T03:25:56Z", 100, 1, 0);
        assert_eq!(usage(first(), first()), None);
        assert_eq!(usage(first(), stats("2026-11-25T03:25:50Z", 200, 1, 0)), None);
        // A container that does not run.
        assert_eq!(usage(first(), stats("0001-01-01T00:00:00Z", 0, 0, 0)), None);
        let empty = serde_json::from_str(r#"{"read":"2026-11-25T03:26:06Z"}"#).expect("it decodes");
        assert_eq!(usage(first(), empty), None);
    }
}
