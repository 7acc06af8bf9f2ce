//! When replicas that are leaving are released: gateways have let go of them, or there was time enough.
//!
//! Kept here is what each gateway said last, and since when each replica is seen to leave, by this
//! process's own forward-going clock. Whoever begins to decide begins to wait for gateways anew. The
//! time that what is under way has goes on: how much of it was over by then follows from the history,
//! whose clock is one. So a controller that was away makes no end too early, and none later than the
//! limit by more than it was away.

use std::collections::{BTreeMap, BTreeSet};

use cluster::State;
use cluster::state::{Cause, NodeStatus, Replica};
use schemas::event::{ENTRIES_MAX, ReplicasReleased};
use schemas::id::{AppKey, NodeName, ReplicaId, WorkloadName, Writer};
use schemas::place::Place;
use schemas::report::{GATEWAY_MS, GatewayReport, Standing};

/// After how long a silence a gateway is not waited for, in ms.
pub const SILENT_MS: u64 = 5_000;

/// For how long gateways are listened to before one that was not heard counts as not there, in ms.
pub const LISTEN_MS: u64 = 2 * GATEWAY_MS;

/// After how long a silence a gateway is not named any more, in ms.
const FORGOTTEN_MS: u64 = 60_000;

/// What gateways said last, and the replicas that wait for them.
#[derive(Debug, Default)]
pub struct Leaving {
    gateways: BTreeMap<Instance, Gateway>,
    /// Since when nothing that a gateway says is missed.
    listening_ms: Option<u64>,
    /// The epoch of the history that is decided on: a place of another is none of this one.
    epoch: u64,
    /// When this process was last seen to be awake.
    awake_ms: u64,
    /// The replicas that are leaving, and since when.
    seen: BTreeMap<AppKey, BTreeMap<ReplicaId, Since>>,
}

/// Since when a replica leaves.
#[derive(Clone, Copy, Debug)]
struct Since {
    /// When that was first seen, by the forward-going clock.
    seen_ms: u64,
    /// How long it had been leaving when this leadership began.
    before_ms: u64,
}

impl Since {
    /// When it has been leaving for so long.
    fn for_ms(self, ms: u64) -> u64 {
        self.seen_ms.saturating_add(ms.saturating_sub(self.before_ms))
    }
}

/// A node, and an instance of its gateway: while one takes over from another, there are two.
type Instance = (NodeName, String);

/// What a gateway said last.
#[derive(Debug)]
struct Gateway {
    heard_ms: u64,
    standing: Standing,
    place: Place,
    open: BTreeMap<ReplicaId, u64>,
}

/// What should follow.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The events, and what each follows from.
    pub events: Vec<(ReplicasReleased, Cause)>,
    /// When to look again if nothing is heard before, by the forward-going clock.
    pub again_at_ms: Option<u64>,
}

impl Leaving {
    /// Everything that gateways said before has been handed in, and nothing of what they say is missed
    /// from now on.
    pub fn listening(&mut self, now_ms: u64) {
        self.listening_ms = Some(now_ms);
        self.awake_ms = now_ms;
    }

    /// The connection is there (again): what was not heard before says nothing.
    pub fn connected(&mut self, now_ms: u64) {
        self.listening_ms = self.listening_ms.map(|_| now_ms);
        for gateway in self.gateways.values_mut() {
            gateway.heard_ms = now_ms;
        }
    }

    /// Whoever was not there himself has not heard what was said meanwhile, and begins to listen anew.
    fn awake(&mut self, now_ms: u64) {
        if now_ms > self.awake_ms + LISTEN_MS {
            self.connected(now_ms);
        }
        self.awake_ms = now_ms;
    }

    /// A gateway says what it goes by.
    pub fn heard(&mut self, report: GatewayReport, now_ms: u64) {
        self.awake(now_ms);
        let open = report.open.into_iter().map(|on| (on.replica, on.open)).collect();
        let (standing, place) = (report.standing, report.place);
        let instance = (report.node, report.instance);
        match standing {
            // One that was killed and began anew: what was under way there went with it. What finishes
            // beside says itself when it has.
            Standing::Serves => self.gateways.retain(|(node, _), gateway| {
                *node != instance.0 || gateway.standing == Standing::Beside
            }),
            Standing::Beside => {}
            Standing::Ended => {
                self.gateways.remove(&instance);
                return;
            }
        }
        self.gateways.insert(instance, Gateway { heard_ms: now_ms, standing, place, open });
    }

    /// The history that is decided on.
    pub fn at(&mut self, place: Place) {
        self.epoch = place.epoch;
    }

    /// Forgets which replicas are leaving: whoever begins to decide looks at all apps.
    pub fn begin(&mut self) {
        self.seen.clear();
    }

    /// Looks which replicas of an app are leaving.
    pub fn look(&mut self, state: &State, key: &AppKey, now_ms: u64) {
        let before = self.seen.remove(key).unwrap_or_default();
        let Some(app) = state.apps.get(key) else { return };
        let led_ms = state.leaders.get(&Writer::Controller).map_or(0, |leader| leader.since_ms);
        let since = |replica: &Replica| Since {
            seen_ms: now_ms,
            before_ms: led_ms.saturating_sub(replica.since_ms),
        };
        let replicas = app.workloads.keys().flat_map(|name| state.replicas_of(key, name));
        let leaving: BTreeMap<ReplicaId, Since> = replicas
            .filter(|(_, replica)| replica.leaving)
            .map(|(id, r)| (id.clone(), before.get(id).copied().unwrap_or_else(|| since(r))))
            .collect();
        if !leaving.is_empty() {
            self.seen.insert(key.clone(), leaving);
        }
    }

    /// How many replicas are leaving.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.seen.values().map(BTreeMap::len).sum()
    }

    /// How many gateways are known.
    #[must_use]
    pub fn gateways(&self) -> usize {
        self.gateways.len()
    }

    /// Which of them may end now.
    pub fn release(&mut self, state: &State, now_ms: u64) -> Plan {
        self.awake(now_ms);
        self.gateways.retain(|_, gateway| now_ms < gateway.heard_ms + FORGOTTEN_MS);
        let mut plan = Plan::default();
        if self.seen.is_empty() {
            return plan;
        }
        let view = View::of(self, state, now_ms);
        let mut groups: BTreeMap<Retirement<'_>, Vec<(&ReplicaId, &Replica)>> = BTreeMap::new();
        let leaving = self.seen.iter().flat_map(|(key, ids)| ids.iter().map(move |id| (key, id)));
        for (key, (id, since)) in leaving {
            // What was released since an app was looked at is in the state, and looked at again.
            let Some(replica) = state.replicas.get(id).filter(|r| r.leaving) else { continue };
            match view.waits_until(state, id, replica, *since) {
                Some(at_ms) => {
                    plan.again_at_ms = Some(plan.again_at_ms.map_or(at_ms, |e| e.min(at_ms)));
                }
                None => {
                    let retirement = (key, &replica.workload, replica.cause.position);
                    groups.entry(retirement).or_default().push((id, replica));
                }
            }
        }
        for (retirement, replicas) in groups {
            for part in replicas.chunks(ENTRIES_MAX) {
                plan.events.extend(view.released(retirement, part));
            }
        }
        plan
    }
}

/// The app, the workload, and the position at which replicas of it were retired.
type Retirement<'a> = (&'a AppKey, &'a WorkloadName, u64);

/// The gateways as they are now.
struct View<'a> {
    now_ms: u64,
    epoch: u64,
    /// Those that are waited for, and those that are not.
    waited_for: BTreeMap<&'a Instance, &'a Gateway>,
    silent: BTreeMap<&'a Instance, &'a Gateway>,
    /// The position that all that are waited for serve by, at least.
    served: u64,
    /// What is under way through them.
    open: BTreeMap<&'a ReplicaId, u64>,
    /// When the next of them is not waited for any more, if nothing is heard of it.
    next_silence_ms: u64,
    /// When all that are there have been heard.
    all_heard_ms: u64,
}

impl<'a> View<'a> {
    fn of(leaving: &'a Leaving, state: &State, now_ms: u64) -> Self {
        let is_lost = |name: &NodeName| {
            state.nodes.get(name).is_some_and(|node| node.status == NodeStatus::Lost)
        };
        let (waited_for, silent): (BTreeMap<_, _>, BTreeMap<_, _>) =
            leaving.gateways.iter().partition(|((name, _), gateway)| {
                now_ms < gateway.heard_ms + SILENT_MS && !is_lost(name)
            });
        let mut view = Self {
            now_ms,
            epoch: leaving.epoch,
            waited_for,
            silent,
            served: u64::MAX,
            open: BTreeMap::new(),
            next_silence_ms: u64::MAX,
            all_heard_ms: leaving.listening_ms.map_or(u64::MAX, |at| at + LISTEN_MS),
        };
        for gateway in view.waited_for.values() {
            let served = if gateway.place.epoch == view.epoch { gateway.place.position } else { 0 };
            view.served = view.served.min(served);
            view.next_silence_ms = view.next_silence_ms.min(gateway.heard_ms + SILENT_MS);
            for (replica, open) in &gateway.open {
                *view.open.entry(replica).or_default() += open;
            }
        }
        view
    }

    /// Until when, at most, a replica goes on leaving. None: it may end.
    ///
    /// What is under way has the time that the workload gives it. That all gateways know of the
    /// retirement is waited for as long at least as for a silent one.
    fn waits_until(
        &self,
        state: &State,
        id: &ReplicaId,
        replica: &Replica,
        since: Since,
    ) -> Option<u64> {
        if state.is_unknown(replica) {
            return None;
        }
        let app = state.apps.get(&replica.app);
        let workload = app.and_then(|app| app.workloads.get(&replica.workload));
        let drain_ms = workload.map_or(0, |workload| workload.conduct.drain_ms);
        let drained_ms = since.for_ms(drain_ms);
        let known_ms = drained_ms.max(since.seen_ms.saturating_add(SILENT_MS));
        let silence_ms = self.next_silence_ms;
        let until_ms = if self.now_ms < self.all_heard_ms {
            known_ms.min(self.all_heard_ms)
        } else if self.served < replica.cause.position {
            known_ms.min(silence_ms)
        } else if self.open.contains_key(id) {
            drained_ms.min(silence_ms)
        } else {
            return None;
        };
        (self.now_ms < until_ms).then_some(until_ms)
    }

    /// The end of the wait for some of the replicas that were retired at once.
    fn released(
        &self,
        (app, workload, retired_at): Retirement<'_>,
        replicas: &[(&ReplicaId, &Replica)],
    ) -> Option<(ReplicasReleased, Cause)> {
        let ids: BTreeSet<&ReplicaId> = replicas.iter().map(|(id, _)| *id).collect();
        let knows = |gateway: &Gateway| {
            gateway.place.epoch == self.epoch && gateway.place.position >= retired_at
        };
        let late = self.waited_for.iter().filter(|(_, gateway)| !knows(gateway));
        // What a silent one had under way may be so still.
        let unsure = self.silent.iter().filter(|(_, gateway)| {
            !knows(gateway) || gateway.open.keys().any(|replica| ids.contains(replica))
        });
        let mut silent: Vec<NodeName> =
            late.chain(unsure).map(|((name, _), _)| name.clone()).collect();
        silent.sort();
        silent.dedup();
        let nodes: BTreeSet<&NodeName> =
            self.waited_for.keys().chain(self.silent.keys()).map(|(name, _)| name).collect();
        let all = nodes.len();
        let event = ReplicasReleased {
            app: app.clone(),
            workload: workload.clone(),
            replicas: ids.iter().map(|id| (*id).clone()).collect(),
            gateways: u64::try_from(all - silent.len()).unwrap_or(u64::MAX),
            silent,
            open: ids.iter().filter_map(|id| self.open.get(*id)).sum(),
        };
        Some((event, replicas.first()?.1.cause.clone()))
    }
}

#[cfg(test)]
mod tests;
