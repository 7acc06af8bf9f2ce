//! Whether states were compared while two releases were about: those of one fold with each other, and
//! those of another fold with none. And the control: a new release that folds wrongly is caught.

use std::path::Path;

use cluster::FOLD_VERSION;
use runtime::Failure;
use schemas::read::Head;
use schemas::subject;
use tests::bend::bend;
use tests::cluster::{Cluster, text};
use tokio::task::block_in_place;

use super::{Commands, PAIRS, Step, ends, load_on, metric, replace, user};
use crate::dice::Dice;
use crate::process::PATIENCE;
use crate::run::Checked;

const COMPARED: &str = "muster_states_compared_total";
const ANOTHER_FOLD: &str = "muster_states_of_another_fold_total";
const DIVERGED: &str = "muster_state_diverged_total";

/// Whether a cluster's event-log folds by another version than this release.
pub(super) async fn folds_otherwise(cluster: &Cluster) -> Result<bool, Failure> {
    let bus = user(cluster).await?;
    let head = bus.request(&subject::api("head"), b"{}".to_vec(), PATIENCE).await?;
    let head: Head = serde_json::from_slice(&head)?;
    Ok(head.fold_version != FOLD_VERSION)
}

/// The event-log that leads.
fn leader(cluster: &Cluster) -> Option<&'static str> {
    PAIRS[0]
        .into_iter()
        .find(|name| metric(cluster, name, "muster_log_leads").as_deref() == Some("1"))
}

/// What the event-log that leads counted of a service's states.
fn counted(cluster: &Cluster, name: &str, service: &str) -> u64 {
    let page = leader(cluster).and_then(|leader| cluster.page_of(leader, "/metrics"));
    let wanted = format!("{name}{{service=\"{service}\"}} ");
    let value = page.and_then(|(_, page)| {
        page.lines().find_map(|line| line.strip_prefix(&wanted)?.parse().ok())
    });
    value.unwrap_or(0)
}

/// By which name event-log knows what a process folds; none of an agent, which folds nothing.
fn known_as(cluster: &Cluster, name: &str) -> Option<String> {
    if cluster.nodes().iter().any(|node| node.as_str() == name) {
        return None;
    }
    match name.strip_prefix("gateway") {
        Some(_) => Some(format!("gateway.{}", cluster.nodes()[0])),
        None => Some(name.strip_suffix("-2").unwrap_or(name).to_owned()),
    }
}

/// Waits until a state of one that was just replaced was compared, by an event-log that was too.
pub(super) fn compares(cluster: &Cluster, name: &str, checked: &mut Checked) {
    let Some(service) = known_as(cluster, name) else { return };
    cluster.until(&format!("the state of the new {name} is compared"), |cluster| {
        counted(cluster, COMPARED, &service) > 0
    });
    checked.add("services whose state was compared", 1);
}

/// Waits until states of the old fold were heard of every service that decides: with both event-logs new
/// and everything else old, none compares.
pub(super) fn leaves_alone(cluster: &Cluster) {
    for [decider, _] in &PAIRS[1..] {
        cluster.until(&format!("the old {decider} says what its state is"), |cluster| {
            counted(cluster, ANOTHER_FOLD, decider) > 0
        });
    }
}

/// While something that decides is still of the old release: what compared, and what did not.
pub(super) fn mixed(cluster: &Cluster, checked: &mut Checked) -> Result<(), Failure> {
    let sum = |name| PAIRS.iter().map(|[service, _]| counted(cluster, name, service)).sum();
    let (compared, left): (u64, u64) = (sum(COMPARED), sum(ANOTHER_FOLD));
    if compared == 0 || left == 0 {
        return Err(format!("{compared} states compared, and {left} were of another fold").into());
    }
    checked.add("states of one fold compared while two were about", compared);
    checked.add("states of the other fold left alone", left);
    Ok(())
}

/// An upgrade whose first new event-log folds something else: every judge must say so, or they judge
/// nothing.
pub(super) async fn control(
    old: &Path,
    mut dice: Dice,
    mut checked: Checked,
) -> Result<Checked, Failure> {
    let mut cluster = block_in_place(|| Cluster::start_from(old, 1));
    let load = load_on(&cluster, &mut dice).await?;
    let commands = Commands::start(&cluster).await?;
    let mut scratch = Checked::default();
    let mut step = Step { load: &load, commands: &commands, checked: &mut scratch };
    step.goes_on("before anything is replaced").await?;
    cluster.upgrade();
    let [first, second] = PAIRS[0];
    block_in_place(|| {
        cluster.end(second);
        let _ = bend(&event_log::config::folder(&cluster.state(second)));
        cluster.run(second);
        cluster.until("the new event-log is ready", |cluster| {
            cluster.page_of(second, "/readyz").is_some_and(|(status, _)| status == 200)
        });
    });
    step.goes_on("with an event-log that folds something else").await?;
    block_in_place(|| replace(&mut cluster, first, true));
    step.goes_on("while that leads").await?;
    block_in_place(|| judged(&cluster, &mut checked))?;
    let told = commands.end().await?;
    load.pause().await?;
    match ends(&mut cluster, &load, &told, &mut scratch).await {
        Err(error) if error.to_string().contains("a state differed") => {}
        other => return Err(format!("the log says of no state that it differs: {other:?}").into()),
    }
    checked.add("judges that saw an upgrade that folds wrongly", 1);
    Ok(checked)
}

/// The number, the doctor and a replay: each says so.
fn judged(cluster: &Cluster, checked: &mut Checked) -> Result<(), Failure> {
    cluster.until("a state is counted that differs", |cluster| {
        counted(cluster, DIVERGED, "event-log") > 0
    });
    for (args, says) in
        [(vec!["doctor"], "the state of event-log ("), (vec!["replay", "--verify"], "")]
    {
        let output = cluster.muster(&args);
        let said = text(&output.stdout) + &text(&output.stderr);
        if output.status.success() || !said.contains(says) {
            return Err(format!("muster {args:?} sees nothing: {said}").into());
        }
    }
    checked.add("judges that saw an upgrade that folds wrongly", 3);
    Ok(())
}
