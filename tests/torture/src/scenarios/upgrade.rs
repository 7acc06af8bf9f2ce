//! `upgrade`: a cluster of another release, two of each service that may stand by, is replaced by this
//! one as `docs/upgrade.md` says, service by service under load: the one that stands by first.
//!
//! Agents append and somebody sends commands all the while. In the end every answer holds, every
//! command has one receipt, both logs are the stream, no state differed, and no container was touched.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bus::Bus;
use event_log::store::{FjallStore, Store as _, rows};
use runtime::Failure;
use schemas::envelope::Envelope;
use schemas::event::Event;
use schemas::id::CommandId;
use schemas::registry::Role;
use schemas::subject;
use serde_json::json;
use tests::cluster::Cluster;
use tokio::task::{JoinSet, block_in_place};

use crate::audit;
use crate::dice::Dice;
use crate::load::{As, Load};
use crate::process::{LOOK, PATIENCE, verify};
use crate::run::{Checked, Run};

/// What it is called.
pub(crate) const NAME: &str = "upgrade";

/// The user of the command line.
const USER: &str = "tester";

/// How many requests and commands are answered between two services: enough that states are compared.
const BETWEEN: usize = 400;
const COMMANDS: usize = 5;

/// Each pair, that which leads at first before that which stands by.
const PAIRS: [[&str; 2]; 5] = [
    ["event-log", "event-log-2"],
    ["controller", "controller-2"],
    ["scheduler", "scheduler-2"],
    ["autoscaler", "autoscaler-2"],
    ["health", "health-2"],
];

pub(crate) async fn run(run: &mut Run) -> Result<Checked, Failure> {
    let Some(old) = run.old.clone() else {
        let what = "it needs the programs of another release: build one, and name the folder of its \
                    muster, muster-event-log and so on with --old DIR";
        return Err(what.into());
    };
    if let Some(missing) = ["muster", "muster-event-log"].iter().find(|p| !old.join(p).exists()) {
        return Err(format!("there is no {missing} in {}", old.display()).into());
    }
    let mut checked = Checked::default();
    for round in 0..run.rounds {
        let (old, dice) = (old.clone(), run.dice.split());
        // A cluster says by a panic what it waited for in vain.
        let mut task = JoinSet::new();
        task.spawn(one(old, dice, checked.clone()));
        let ended = task.join_next().await.ok_or("it was started")?;
        let ended: Result<Checked, Failure> = ended.map_err(|error| error.to_string())?;
        checked = ended.map_err(|error| format!("round {round}: {error}"))?;
    }
    Ok(checked)
}

/// One cluster, from its start to its end.
async fn one(old: PathBuf, mut dice: Dice, mut checked: Checked) -> Result<Checked, Failure> {
    let mut cluster = block_in_place(|| Cluster::start_from(&old, 2));
    let deployed = block_in_place(|| cluster.deploy(&cluster.shop()));
    if !deployed.status.success() {
        return Err(format!("deploy: {}", tests::cluster::text(&deployed.stderr)).into());
    }
    let containers = block_in_place(|| cluster.containers());
    let who = |number| {
        let node = cluster.outside(number);
        let to = cluster.connect_as(&Role::Agent(node.clone()));
        Ok(As { node, credentials: to.credentials, inbox: to.inbox_prefix })
    };
    let load = Load::start_as(&cluster.server.url(), &mut dice, &who).await?;
    let commands = Commands::start(&cluster).await?;
    let mut step = Step { load: &load, commands: &commands, checked: &mut checked };
    step.goes_on("before anything is replaced").await?;
    block_in_place(|| cluster.ok(&["replay", "--verify"]));

    cluster.upgrade();
    for name in order(&cluster, &mut dice) {
        let hard = dice.below(2) == 0;
        block_in_place(|| replace(&mut cluster, &name, hard));
        step.goes_on(&format!("with a new {name}")).await?;
    }
    block_in_place(|| cluster.ok(&["replay", "--verify"]));
    let told = commands.end().await?;
    load.pause().await?;
    let now = block_in_place(|| cluster.containers());
    if now != containers {
        return Err(format!("containers were {containers:?}, and are {now:?}").into());
    }
    checked.add("containers that nobody touched", u64::try_from(now.len())?);
    ends(&mut cluster, &load, &told, &mut checked).await?;
    Ok(checked)
}

/// The one that stands by before the one that leads; event-log first, then those that decide in any
/// order, then what runs on nodes.
fn order(cluster: &Cluster, dice: &mut Dice) -> Vec<String> {
    let mut deciders: Vec<[&str; 2]> = PAIRS[1..].to_vec();
    let mut order = vec![PAIRS[0]];
    while !deciders.is_empty() {
        let bound = u64::try_from(deciders.len()).unwrap_or(1);
        let next = usize::try_from(dice.below(bound)).unwrap_or(0);
        order.push(deciders.remove(next));
    }
    let pairs = order.into_iter().flat_map(|[first, second]| [second, first]);
    let nodes = cluster.nodes().iter().map(ToString::to_string);
    pairs.map(str::to_owned).chain(cluster.gateways()).chain(nodes).collect()
}

/// Ends a service, or kills it, and starts the new one on what it left.
fn replace(cluster: &mut Cluster, name: &str, hard: bool) {
    match hard {
        true => cluster.kill(name),
        false => cluster.end(name),
    }
    cluster.run(name);
    cluster.until(&format!("the new {name} is ready"), |cluster| {
        cluster.page_of(name, "/readyz").is_some_and(|(status, _)| status == 200)
    });
}

/// Work that goes on while services are replaced.
struct Step<'a> {
    load: &'a Load,
    commands: &'a Commands,
    checked: &'a mut Checked,
}

impl Step<'_> {
    /// Waits until so much more is answered.
    async fn goes_on(&mut self, when: &str) -> Result<(), Failure> {
        let at = |error: Failure| Failure::from(format!("{when}: {error}"));
        self.load.until_answered(BETWEEN).await.map_err(at)?;
        self.commands.until_answered(COMMANDS).await.map_err(at)?;
        self.checked.add("times that work went on", 1);
        Ok(())
    }
}

/// What a user who sends commands was told: the command's receipt, by its id.
type Told = Arc<Mutex<BTreeMap<CommandId, String>>>;

/// A user who sends a command after another.
struct Commands {
    told: Told,
    stops: tokio::sync::watch::Sender<bool>,
    task: Mutex<JoinSet<Result<(), Failure>>>,
}

impl Commands {
    async fn start(cluster: &Cluster) -> Result<Self, Failure> {
        let bus = Bus::connect(&cluster.connect_as(&Role::User(USER.to_owned()))).await?;
        let told = Told::default();
        let (stops, watched) = tokio::sync::watch::channel(false);
        let mut task = JoinSet::new();
        let (object, tells) = (format!("app/main/{}", cluster.app()), Arc::clone(&told));
        task.spawn(async move {
            while !*watched.borrow() {
                let id = CommandId::new(&runtime::entropy::hex())?;
                let sent = tokio::time::timeout(PATIENCE, command(&bus, &id, &object));
                let late = |_| format!("command {id} has no receipt after {PATIENCE:?}");
                let receipt = sent.await.map_err(late)??;
                tells.lock().unwrap_or_else(PoisonError::into_inner).insert(id, receipt);
            }
            Ok(())
        });
        Ok(Self { told, stops, task: Mutex::new(task) })
    }

    fn told(&self) -> BTreeMap<CommandId, String> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn until_answered(&self, more: usize) -> Result<(), Failure> {
        let wanted = self.told().len() + more;
        let waited = async {
            while self.told().len() < wanted {
                let ended =
                    self.task.lock().unwrap_or_else(PoisonError::into_inner).try_join_next();
                if let Some(ended) = ended {
                    ended??;
                    return Err::<(), Failure>("commands are not sent any more".into());
                }
                tokio::time::sleep(LOOK).await;
            }
            Ok(())
        };
        let late = |_| Err(format!("commands are not answered within {PATIENCE:?}").into());
        tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(late)
    }

    /// Waits for the last receipt.
    async fn end(self) -> Result<BTreeMap<CommandId, String>, Failure> {
        self.stops.send_replace(true);
        let task = self.task.into_inner().unwrap_or_else(PoisonError::into_inner);
        for ended in task.join_all().await {
            ended?;
        }
        Ok(self.told.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Sends a command until it has a receipt: what that is.
async fn command(bus: &Bus, id: &CommandId, object: &str) -> Result<String, Failure> {
    let mut receipts = bus.subscribe(&format!("muster.v1.evt.main.command.{id}.*")).await?;
    let note = serde_json::to_vec(&json!({ "object": object, "text": "is it still there?" }))?;
    let to = subject::command_as(USER, "note.add");
    loop {
        // Whether it got there shows by the receipt only.
        let headers = [("Nats-Msg-Id", id.as_str())];
        let _ = bus.publish_command(&to, note.clone(), &headers).await;
        let message = tokio::time::timeout(Duration::from_secs(5), receipts.next()).await;
        let Ok(message) = message else { continue };
        let message = message.ok_or("the connection is gone")?;
        return Ok(Envelope::decode(&message.payload)?.event.kind().to_owned());
    }
}

/// Ends both event-logs, and reads what they leave.
async fn ends(
    cluster: &mut Cluster,
    load: &Load,
    told: &BTreeMap<CommandId, String>,
    checked: &mut Checked,
) -> Result<(), Failure> {
    for name in cluster.running().iter().filter(|name| !PAIRS[0].contains(&name.as_str())) {
        block_in_place(|| cluster.end(name));
    }
    block_in_place(|| level(cluster));
    let bus = Bus::connect(&cluster.connect_as(&Role::User(USER.to_owned()))).await?;
    // The one that leads has nothing more to say; the other would take when that is gone.
    let [first, second] = PAIRS[0];
    let leads = metric(cluster, first, "muster_log_leads").as_deref() == Some("1");
    for name in if leads { [second, first] } else { [first, second] } {
        block_in_place(|| cluster.kill(name));
    }
    let stream = audit::stream(&bus, 1).await?;
    for name in PAIRS[0] {
        let folder = cluster.state(name).join("event-log");
        verify(&cluster.state(name)).await?;
        audit::whole(&folder, load, &stream, checked).await?;
        block_in_place(|| receipts(&folder, told, checked))?;
    }
    Ok(())
}

/// Waits until the one that stands by has all that the other has.
fn level(cluster: &Cluster) {
    cluster.until("both event-logs have everything", |cluster| {
        let stored = PAIRS[0].map(|name| metric(cluster, name, "muster_log_stored_position"));
        stored[0].is_some() && stored[0] == stored[1]
    });
}

fn metric(cluster: &Cluster, name: &str, metric: &str) -> Option<String> {
    let (_, page) = cluster.page_of(name, "/metrics")?;
    let value = page.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix("{} "));
    value.map(str::to_owned)
}

/// Every command that was answered has one receipt, the one that was told; and no state differed.
fn receipts(
    folder: &std::path::Path,
    told: &BTreeMap<CommandId, String>,
    checked: &mut Checked,
) -> Result<(), Failure> {
    let store = FjallStore::open(folder)?;
    let (mut found, mut led) = (BTreeMap::new(), BTreeSet::new());
    for row in rows(&store, 1, store.head()?.position)? {
        let Envelope { header, event } = Envelope::decode(&row.bytes)?;
        let (at, kind) = (header.position, event.kind());
        let command = match event {
            Event::CommandAccepted(accepted) => accepted.command,
            Event::CommandRejected(rejected) => rejected.command,
            Event::StateDiverged(diverged) => {
                return Err(format!("a state differed, as position {at} says: {diverged:?}").into());
            }
            Event::LeadershipTaken(taken) => {
                led.insert((taken.writer.to_string(), taken.instance));
                continue;
            }
            _ => continue,
        };
        if let Some(before) = found.insert(command.clone(), kind) {
            return Err(format!("{command} has a {before} and, at {at}, a {kind}").into());
        }
    }
    for (command, kind) in told {
        if found.get(command) != Some(&kind.as_str()) {
            let what = found.get(command);
            return Err(format!("{command} was told {kind}, and in the log is {what:?}").into());
        }
    }
    checked.add("commands with one receipt", u64::try_from(told.len())?);
    for [decider, _] in &PAIRS[1..] {
        let instances = led.iter().filter(|(writer, _)| writer == decider).count();
        if instances < 2 {
            return Err(format!("{instances} instances of {decider} led").into());
        }
        checked.add("deciders that both instances led", 1);
    }
    Ok(())
}
