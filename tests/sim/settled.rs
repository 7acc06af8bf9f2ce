//! What must hold once nothing goes wrong any more and nothing more is decided.

use std::collections::BTreeSet;

use event_log::testing::audit;
use node_agent::engine::container_name;
use schemas::id::{AppKey, NodeName, WorkloadName};
use schemas::spec::{Condition, Mode, When, WorkloadSpec};

use crate::checks::{Failure, failure};
use crate::engine::HOPELESS;
use crate::log::Log;
use crate::model::{App, Replica, Workload};
use crate::world::World;

impl World {
    pub(crate) fn check_settled(&self) -> Result<(), Failure> {
        self.check_receipts()?;
        for log in &self.logs {
            self.check_log(log)?;
        }
        self.check_services()?;
        if let Some((id, _)) = self.checks.model.replicas.iter().find(|(_, r)| r.left.is_some()) {
            return failure("released-at-last", format!("{id} is still leaving"));
        }
        for (key, app) in &self.checks.model.apps {
            if app.deleting {
                return failure("deleted", format!("{key} is still there"));
            }
            for (name, workload) in &app.workloads {
                self.check_declared(key, app, name, workload)?;
            }
        }
        self.check_containers()?;
        self.check_redacted()
    }

    /// Every command has its receipt, and none has one that nobody sent.
    fn check_receipts(&self) -> Result<(), Failure> {
        let receipts = &self.checks.model.receipts;
        let sent: BTreeSet<_> = self.commands.all().iter().map(|c| c.id().clone()).collect();
        if let Some(command) = sent.iter().find(|id| !receipts.contains_key(*id)) {
            return failure("one-receipt", format!("{command} was never answered"));
        }
        match receipts.keys().find(|id| !sent.contains(*id)) {
            Some(command) => failure("one-receipt", format!("{command} was never sent")),
            None => Ok(()),
        }
    }

    /// Each log is whole, holds what was published and answered, and replays to the one state: from
    /// its first entry, from a snapshot, and as it is shown.
    fn check_log(&self, log: &Log) -> Result<(), Failure> {
        let replayed = audit(&log.store).or_else(|what| failure("log-is-whole", what))?;
        let seen = self.checks.replayed.cursor();
        if replayed.cursor() != seen {
            return failure("published-stays", format!("{} instead of {seen}", replayed.cursor()));
        }
        log.check_answers().or_else(|what| failure("answers-agree", what))?;
        let expected = (replayed.place(), replayed.state().hash());
        let Some(shown) = &log.shown else { return failure("log-leads", "it is down") };
        if shown.head() != expected {
            return failure("live-is-replayed", "what event-log shows differs");
        }
        let restored = shown.restore().or_else(|what| failure("snapshots", what))?;
        if let Some(mut fold) = restored {
            let from = fold.place().position;
            if self.checks.hash_at(from).is_none_or(|at| *at != (fold.place(), fold.state().hash()))
            {
                return failure("snapshots", format!("the one at {from} differs"));
            }
            for row in event_log::store::rows(&log.store, from + 1, seen.position)
                .or_else(|error| failure("readable", error.to_string()))?
            {
                fold.push(&row.bytes).or_else(|error| failure("snapshots", error.to_string()))?;
            }
            if (fold.place(), fold.state().hash()) != expected {
                return failure("snapshots", format!("the one at {from} and its tail differ"));
            }
        }
        Ok(())
    }

    /// One instance of each service leads, and all have folded all that matters.
    fn check_services(&self) -> Result<(), Failure> {
        let leading = self.logs.iter().filter(|log| log.leads()).count();
        let following = self.logs.iter().filter(|log| log.follows()).count();
        if (leading, following) != (1, self.logs.len() - 1) {
            let what = format!("of {}, {leading} lead and {following} follow", self.logs.len());
            return failure("log-leads", what);
        }
        for host in &self.hosts {
            let name = host.process.name();
            self.checks.state(host)?;
            // The last failure of what is hopeless may be on its way.
            let reached = host.process.state().map_or(0, |(place, _)| place.position);
            if reached < self.checks.model.moved || !host.process.is_at_rest() {
                return failure(
                    "services-follow",
                    format!("{name} is at {reached}, or not at rest"),
                );
            }
            let writer = host.process.writer();
            let leaders = self.hosts.iter().filter(|h| h.process.writer() == writer);
            if leaders.filter(|h| h.process.leads()).count() != 1 {
                return failure("one-leader", format!("{writer}"));
            }
        }
        Ok(())
    }

    fn check_declared(
        &self,
        key: &AppKey,
        app: &App,
        name: &WorkloadName,
        workload: &Workload,
    ) -> Result<(), Failure> {
        let model = &self.checks.model;
        let of_it: Vec<&Replica> = model
            .replicas
            .values()
            .filter(|r| r.app == *key && r.workload == *name && !r.retired)
            .collect();
        let current: Vec<&&Replica> = of_it
            .iter()
            .filter(|r| r.digest == workload.digest && r.generation == workload.generation)
            .collect();
        let ready = current.iter().filter(|r| r.ready).count();
        let there = u64::try_from(ready).unwrap_or(u64::MAX);
        let is_declared = match workload.spec.mode {
            Mode::Replicated => there == workload.replicas && of_it.len() == ready,
            Mode::Job if workload.spec.task.is_some() => !workload.turn.due && of_it.is_empty(),
            Mode::Job => workload.completed >= workload.replicas && of_it.is_empty(),
            Mode::Global => {
                let wanted = self.wanted_on(&workload.spec);
                let has: BTreeSet<_> = current.iter().filter_map(|r| r.node.clone()).collect();
                wanted.is_subset(&has) && of_it.len() == ready
            }
        };
        if is_declared || self.is_explained(app, (name, workload), &of_it, &current) {
            return Ok(());
        }
        let what = format!(
            "{key}/{name}: {there} ready, {} in all, {} completed; declared {} of {:?}",
            of_it.len(),
            workload.completed,
            workload.replicas,
            workload.spec.mode
        );
        failure("actual-is-declared", what)
    }

    /// The nodes on which a global workload must be.
    fn wanted_on(&self, spec: &WorkloadSpec) -> BTreeSet<NodeName> {
        let nodes = self.checks.model.nodes.iter();
        let wanted = nodes.filter(|(name, node)| {
            node.takes(Mode::Global)
                && spec.placement.constraints.iter().all(|c| node.meets(name, c))
        });
        wanted.map(|(name, _)| name.clone()).collect()
    }

    /// Whether the log says why a workload is not as declared, and that is true and all of it.
    fn is_explained(
        &self,
        app: &App,
        (name, workload): (&WorkloadName, &Workload),
        of_it: &[&Replica],
        current: &[&&Replica],
    ) -> bool {
        let model = &self.checks.model;
        // What should take an old one's place meanwhile, and fits nowhere, changes nothing of that.
        let fits = |replica: &Replica| model.nodes.keys().any(|node| model.fits(replica, node));
        let stuck = |r: &Replica| {
            let beside = r.replaces.as_ref().is_some_and(|old| model.replicas.contains_key(old));
            let told = !workload.unplaced.is_empty();
            beside && told && r.node.is_none() && r.digest != workload.digest && !fits(r)
        };
        let there: Vec<&Replica> = of_it.iter().copied().filter(|r| !stuck(r)).collect();
        if workload.waits(&there, current) {
            return true;
        }
        if workload.spec.image.starts_with(HOPELESS) {
            // Where no node took a global one the app converged without it, and converged it stays:
            // of a node that comes later its agent says what is wrong.
            let came_later = workload.spec.mode == Mode::Global && app.way.is_proven();
            return app.stalled.is_some() || came_later;
        }
        let hopeless = |r: &Replica| r.spec.image.starts_with(HOPELESS);
        let rest = of_it.iter().all(|r| r.ready || r.node.is_none() || hopeless(r));
        // While a rollout is held the old ones are wanted as well.
        let both = workload.is_held_with(current.len());
        let awaited = |r: &&&Replica| {
            r.node.is_none()
                && (both || r.digest == workload.digest && r.generation == workload.generation)
        };
        let waiting: Vec<_> = of_it.iter().filter(awaited).collect();
        if !waiting.is_empty() {
            let reasons: u64 = workload.unplaced.iter().map(|unfit| unfit.nodes).sum();
            let nodes = u64::try_from(model.nodes.len()).unwrap_or(u64::MAX);
            return reasons >= nodes && !waiting.iter().any(|r| fits(r)) && rest;
        }
        // What comes first is not there: that one has its own explanation.
        let held = workload.spec.depends_on.iter().any(|(name, condition)| {
            app.workloads.get(name).is_none_or(|first| !self.has_come(name, first, *condition))
        });
        let waits = match &workload.spec.task {
            None => app.first(name).next().is_some(),
            // What runs after the others has waited for them, or failed, which is told.
            Some(task) => {
                app.stalled.is_some() || (task.when == When::After && workload.turn.waits())
            }
        };
        (held || waits) && rest
    }

    fn has_come(&self, name: &WorkloadName, first: &Workload, condition: Condition) -> bool {
        let ready =
            self.checks.model.replicas.values().filter(|r| {
                r.workload == *name && r.digest == first.digest && r.ready && !r.retired
            });
        match condition {
            Condition::Completed => first.completed >= first.replicas,
            Condition::Started | Condition::Healthy => {
                first.spec.mode == Mode::Global
                    || u64::try_from(ready.count()).unwrap_or(u64::MAX) >= first.replicas
            }
        }
    }

    /// What runs is what the log says is ready, and nothing else of ours is there.
    fn check_containers(&self) -> Result<(), Failure> {
        let replicas = self.checks.model.replicas.iter();
        let recorded: BTreeSet<String> = replicas
            .filter(|(_, replica)| replica.ready)
            .map(|(id, replica)| container_name(id, replica.run))
            .collect();
        let running: BTreeSet<String> = self
            .nodes
            .iter()
            .flat_map(|node| node.engine.running().map(|(name, _)| name.clone()))
            .collect();
        if recorded != running {
            let lost: Vec<_> = recorded.difference(&running).collect();
            let extra: Vec<_> = running.difference(&recorded).collect();
            return failure(
                "actual-is-recorded",
                format!("not running {lost:?}, not recorded {extra:?}"),
            );
        }
        Ok(())
    }
}
