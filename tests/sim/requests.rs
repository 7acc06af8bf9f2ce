//! What clients ask of workloads through gateways, how it is answered, and what gateways tell of it.

use std::collections::BTreeMap;

use gateway::table::Endpoint;
use node_agent::engine::container_name;
use schemas::id::ReplicaId;
use schemas::place::Place;
use schemas::report::{TRAFFIC_MS, Traffic, TrafficReport};

use crate::gateway::{Gateway, Serving};

/// What a gateway's process counted.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// The requests that went to each replica, and how many of them failed.
    went: BTreeMap<ReplicaId, (u64, u64)>,
    told_ms: u64,
}

impl Gateway {
    /// Requests come and go where its table leads, as often as the weights say. `errs` says which
    /// containers answer badly.
    pub(crate) fn request(&mut self, errs: impl Fn(&str) -> bool) {
        let Some(Serving { table, measured, .. }) = &mut self.serving else { return };
        for route in table.routes.values() {
            let total: u64 = route.endpoints.iter().map(|to| u64::from(to.weight)).sum();
            if total == 0 {
                continue;
            }
            for _ in 0..self.dice.below(5) {
                let mut left = self.dice.within(1, total);
                let to = route.endpoints.iter().find(|to| {
                    let weight = u64::from(to.weight);
                    let found = left <= weight;
                    left = left.saturating_sub(weight);
                    found
                });
                let Endpoint { replica, run, .. } = to.expect("it is within the sum");
                let bad = errs(&container_name(replica, *run));
                let fails = self.dice.once_in(if bad { 2 } else { 100 });
                let (requests, failed) = measured.went.entry(replica.clone()).or_default();
                (*requests, *failed) = (*requests + 1, *failed + u64::from(fails));
            }
        }
    }

    /// What went through it, once a second.
    pub(crate) fn traffic(&mut self, now_ms: u64) -> Option<TrafficReport> {
        let Self { node, life, talk, serving, .. } = self;
        let serving = serving.as_mut().filter(|serving| serving.table.place != Place::START)?;
        let Measured { went, told_ms } = &mut serving.measured;
        if now_ms < *told_ms + TRAFFIC_MS || (talk.is_none() && went.is_empty()) {
            return None;
        }
        // What a pause kept from being sent comes with the next one.
        let seconds = if *told_ms == 0 { 1 } else { (now_ms - *told_ms) / TRAFFIC_MS };
        *told_ms = now_ms;
        let replicas = went.iter().map(|(replica, (requests, failed))| Traffic {
            replica: replica.clone(),
            requests: *requests,
            failed: *failed,
            in_flight: 0,
            rate_milli: 0,
            p50_us: 0,
            p95_us: 0,
            p99_us: 0,
        });
        let replicas = replicas.collect();
        let state = serving.follower.fold().state();
        let talk = talk.as_mut().map(|talk| talk.tell(node, *life, state, seconds));
        let (calls, ways) = talk.unwrap_or_default();
        let (node, instance) = (node.clone(), format!("{node}.{life}"));
        Some(TrafficReport { node, instance, time_ms: now_ms, replicas, calls, ways })
    }
}
