//! Writers: agents that append through the bus as a node's agent does, many requests at a time.
//!
//! Each has some series, and one request in flight in each, offered again until it is answered. What
//! was offered and what was answered is kept in a ledger, which the log is compared with.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bus::{Bus, Connect, Subscription};
use runtime::{Failure, clock};
use schemas::append::{Answer, Draft, INBOX_HEADER, Request, Verdict};
use schemas::event::{Event, LeadershipTaken, NodeDescribed, NodeDescription};
use schemas::id::{CLUSTER_TENANT, NodeName, Series, Tenant, Writer};
use schemas::place::Place;
use schemas::subject;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::dice::Dice;
use crate::process::PATIENCE;

/// How many agents write.
const WRITERS: usize = 5;

/// How many series each has, and so how many requests are in flight at once.
const LANES: usize = 4;

/// How long a request waits for its answer before it is offered again.
const AGAIN: Duration = Duration::from_millis(300);

/// The most events of a request, and the most bytes of padding in one.
const EVENTS: u64 = 5;
const PADDING: u64 = 2_500;

/// What was offered and answered.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// What each request says, by event.
    pub(crate) offered: BTreeMap<(Series, u64), Vec<String>>,
    /// Where the last event of each answered request was said to be.
    pub(crate) answered: BTreeMap<(Series, u64), Place>,
    /// An answer that nobody should have got.
    pub(crate) wrong: Option<String>,
    in_flight: usize,
    lanes: usize,
}

/// Writers that run.
#[derive(Debug)]
pub(crate) struct Load {
    ledger: Arc<Mutex<Ledger>>,
    paused: watch::Sender<bool>,
    _writers: JoinSet<()>,
}

impl Load {
    /// Starts them. Nothing is answered until event-log is there.
    pub(crate) async fn start(url: &str, dice: &mut Dice) -> Result<Self, Failure> {
        Self::start_as(url, dice, &|number| As::nobody(&format!("torture{number}"))).await
    }

    /// Starts them, each as a node and a user of its own.
    pub(crate) async fn start_as(
        url: &str,
        dice: &mut Dice,
        who: &(dyn Fn(usize) -> Result<As, Failure> + Sync),
    ) -> Result<Self, Failure> {
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let (paused, watched) = watch::channel(false);
        let mut writers = JoinSet::new();
        for number in 1..=WRITERS {
            let writer = who(number)?;
            let node = writer.node.clone();
            let bus = writer.connect(url).await?;
            let agent = Agent {
                bus,
                writer: Writer::Agent(node.clone()),
                node,
                instance: runtime::entropy::hex(),
                ledger: Arc::clone(&ledger),
                paused: watched.clone(),
            };
            writers.spawn(agent.run(dice.split()));
        }
        Ok(Self { ledger, paused, _writers: writers })
    }

    /// What was offered and answered until now.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        locked(&self.ledger)
    }

    /// How many requests were answered.
    pub(crate) fn answered(&self) -> usize {
        self.ledger().answered.len()
    }

    /// Waits until so many more are answered.
    pub(crate) async fn until_answered(&self, more: usize) -> Result<(), Failure> {
        let wanted = self.answered() + more;
        self.wait("requests are answered", |ledger| ledger.answered.len() >= wanted).await
    }

    /// Lets nothing new begin, and waits until everything that was offered is answered.
    pub(crate) async fn pause(&self) -> Result<(), Failure> {
        self.paused.send_replace(true);
        let idle = |ledger: &Ledger| ledger.in_flight == 0 && ledger.lanes == WRITERS * LANES;
        self.wait("every request that was offered is answered", idle).await
    }

    /// Goes on.
    pub(crate) fn resume(&self) {
        self.paused.send_replace(false);
    }

    async fn wait(&self, what: &str, so: impl Fn(&Ledger) -> bool) -> Result<(), Failure> {
        let waited = async {
            loop {
                if let Some(wrong) = &self.ledger().wrong {
                    return Err::<(), Failure>(wrong.clone().into());
                }
                if so(&self.ledger()) {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let late = |_| Err(format!("not so after {PATIENCE:?}: {what}").into());
        tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(late)
    }
}

fn locked(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who a writer is.
#[derive(Clone, Debug)]
pub(crate) struct As {
    /// The node whose agent it is.
    pub(crate) node: NodeName,
    /// User and password.
    pub(crate) credentials: Option<(String, String)>,
    /// What the subjects of its answers begin with.
    pub(crate) inbox: String,
}

impl As {
    /// Nobody in particular: most servers of these tests listen on loopback and know no users.
    pub(crate) fn nobody(name: &str) -> Result<Self, Failure> {
        let node = NodeName::new(name)?;
        Ok(Self { node, credentials: None, inbox: format!("_INBOX.{name}") })
    }

    async fn connect(&self, url: &str) -> Result<Bus, Failure> {
        let to = Connect {
            url: url.to_owned(),
            name: self.node.to_string(),
            credentials: self.credentials.clone(),
            inbox_prefix: self.inbox.clone(),
        };
        Ok(Bus::connect(&to).await?)
    }
}

/// A connection without a user.
pub(crate) async fn connect(url: &str, name: &str) -> Result<Bus, Failure> {
    As::nobody(name)?.connect(url).await
}

/// One writer.
#[derive(Clone)]
struct Agent {
    bus: Bus,
    writer: Writer,
    node: NodeName,
    instance: String,
    ledger: Arc<Mutex<Ledger>>,
    paused: watch::Receiver<bool>,
}

impl Agent {
    async fn run(self, mut dice: Dice) {
        let (writer, instance) = (self.writer.clone(), self.instance.clone());
        let claim = draft(LeadershipTaken { writer, term: 1, instance }.into());
        let ledger = Arc::clone(&self.ledger);
        let mut lanes = JoinSet::new();
        let claimed = async {
            let mut inbox = self.bus.inbox().await?;
            self.append(&mut inbox, "claim", 1, vec![claim]).await
        };
        if let Err(error) = claimed.await {
            locked(&ledger).wrong.get_or_insert_with(|| format!("the claim: {error}"));
            return;
        }
        for lane in 0..LANES {
            let (agent, dice) = (self.clone(), dice.split());
            lanes.spawn(agent.write(lane, dice));
        }
        while let Some(ended) = lanes.join_next().await {
            if let Ok(Err(error)) = ended {
                locked(&ledger).wrong.get_or_insert_with(|| error.to_string());
            }
        }
    }

    /// Writes in one series, request after request.
    async fn write(mut self, lane: usize, mut dice: Dice) -> Result<(), Failure> {
        let mut inbox = self.bus.inbox().await?;
        let name = format!("lane{lane}");
        locked(&self.ledger).lanes += 1;
        for n in 1.. {
            self.paused.wait_for(|paused| !paused).await?;
            let count = 1 + dice.below(EVENTS);
            let events = (0..count).map(|i| {
                let padding = usize::try_from(dice.below(PADDING)).unwrap_or(0);
                described(&self.node, &format!("{name}/{n}/{i} {}", "x".repeat(padding)))
            });
            let events = events.collect();
            self.append(&mut inbox, &name, n, events).await?;
        }
        Ok(())
    }

    /// Offers a request until it is answered.
    async fn append(
        &self,
        inbox: &mut (String, Subscription),
        lane: &str,
        n: u64,
        events: Vec<Draft>,
    ) -> Result<(), Failure> {
        let series = Series::derive(&format!("{}/{lane}", self.instance), 0);
        let key = (series.clone(), n);
        let says = events.iter().map(|draft| draft.data.get().to_owned()).collect();
        {
            let mut ledger = locked(&self.ledger);
            ledger.offered.insert(key.clone(), says);
            ledger.in_flight += 1;
        }
        let request = Request {
            writer: self.writer.clone(),
            term: 1,
            instance: self.instance.clone(),
            series,
            n,
            basis: None,
            absent: Vec::new(),
            events,
        };
        let payload = serde_json::to_vec(&request)?;
        let subject = subject::append(&self.writer);
        let place = loop {
            let header = (INBOX_HEADER, inbox.0.as_str());
            // Whether it got there shows by the answer only.
            let _ = self.bus.publish_with_header(&subject, payload.clone(), header).await;
            if let Some(place) = answer(&mut inbox.1, &request).await? {
                break place;
            }
        };
        let mut ledger = locked(&self.ledger);
        ledger.answered.insert(key, place);
        ledger.in_flight -= 1;
        Ok(())
    }
}

/// Waits a while for the answer to a request: where its last event is.
async fn answer(inbox: &mut Subscription, to: &Request) -> Result<Option<Place>, Failure> {
    let heard = async {
        loop {
            let message = inbox.next().await.ok_or("the connection is gone for good")?;
            let answer: Answer = serde_json::from_slice(&message.payload)?;
            if (&answer.series, answer.n) != (&to.series, to.n) {
                continue;
            }
            return match answer.verdict {
                Verdict::Published(place) => Ok(place),
                Verdict::Duplicate { last_n, place } if last_n == to.n => Ok(place),
                other => Err::<Place, Failure>(
                    format!("number {} of series {} was answered {other:?}", to.n, to.series)
                        .into(),
                ),
            };
        }
    };
    match tokio::time::timeout(AGAIN, heard).await {
        Ok(place) => place.map(Some),
        Err(_) => Ok(None),
    }
}

fn draft(event: Event) -> Draft {
    Draft {
        time_ms: clock::utc_ms(),
        tenant: Tenant::new(CLUSTER_TENANT).expect("the cluster's tenant is a name"),
        actor: "torture".to_owned(),
        correlation: None,
        causation: None,
        kind: event.kind().to_owned(),
        data: RawValue::from_string(event.data()).expect("an event's data is JSON"),
    }
}

fn described(node: &NodeName, os: &str) -> Draft {
    let description = NodeDescription {
        address: "10.0.0.1".to_owned(),
        arch: "amd64".to_owned(),
        os: os.to_owned(),
        engine: "1".to_owned(),
        agent: "1".to_owned(),
        cpu_millis: 1,
        memory_bytes: 1,
        disk_bytes: 1,
        pids: 0,
        labels: BTreeMap::new(),
    };
    draft(NodeDescribed { node: node.clone(), description }.into())
}
