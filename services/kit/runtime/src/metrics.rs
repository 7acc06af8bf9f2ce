//! Numbers for `/metrics`: counters, gauges and durations by name and labels.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
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
        let text = metrics.text();
        for line in [
            "muster_refusals_total{code=\"gap\"} 2",
            "muster_head{} 7",
            "muster_fsync_seconds_count{} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
