//! A real event-log on a real nats-server, alone, with a writer that appends to it.

use std::path::Path;
use std::time::Duration;

use bus::testing::Server;
use bus::{Bus, Subscription};
use clap::Parser as _;
use event_log::Config;
use runtime::tasks::Tasks;
use runtime::{Admin, Shutdown};
use schemas::append::{Answer, Draft, INBOX_HEADER, Request, Verdict};
use schemas::event::{Event, LeadershipTaken, NoteAdded};
use schemas::id::{Series, Tenant, Writer};
use schemas::place::Place;
use schemas::read::{Head, LogRequest};
use schemas::{stream, subject};
use serde_json::value::RawValue;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often something is asked again.
const AGAIN: Duration = Duration::from_millis(50);

/// An event-log that runs in this process.
pub struct LiveLog {
    tasks: Tasks,
    stopper: runtime::process::Stopper,
    /// What its health page shows.
    pub admin: Admin,
    bus: Bus,
    inbox: String,
    answers: Subscription,
    leads: Option<(Series, u64, u64)>,
}

impl LiveLog {
    /// Starts one on the state folder `folder`.
    pub async fn start(server: &Server, folder: &Path) -> Self {
        let folder = folder.display().to_string();
        let url = server.url();
        let args =
            ["event-log", "--nats-url", &url, "--state-dir", &folder, "--snapshot-every", "200"];
        let config = Config::try_parse_from(args).expect("the arguments are right");
        let (stopper, shutdown) = Shutdown::new();
        let admin = Admin::default();
        let mut tasks = Tasks::default();
        tasks.spawn("event-log", event_log::run(config, admin.clone(), shutdown));
        let bus = server.bus("writer").await;
        let (inbox, answers) = bus.inbox().await.expect("the server is there");
        Self { tasks, stopper, admin, bus, inbox, answers, leads: None }
    }

    /// Waits until it serves.
    ///
    /// # Errors
    ///
    /// What it ended with, when it does not.
    pub async fn serves(&mut self) -> Result<Head, String> {
        let mut tries = PATIENCE.as_millis() / AGAIN.as_millis();
        loop {
            let ended = tokio::time::timeout(AGAIN, self.tasks.ended()).await;
            if let Ok(Some((_, outcome))) = ended {
                return Err(outcome.err().map_or_else(String::new, |error| error.to_string()));
            }
            if self.admin.readiness.checks() > 0
                && self.admin.readiness.missing().is_empty()
                && let Some(head) = self.head().await
            {
                return Ok(head);
            }
            tries -= 1;
            assert!(tries > 0, "it does not serve: {:?}", self.admin.readiness.missing());
        }
    }

    /// Where it is, when it answers.
    pub async fn head(&self) -> Option<Head> {
        let asked = self.bus.request(&subject::api("head"), b"{}".to_vec(), PATIENCE).await;
        serde_json::from_slice(&asked.ok()?).ok()
    }

    /// Every event that it has, from a position on.
    pub async fn events(&self, mut from: u64) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        loop {
            let request = LogRequest { from, ..LogRequest::default() };
            let page = runtime::history::page(&self.bus, &request).await.expect("it answers");
            found.extend(page.events.iter().map(|event| event.get().as_bytes().to_vec()));
            match page.next {
                Some(next) => from = next,
                None => return found,
            }
        }
    }

    /// Records so many notes, in requests of at most a hundred; where the last one stands.
    pub async fn append(&mut self, notes: u64) -> Place {
        let mut place = Place::START;
        let mut left = notes;
        while left > 0 {
            let count = left.min(100);
            left -= count;
            let events = (0..count).map(|i| {
                let text = format!("{i} of {count}, {left} left");
                let object = format!("app/main/a{}", i % 9);
                NoteAdded { object, text, fields: Default::default() }.into()
            });
            place = self.request(events.collect()).await;
        }
        place
    }

    async fn request(&mut self, events: Vec<Event>) -> Place {
        let (series, term, n) = match self.leads.take() {
            Some(leads) => leads,
            None => self.claim().await,
        };
        let place = self.ask(&series, term, n, &events).await;
        self.leads = Some((series, term, n + 1));
        place
    }

    async fn claim(&mut self) -> (Series, u64, u64) {
        let writer = Writer::Controller;
        for term in 1.. {
            let instance = "live".to_owned();
            let series = Series::derive("claim", runtime::clock::mono_ms() * 1_000 + term);
            let taken = LeadershipTaken { writer: writer.clone(), term, instance };
            match self.offer(&series, term, 1, &[taken.into()]).await {
                Verdict::Published(_) => return (series, term, 2),
                Verdict::Refused { .. } => {}
                Verdict::Duplicate { .. } => panic!("the series is new"),
            }
        }
        unreachable!("terms do not end")
    }

    async fn ask(&mut self, series: &Series, term: u64, n: u64, events: &[Event]) -> Place {
        match self.offer(series, term, n, events).await {
            Verdict::Published(place) => place,
            other => panic!("{other:?}"),
        }
    }

    async fn offer(&mut self, series: &Series, term: u64, n: u64, events: &[Event]) -> Verdict {
        let basis = self.head().await.expect("it answers").place.basis();
        let draft = |event: &Event| Draft {
            time_ms: 1,
            tenant: Tenant::new(event.tenant()).expect("a name"),
            actor: "test".to_owned(),
            correlation: None,
            causation: None,
            kind: event.kind().to_owned(),
            data: RawValue::from_string(event.data()).expect("JSON"),
        };
        let request = Request {
            writer: Writer::Controller,
            term,
            instance: "live".to_owned(),
            series: series.clone(),
            n,
            basis: Some(basis),
            absent: Vec::new(),
            events: events.iter().map(draft).collect(),
        };
        let payload = serde_json::to_vec(&request).expect("string keys");
        let to = subject::append(&Writer::Controller);
        let header = (INBOX_HEADER, self.inbox.as_str());
        self.bus.publish_with_header(&to, payload, header).await.expect("it is sent");
        loop {
            let answer = tokio::time::timeout(PATIENCE, self.answers.next()).await;
            let answer = answer.expect("it answers").expect("the connection is there");
            let answer: Answer = serde_json::from_slice(&answer.payload).expect("an answer");
            if answer.series == *series && answer.n == n {
                return answer.verdict;
            }
        }
    }

    /// Lets the events stream forget what is below a position, as its age does.
    pub async fn age(&self, below: u64) {
        self.bus.purge_below(stream::EVENTS.name, below).await.expect("the stream is there");
    }

    /// Stops it.
    pub async fn stop(mut self) {
        self.stopper.stop();
        while self.tasks.ended().await.is_some() {}
    }
}
