//! Commands about moving replicas to better nodes.

use cluster::State;
use schemas::command::{Common, Problem};
use schemas::event::{Event, RebalanceSet, RebalanceStarted};
use schemas::id::AppKey;

use super::{Effect, known_app};

/// Both are about the cluster as a whole.
fn of_cluster(events: Vec<Event>) -> Effect {
    Effect { object: "cluster/rebalance".to_owned(), app: None, events }
}

pub(super) fn start(
    state: &State,
    common: &Common,
    app: Option<AppKey>,
) -> Result<Effect, Problem> {
    if let Some(key) = &app {
        known_app(state, common, key)?;
    }
    if let Some(now) = &state.cluster.rebalance.now {
        let got = format!("another one, on its way since r{}", now.cause.position);
        let valid = "wait until that has ended: it looks at every app, or at the one it was for";
        return Err(Problem::new("already_on_its_way", "", &got, valid));
    }
    Ok(of_cluster(vec![RebalanceStarted { app, nodes: Vec::new(), calls: Vec::new() }.into()]))
}

/// What is so already changes nothing, and is of record as a command.
pub(super) fn set(state: &State, on: bool) -> Effect {
    let is_so = state.cluster.rebalance.auto.is_some() == on;
    let event = (!is_so).then(|| RebalanceSet { on }.into());
    of_cluster(event.into_iter().collect())
}
