//! What the tasks of the inside share: the map of now, and a door for each port of each workload.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runtime::Metrics;
use runtime::inside::Range;
use schemas::id::{AppKey, ReplicaId, WorkloadName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::map::Map;
use crate::pool::{Pool, Shared};
use crate::table::{Published, Route};

/// How many connections a port may have at once.
const CONNECTIONS_MAX: usize = 10_000;

/// How long one waits whose app is not known: its container may have begun before history says so.
const STRANGE: Duration = Duration::from_millis(1_500);

/// How many may wait so.
const STRANGERS_MAX: usize = 1_000;

type Key = (AppKey, WorkloadName, Published);

/// The inside of one machine. It is told what there is by whoever follows history, and served by
/// tasks of its own.
#[derive(Debug)]
pub struct Inside {
    pub(crate) range: Range,
    pub(crate) shared: Shared,
    map: watch::Sender<Arc<Map>>,
    doors: Mutex<Doors>,
    strangers: Arc<Semaphore>,
    /// Whether it was tried to serve by a map: it is served, or it is known why not.
    pub(crate) settled: watch::Sender<bool>,
    pub(crate) counts: Counts,
}

#[derive(Debug, Default)]
struct Doors {
    open: BTreeMap<Key, Door>,
    /// Those of ports that are gone, which connections still use.
    leaving: Vec<Door>,
    /// Those of replicas by names of their own, as long as somebody uses them: most are used by nobody.
    single: BTreeMap<(ReplicaId, Published), Door>,
}

#[derive(Clone, Debug)]
struct Door {
    pool: Arc<Pool>,
    room: Arc<Semaphore>,
}

/// What happened at the doors.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Connections and datagrams of those who may not.
    pub(crate) refused: AtomicU64,
    /// Questions for the name server.
    pub(crate) questions: AtomicU64,
    /// Questions about the outside that nobody answered.
    pub(crate) unanswered: AtomicU64,
}

/// Why one does not get in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is not known whose it is, it may not go there, or nobody serves there.
    Closed,
    /// There are as many as there may be.
    Full,
}

impl Inside {
    /// The inside in a range of addresses. Nobody is in it yet.
    #[must_use]
    pub fn new(range: Range, shared: Shared) -> Self {
        Self {
            range,
            shared,
            map: watch::Sender::default(),
            doors: Mutex::default(),
            strangers: Arc::new(Semaphore::new(STRANGERS_MAX)),
            settled: watch::Sender::default(),
            counts: Counts::default(),
        }
    }

    /// Goes by this map from now on.
    pub fn become_as(&self, map: &Map) {
        if **self.map.borrow() == *map {
            return;
        }
        let mut doors = self.doors();
        let mut before = std::mem::take(&mut doors.open);
        for ((app, workload), served) in &map.workloads {
            for (port, route) in &served.ports {
                let key = (app.clone(), workload.clone(), *port);
                let door = match before.remove(&key) {
                    Some(door) => {
                        door.pool.lead(route);
                        door
                    }
                    None => doors.enter(*port, route, &self.shared),
                };
                doors.open.insert(key, door);
            }
        }
        for door in before.into_values() {
            door.pool.lead_nowhere();
            doors.leaving.push(door);
        }
        for ((id, port), door) in &doors.single {
            match map.workloads.values().find_map(|served| served.replicas.get(id)?.ports.get(port))
            {
                Some(route) => door.pool.lead(route),
                None => door.pool.lead_nowhere(),
            }
        }
        // With the doors: nobody opens one by what is not so any more.
        self.shared.callers.are(map.callers.clone());
        self.map.send_replace(Arc::new(map.clone()));
    }

    /// The map of now.
    pub(crate) fn map(&self) -> Arc<Map> {
        self.map.borrow().clone()
    }

    /// The maps from now on.
    pub(crate) fn maps(&self) -> watch::Receiver<Arc<Map>> {
        self.map.subscribe()
    }

    fn doors(&self) -> MutexGuard<'_, Doors> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits a moment for whose an address is, if nobody knows: then for a map that says so.
    pub(crate) async fn known(&self, address: Ipv4Addr) -> Arc<Map> {
        let now = self.map();
        if now.source(address).is_some() {
            return now;
        }
        let Ok(_waits) = self.strangers.try_acquire() else { return now };
        let mut maps = self.maps();
        let known = maps.wait_for(|map| map.source(address).is_some());
        // Whether it came or not: what is known then.
        let _ = tokio::time::timeout(STRANGE, known).await;
        self.map()
    }

    /// Where one goes who comes from an address to a port of a number, and the room it takes there.
    pub(crate) fn admit(
        &self,
        map: &Map,
        from: Ipv4Addr,
        number: u16,
        port: Published,
    ) -> Result<(Arc<Pool>, OwnedSemaphorePermit), Refused> {
        let Some(door) = self.door(map, from, number, port) else {
            self.counts.refused.fetch_add(1, Relaxed);
            return Err(Refused::Closed);
        };
        match door.room.try_acquire_owned() {
            Ok(room) => Ok((door.pool, room)),
            Err(_) => {
                door.pool.traffic.refused();
                Err(Refused::Full)
            }
        }
    }

    fn door(&self, map: &Map, from: Ipv4Addr, number: u16, port: Published) -> Option<Door> {
        let from = map.source(from)?;
        if let Some(((app, workload), _)) = map.numbered(number) {
            map.reached(from, &(app.clone(), workload.clone()))?;
            return self.doors().open.get(&(app.clone(), workload.clone(), port)).cloned();
        }
        let mut doors = self.doors();
        // The map that the doors are as, and not one of before.
        let map = self.map();
        let (workload, id, single) = map.single(number)?;
        map.reached(from, workload)?;
        let route = single.ports.get(&port)?;
        let door = doors.single.entry((id.clone(), port));
        Some(
            door.or_insert_with(|| {
                Door::new(format!("inside, one by one, {port}"), route, &self.shared)
            })
            .clone(),
        )
    }

    /// The pool of a port, for whoever has a socket for it.
    pub(crate) fn pool(&self, key: &Key) -> Option<Arc<Pool>> {
        self.doors().open.get(key).map(|door| door.pool.clone())
    }

    /// Adds its numbers to those of the process.
    pub(crate) fn tell(&self, metrics: &Metrics) {
        let mut doors = self.doors();
        for door in doors.open.values().chain(&doors.leaving).chain(doors.single.values()) {
            door.pool.tell(metrics);
        }
        doors.leaving.retain(|door| Arc::strong_count(&door.pool) > 1);
        doors.single.retain(|_, door| Arc::strong_count(&door.pool) > 1);
        let workloads = u64::try_from(self.map.borrow().workloads.len()).unwrap_or(u64::MAX);
        metrics.set("muster_inside_workloads", "Workloads that have a name.", &[], workloads);
        let count = |name, help, number: &AtomicU64| {
            metrics.count(name, help, &[], number.swap(0, Relaxed));
        };
        let Counts { refused, questions, unanswered } = &self.counts;
        count("muster_inside_refused", "Who came where it may not go.", refused);
        count("muster_inside_questions", "Questions for the name server.", questions);
        count(
            "muster_inside_unanswered",
            "Questions about the outside that nobody answered.",
            unanswered,
        );
    }
}

impl Doors {
    /// A door for a port that had none: the one that is still in use, so that nothing is counted
    /// twice, or a new one.
    fn enter(&mut self, port: Published, route: &Route, shared: &Shared) -> Door {
        let name = format!("inside {port}");
        let left = self.leaving.iter().position(|door| door.pool.is_of(&name, route));
        match left.map(|i| self.leaving.swap_remove(i)) {
            Some(door) => {
                door.pool.lead(route);
                door
            }
            None => Door::new(name, route, shared),
        }
    }
}

impl Door {
    fn new(name: String, route: &Route, shared: &Shared) -> Self {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Self { pool: Pool::inside(name, route, shared), room }
    }
}
