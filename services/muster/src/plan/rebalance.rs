//! What `muster rebalance` would move, what that costs and what is gained.

use cluster::Fold;
use controller::commands::CommandMessage;
use decider::Now;
use scheduler::place::{Stays, stays};
use schemas::command::{Command, Common, StartRebalance};
use schemas::event::Event;
use schemas::id::{AppKey, NodeName, ReplicaId, WorkloadName};
use schemas::place::Place;
use serde::Serialize;

use super::message;
use super::whatif::{self, NodeLoad, loads};
use super::world::World;
use crate::client::Client;
use crate::error::CliError;
use crate::table::table;

/// What would move.
#[derive(Debug, Serialize)]
pub(crate) struct Moves {
    kind: &'static str,
    at: Place,
    /// Whether replicas move by themselves once a node has come and stayed, or calls are far.
    continuous: bool,
    /// The moves, in their order.
    items: Vec<Moved>,
    /// What is not moved, and why.
    stays: Vec<Stays>,
    nodes: Vec<NodeLoad>,
}

/// A move of a replica.
#[derive(Debug, Serialize)]
struct Moved {
    replica: ReplicaId,
    app: AppKey,
    workload: WorkloadName,
    from: NodeName,
    to: NodeName,
    cost: String,
    gain: String,
}

/// What the command would bring about now.
pub(crate) async fn moves(client: &Client, app: Option<&AppKey>) -> Result<Moves, CliError> {
    let head = client.head().await?.place.position;
    let fold = runtime::history::at(&client.bus, head).await?;
    if let Some(what) = fold.blocked() {
        let text = format!("{what} needs a newer release than this one to be understood");
        return Err(CliError::internal(text));
    }
    let (command, common) = command(app);
    Moves::of(fold, message(client, &command, &common), app, runtime::clock::now())
}

/// The command, as it is sent.
pub(crate) fn command(app: Option<&AppKey>) -> (Command, Common) {
    let tenant = app.map(|app| app.tenant.clone());
    let app = app.map(|app| app.name.clone());
    (Command::StartRebalance(StartRebalance { app }), Common { tenant, ..Common::default() })
}

impl Moves {
    fn of(
        fold: Fold,
        message: CommandMessage,
        app: Option<&AppKey>,
        now: Now,
    ) -> Result<Self, CliError> {
        let (at, before) = (fold.place(), fold.state().clone());
        let after = World::new(fold, None, now).run([message]);
        let after = after.map_err(|error| CliError::internal(error.to_string()))?;
        if let Some(rejected) = after.rejected() {
            return Err(CliError::rejected(&rejected.problem));
        }
        let items = after.events.iter().filter_map(|envelope| match &envelope.event {
            Event::MovesPlanned(planned) => Some(planned),
            _ => None,
        });
        let items = items.flat_map(|planned| {
            planned.moves.iter().map(|one| Moved {
                replica: one.replica.clone(),
                app: planned.app.clone(),
                workload: planned.workload.clone(),
                from: one.from.clone(),
                to: one.to.clone(),
                cost: if one.pulls { "a start, a pull" } else { "a start" }.to_owned(),
                gain: one.gain.clone(),
            })
        });
        Ok(Self {
            kind: "RebalancePlan",
            at,
            continuous: before.cluster.rebalance.auto.is_some(),
            items: items.collect(),
            stays: stays(&before, app),
            nodes: loads(&before, after.state()),
        })
    }

    /// Whether nothing is gained by any move.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// For people.
    pub(crate) fn told(&self) -> String {
        let mut text = String::new();
        let row = |one: &Moved| {
            let (from, to) = (one.from.to_string(), one.to.to_string());
            vec![one.replica.to_string(), from, to, one.cost.clone(), one.gain.clone()]
        };
        let rows: Vec<_> = self.items.iter().map(row).collect();
        if rows.is_empty() {
            let at = self.at.position;
            text.push_str(&format!("Nothing to move: no move gains anything, as of r{at}.\n"));
        } else {
            text.push_str(&table(&["REPLICA", "FROM", "TO", "COSTS", "GAINS"], &rows));
        }
        if !self.stays.is_empty() {
            text.push_str("\nNot moved:\n");
        }
        for Stays { app, workload, replicas, reason } in &self.stays {
            let app = app.short();
            text.push_str(&format!("  {app}/{workload}, replicas {replicas}: {reason}\n"));
        }
        if !rows.is_empty() {
            text.push('\n');
            text.push_str(&whatif::told(&self.nodes));
        }
        text
    }

    /// How it ends when nothing is sent.
    pub(crate) fn nothing_sent(&self) -> String {
        let by_itself = if self.continuous { "on" } else { "off" };
        let at = self.at.position;
        format!(
            "\nAs of r{at}. Nothing was sent. By itself, when a node comes or calls are far: {by_itself}.\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use cluster::history::{History, app};

    use super::*;
    use crate::plan::tests::{running, shop};

    fn planned(fold: &Fold, of: Option<&AppKey>) -> Result<Moves, CliError> {
        let (command, common) = command(of);
        let subject = schemas::subject::command(command.verb());
        let payload = command.encode(&common);
        let message = CommandMessage::new(u64::MAX, &subject, None, Some("ana"), 2_000, payload);
        Moves::of(fold.clone(), message, of, Now { utc_ms: 2_000, mono_ms: 1_000 })
    }

    /// The same, with one more node.
    fn joined(fold: Fold) -> Fold {
        let mut history = History::default();
        history.fold = fold;
        history.node("n2", 2, 4);
        history.fold
    }

    #[test]
    fn a_plan_says_what_moves_and_what_that_costs_and_gains() {
        let fold = joined(running(&shop(4), &["n1"]));
        let plan = planned(&fold, None).expect("it is taken");
        assert_eq!(plan.items.len(), 2);
        let told = plan.told();
        for part in ["a start, a pull", "4 and 0, then 3 and 1", "4 → 2", "0 → 2"] {
            assert!(told.contains(part), "{part} is not in\n{told}");
        }
        assert_eq!(planned(&fold, Some(&app("shop"))).expect("it is taken").items.len(), 2);
        let other = planned(&fold, Some(&app("other"))).expect_err("there is none");
        assert!(other.text.contains("not_found"), "{}", other.text);
    }

    #[test]
    fn a_plan_that_gains_nothing_is_empty_and_says_what_stays() {
        let plan = planned(&running(&shop(4), &["n1", "n2"]), None).expect("it is taken");
        assert!(plan.is_empty() && plan.told().starts_with("Nothing to move"), "{}", plan.told());
        let mut packed = shop(4);
        packed.placement.strategy = schemas::spec::Strategy::BinPack;
        let plan = planned(&joined(running(&packed, &["n1"])), None).expect("it is taken");
        assert!(plan.is_empty() && plan.told().contains("shop/web, replicas 4: it is to fill"));
    }
}
