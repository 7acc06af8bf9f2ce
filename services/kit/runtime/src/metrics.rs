//! Numbers for `/metrics`: counters, gauges and durations by name and labels.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;

type Labels = Vec<(String, String)>;
type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// The numbers of a process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    registry: Registry,
    counters: BTreeMap<&'static str, Family<Labels, Counter>>,
    gauges: BTreeMap<&'static str, Family<Labels, Gauge>>,
    histograms: BTreeMap<&'static str, Histograms>,
    spreads: BTreeMap<&'static str, Family<Labels, Spread>>,
}

/// A histogram whose counts come from elsewhere.
#[derive(Clone, Debug, Default)]
struct Spread(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    sum: f64,
    buckets: Vec<(f64, u64)>,
}

impl Spread {
    fn set(&self, counts: &[(Option<u64>, u64)], sum_us: u64) {
        let seconds = |us: u64| Duration::from_micros(us).as_secs_f64();
        let end = |end: &Option<u64>| end.map_or(f64::INFINITY, seconds);
        let buckets = counts.iter().map(|(us, count)| (end(us), *count)).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Counts { sum: seconds(sum_us), buckets };
    }
}

impl EncodeMetric for Spread {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let total = counts.buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(counts.sum, total, &counts.buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

impl TypedMetric for Spread {
    const TYPE: MetricType = MetricType::Histogram;
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

impl Metrics {
    fn with<R>(&self, use_it: impl FnOnce(&mut Inner) -> R) -> R {
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts up. The name goes without `_total`, which the format adds.
    pub fn count(&self, name: &'static str, help: &str, pairs: &[(&str, &str)], by: u64) {
        self.with(|inner| {
            let registry = &mut inner.registry;
            let family = inner.counters.entry(name).or_insert_with(|| {
                let family = Family::default();
                // The format ends the sentence itself.
                registry.register(name, help.trim_end_matches('.'), family.clone());
                family
            });
            family.get_or_create(&labels(pairs)).inc_by(by);
        });
    }

    /// Sets a level.
    pub fn set(&self, name: &'static str, help: &str, pairs: &[(&str, &str)], to: u64) {
        self.with(|inner| {
            let registry = &mut inner.registry;
            let family = inner.gauges.entry(name).or_insert_with(|| {
                let family = Family::default();
                // The format ends the sentence itself.
                registry.register(name, help.trim_end_matches('.'), family.clone());
                family
            });
            family.get_or_create(&labels(pairs)).set(i64::try_from(to).unwrap_or(i64::MAX));
        });
    }

    /// Notes a duration, in seconds.
    pub fn observe(&self, name: &'static str, help: &str, pairs: &[(&str, &str)], seconds: f64) {
        self.with(|inner| {
            let registry = &mut inner.registry;
            let family = inner.histograms.entry(name).or_insert_with(|| {
                let make: fn() -> Histogram = || Histogram::new(BUCKETS);
                let family = Family::new_with_constructor(make);
                // The format ends the sentence itself.
                registry.register(name, help.trim_end_matches('.'), family.clone());
                family
            });
            family.get_or_create(&labels(pairs)).observe(seconds);
        });
    }

    /// Sets a spread of durations that was counted elsewhere: how many took at most so many microseconds
    /// and more than the entry before (`None`: any time), and how long all of them took.
    pub fn spread(
        &self,
        name: &'static str,
        help: &str,
        pairs: &[(&str, &str)],
        counts: &[(Option<u64>, u64)],
        sum_us: u64,
    ) {
        self.with(|inner| {
            let registry = &mut inner.registry;
            let family = inner.spreads.entry(name).or_insert_with(|| {
                let family = Family::default();
                registry.register(name, help.trim_end_matches('.'), family.clone());
                family
            });
            family.get_or_create(&labels(pairs)).set(counts, sum_us);
        });
    }

    /// Everything, as OpenMetrics text.
    #[must_use]
    pub fn text(&self) -> String {
        self.with(|inner| {
            let mut text = String::new();
            match prometheus_client::encoding::text::encode(&mut text, &inner.registry) {
                Ok(()) => text,
                Err(error) => format!("# cannot encode: {error}\n"),
            }
        })
    }
}

/// From a tenth of a millisecond to ten seconds.
const BUCKETS: [f64; 11] = [0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_out_by_name_and_label() {
        let metrics = Metrics::default();
        metrics.count("muster_refusals", "Refused requests.", &[("code", "gap")], 2);
        metrics.set("muster_head", "The head.", &[], 7);
        metrics.observe("muster_fsync_seconds", "One fsync.", &[], 0.003);
        let counts = [(Some(1_000), 2), (Some(5_000), 3), (None, 1)];
        metrics.spread("muster_answer_seconds", "Answers.", &[("app", "a")], &counts, 2_500_000);
        let text = metrics.text();
        for line in [
            "muster_refusals_total{code=\"gap\"} 2",
            "muster_head{} 7",
            "muster_fsync_seconds_count{} 1",
            "muster_answer_seconds_sum{app=\"a\"} 2.5",
            "muster_answer_seconds_count{app=\"a\"} 6",
            "muster_answer_seconds_bucket{le=\"0.005\",app=\"a\"} 5",
            "muster_answer_seconds_bucket{le=\"+Inf\",app=\"a\"} 6",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
