//! A gateway: the machines that follow history, make tables of it and count, and the clients it serves.
//!
//! Clients come by chance to where its table leads, and stay for a while, some of them for ever.

use std::collections::VecDeque;

use cluster::{Fold, Marks};
use gateway::follow::Follower;
use gateway::open::{Held, Open};
use gateway::report::under_way;
use gateway::table::{Endpoint, Table};
use node_agent::engine::container_name;
use schemas::id::{NodeName, ReplicaId};
use schemas::place::Place;
use schemas::report::{GATEWAY_MS, GatewayReport, OpenOn, Standing};

use crate::dice::Dice;
use crate::log::MARK_EVERY;
use crate::near::Talk;
use crate::requests::Measured;

/// How many clients it has at most.
const CLIENTS_MAX: usize = 20;

/// How long a client stays at most, unless it stays for ever.
const STAY_MS: u64 = 3_000;

/// A gateway, up or down.
pub(crate) struct Gateway {
    pub(crate) node: NodeName,
    /// The number of its process.
    pub(crate) life: u64,
    /// Until when it does nothing at all, and until when nothing from the bus gets to it or back.
    pub(crate) paused_until_ms: u64,
    pub(crate) cut_until_ms: u64,
    pub(crate) serving: Option<Serving>,
    /// Chance of its own, so that what it does moves nothing else about.
    pub(crate) dice: Dice,
    /// Who calls whom through it, if anybody does.
    pub(crate) talk: Option<Talk>,
}

/// Its process.
pub(crate) struct Serving {
    pub(crate) follower: Follower,
    /// The next entry to read, and whether from the log instead of the stream.
    pub(crate) next: u64,
    pub(crate) log_first: bool,
    /// The table it serves by.
    pub(crate) table: Table,
    /// Those that it will, and when.
    coming: VecDeque<(u64, Table)>,
    open: Open,
    clients: Vec<Client>,
    told: Option<(u64, Place, Vec<OpenOn>)>,
    /// Since when it has reported without a pause.
    reports_since_ms: Option<u64>,
    /// What it measures of requests.
    pub(crate) measured: Measured,
}

/// A client that is served.
struct Client {
    endpoint: Endpoint,
    until_ms: u64,
    _held: Held,
}

impl Gateway {
    pub(crate) fn new(node: NodeName, seed: u64) -> Self {
        Self {
            node,
            life: 0,
            paused_until_ms: 0,
            cut_until_ms: 0,
            serving: None,
            dice: Dice::new(seed),
            talk: Talk::of(seed),
        }
    }

    pub(crate) fn start(&mut self, fold: Fold) {
        self.life += 1;
        self.serving = Some(Serving {
            next: fold.cursor().position + 1,
            follower: Follower::new(fold, self.node.clone()).marking(Marks::every(MARK_EVERY)),
            log_first: false,
            table: Table::default(),
            coming: VecDeque::new(),
            open: Open::default(),
            clients: Vec::new(),
            told: None,
            reports_since_ms: None,
            measured: Measured::default(),
        });
    }

    /// Its connections break with it.
    pub(crate) fn crash(&mut self) {
        self.life += 1;
        self.serving = None;
    }

    pub(crate) fn is_cut(&self, now_ms: u64) -> bool {
        now_ms < self.cut_until_ms
    }

    /// Whether every controller that listens must have heard it of late.
    pub(crate) fn is_heard(&self, now_ms: u64, for_ms: u64) -> bool {
        let since = self.serving.as_ref().and_then(|serving| serving.reports_since_ms);
        now_ms >= self.paused_until_ms
            && !self.is_cut(now_ms)
            && since.is_some_and(|since| now_ms >= since + for_ms)
    }

    /// Serves for a moment: by the table that it has taken up by now, those who are there and those who
    /// come. `runs` says which containers do.
    pub(crate) fn serve(&mut self, now_ms: u64, stormy: bool, runs: impl Fn(&str) -> bool) {
        let Some(serving) = &mut self.serving else { return };
        if let Some(table) = serving.follower.table() {
            // They are taken up one after the other.
            let last = serving.coming.back().map_or(now_ms, |(at, _)| *at);
            let slow = stormy && self.dice.once_in(10);
            let wait = self.dice.within(0, if slow { 1_500 } else { 20 });
            serving.coming.push_back((last.max(now_ms + wait), table));
        }
        while serving.coming.front().is_some_and(|(at, _)| *at <= now_ms) {
            let (_, table) = serving.coming.pop_front().expect("there is one");
            serving.table = table;
        }
        serving.clients.retain(|client| {
            let Endpoint { replica, run, .. } = &client.endpoint;
            now_ms < client.until_ms && runs(&container_name(replica, *run))
        });
        for route in serving.table.routes.values().filter(|route| !route.endpoints.is_empty()) {
            if serving.clients.len() < CLIENTS_MAX && self.dice.once_in(3) {
                let endpoint = self.dice.pick(&route.endpoints).clone();
                let for_ever = stormy && self.dice.once_in(30);
                let stay = if for_ever { u64::MAX / 2 } else { self.dice.within(5, STAY_MS) };
                let held = serving.open.of(&endpoint.replica).hold();
                serving.clients.push(Client { endpoint, until_ms: now_ms + stay, _held: held });
            }
        }
    }

    /// What it says of itself, when it is time for that or something is new.
    pub(crate) fn report(&mut self, now_ms: u64) -> Option<GatewayReport> {
        let (node, instance) = (self.node.clone(), format!("{}.{}", self.node, self.life));
        let serving = self.serving.as_mut()?;
        if serving.table.place == Place::START {
            return None;
        }
        let (place, open) = under_way(&serving.table, &serving.open);
        let known = serving.told.as_ref().is_some_and(|(at, told, on)| {
            now_ms < at + GATEWAY_MS && (told, on) == (&place, &open)
        });
        if known {
            return None;
        }
        serving.told = Some((now_ms, place, open.clone()));
        serving.reports_since_ms.get_or_insert(now_ms);
        let (standing, mark) = (Standing::default(), serving.follower.mark().cloned());
        Some(GatewayReport { node, instance, standing, place, open, mark, ordered: Vec::new() })
    }

    /// It is heard no more for a while.
    pub(crate) fn falls_silent(&mut self) {
        if let Some(serving) = &mut self.serving {
            serving.reports_since_ms = None;
        }
    }
}

impl Serving {
    /// Whether it may send something to a replica that left at a position.
    pub(crate) fn may_send(&self, replica: &ReplicaId, left_at: u64) -> bool {
        self.table.place.position < left_at || self.table.led_to().contains(replica)
    }

    /// How much is under way on a replica.
    pub(crate) fn open_on(&self, replica: &ReplicaId) -> u64 {
        self.open.of(replica).open()
    }
}
