//! Why a replica exists, is where it is, waits, died, or gave its place to another.

use schemas::envelope::Envelope;
use schemas::event::{
    Event, Move, Outcome, ReplicaEnded, ReplicasPlaced, ReplicasReleased, ReplicasRequested,
    ReplicasRetired, RequestedReplica, node_entity, replica_entity, workload_entity,
};
use schemas::id::ReplicaId;
use schemas::read::{LogRequest, ReplicaView};

use super::answer::{Answer, Case, Link, Part, ending};
use super::records::Stop;
use super::workload;
use crate::args::Aspect;
use crate::tell;

/// How much of a replica's own history is read, from its beginning and from its end.
const FIRST: u64 = 30;
const NEWEST: u64 = 100;

/// What became of a replica.
struct Life<'a> {
    case: &'a Case<'a>,
    id: &'a ReplicaId,
    requested: (&'a Envelope, &'a ReplicasRequested, &'a RequestedReplica),
    placed: Option<(&'a Envelope, &'a ReplicasPlaced)>,
    retired: Option<(&'a Envelope, &'a ReplicasRetired)>,
    /// That it had finished what was under way, or had had its time for it.
    released: Option<(&'a Envelope, &'a ReplicasReleased)>,
    ended: Option<(&'a Envelope, &'a ReplicaEnded)>,
    /// The last that was wrong with a run of it.
    trouble: Option<&'a Envelope>,
    /// That another was requested in its place.
    successor: Option<(&'a Envelope, &'a RequestedReplica)>,
    /// That its node was removed, and it with it.
    removed: Option<&'a Envelope>,
    /// How it is, while it is.
    view: Option<&'a ReplicaView>,
}

pub(crate) fn answer(
    case: &Case<'_>,
    id: &ReplicaId,
    aspect: Option<Aspect>,
) -> Result<Answer, Stop> {
    let life = Life::of(case, id)?;
    let parts = match aspect {
        Some(Aspect::Exists) => vec![life.exists()?],
        Some(Aspect::Here) => vec![life.here()?],
        Some(Aspect::Pending) => vec![life.pending()?],
        Some(Aspect::Dead) => vec![life.dead()?],
        Some(Aspect::Moved) => life.moved()?,
        Some(Aspect::Count) => {
            return Err(Stop::Asked(
                "exists, here, pending, dead or moved; `count` is asked of APP/WORKLOAD",
            ));
        }
        None => life.all()?,
    };
    let mut more = vec![format!("muster log {id}")];
    if life.view.is_some() {
        more.push(format!("muster logs {id}"));
    }
    let positions = parts.iter().filter_map(|part| part.chain.first());
    more.extend(positions.take(1).map(|link| format!("muster show r{}", link.position)));
    Ok(Answer { summary: life.summary(), parts, more })
}

impl<'a> Life<'a> {
    fn of(case: &'a Case<'a>, id: &'a ReplicaId) -> Result<Self, Stop> {
        let entity = replica_entity(id);
        let first = case.records.first(&entity, FIRST)?;
        let newest = case.records.newest(&entity, &[], 1, NEWEST)?;
        let requested = first.iter().find_map(|event| match &event.event {
            Event::ReplicasRequested(e) => {
                Some((event, e, e.replicas.iter().find(|r| r.id == *id)?))
            }
            _ => None,
        });
        let mut life = Self {
            case,
            id,
            requested: requested.ok_or(Stop::Unknown)?,
            placed: None,
            retired: None,
            released: None,
            ended: None,
            trouble: None,
            successor: None,
            removed: None,
            view: case.page.replicas.iter().find(|view| view.replica == *id),
        };
        for event in first.iter().chain(newest) {
            life.note(event);
        }
        if let (None, None, Some((at, placed))) = (life.view, life.ended, life.placed) {
            let from = at.header.position;
            let removed =
                case.records.newest(&node_entity(&placed.node), &["NodeRemoved"], from, 1)?;
            life.removed = removed.first();
        }
        Ok(life)
    }

    fn note(&mut self, event: &'a Envelope) {
        match &event.event {
            Event::ReplicasPlaced(e) => self.placed = Some((event, e)),
            Event::ReplicasRetired(e) => self.retired = self.retired.or(Some((event, e))),
            Event::ReplicasReleased(e) => self.released = Some((event, e)),
            Event::ReplicaEnded(e) => self.ended = Some((event, e)),
            Event::RunEnded(_) | Event::RunFailed(_) | Event::ReplicaUnready(_) => {
                self.trouble = Some(event);
            }
            Event::ReplicasRequested(e) => {
                let successor = e.replicas.iter().find(|r| r.replaces.as_ref() == Some(self.id));
                self.successor = successor.map(|r| (event, r)).or(self.successor);
            }
            _ => {}
        }
    }

    fn workload(&self) -> String {
        format!("{}/{}", self.requested.1.app.short(), self.requested.1.workload)
    }

    /// How it is, in a sentence.
    fn summary(&self) -> String {
        let (id, workload) = (self.id, self.workload());
        if let Some(view) = self.view {
            let on = view.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
            let (status, since) = (&view.status, self.case.ago(view.since_ms));
            let run = if view.run > 0 { format!(", run {}", view.run) } else { String::new() };
            let rest = format!("{workload}, revision {}{run}", view.revision);
            return match &view.trouble {
                Some(trouble) if view.status != "ready" => {
                    format!("{id} is {status}{on} for {since} ({rest}): {trouble}")
                }
                _ => format!("{id} is {status}{on} for {since} ({rest})"),
            };
        }
        let on = self.placed.map(|(_, placed)| format!(" on {}", placed.node)).unwrap_or_default();
        let (at, how) = match (self.ended, self.removed, self.retired) {
            (Some((at, ended)), ..) => (at, outcome(&ended.outcome)),
            (None, Some(at), _) => (at, "its node was removed".to_owned()),
            (None, None, Some((at, _))) => (at, "it never had a node".to_owned()),
            (None, None, None) => return format!("{id} of {workload} is gone"),
        };
        let (position, ago) = (at.header.position, self.case.ago(at.header.recorded_ms));
        format!("{id} of {workload} ended{on} at r{position}, {ago} ago: {how}")
    }

    /// What is worth knowing as it is now, the most urgent first.
    fn all(&self) -> Result<Vec<Part>, Stop> {
        let mut parts = Vec::new();
        match self.view.map(|view| view.status.as_str()) {
            Some("pending") => parts.push(self.pending()?),
            Some("unknown") => parts.extend(self.unknown()?),
            None | Some("leaving" | "ending") => parts.push(self.dead()?),
            Some("ready") if self.view.is_some_and(|view| view.run <= 1) => {}
            Some(_) if self.trouble.is_some() => parts.push(self.dead()?),
            Some(_) => {}
        }
        parts.extend(self.successor_part()?);
        if self.placed.is_some() && self.view.is_some() {
            parts.push(self.here()?);
        }
        parts.push(self.exists()?);
        Ok(parts)
    }

    /// Why nobody knows how it is.
    fn unknown(&self) -> Result<Option<Part>, Stop> {
        let Some((_, placed)) = self.placed else { return Ok(None) };
        let kinds = ["NodeLost", "NodeDeclaredLost"];
        let lost = self.case.records.newest(&node_entity(&placed.node), &kinds, 1, 1)?;
        let Some(event) = lost.first() else { return Ok(None) };
        let reasons = vec![
            format!("its node {} is lost: nobody knows whether it still runs there", placed.node),
            "it ends once its replacement is ready; `muster remove-node` says that it is gone"
                .to_owned(),
        ];
        self.case.part("Why it is unknown", reasons, event, None).map(Some)
    }

    fn exists(&self) -> Result<Part, Stop> {
        let (event, of, own) = self.requested;
        let mut reasons = Vec::new();
        match &own.replaces {
            Some(old) => reasons.push(format!("it replaces {old}: {}", self.why_replaced(event)?)),
            None => match self.in_place_of(event)? {
                Some((_, ended)) => reasons.push(format!(
                    "one more was needed because {} had ended: {}",
                    ended.replica,
                    outcome(&ended.outcome)
                )),
                None => reasons.push(self.declared(event, of)?),
            },
        }
        if let Some(node) = &own.node {
            reasons
                .push(format!("its workload is global: one on every node, and this is {node}'s"));
        }
        let mut part = self.case.part("Why it exists", reasons, event, Some(self.id))?;
        if let Some((at, _)) = self.in_place_of(event)?.filter(|_| own.replaces.is_none()) {
            part.chain.insert(1, Link::of(at, None));
        }
        self.add_measured(&mut part, event)?;
        Ok(part)
    }

    /// Adds what was measured, where another was requested because of that, right behind the plan.
    fn add_measured(&self, part: &mut Part, requested: &Envelope) -> Result<(), Stop> {
        let Some(position) = requested.header.causation else { return Ok(()) };
        let Some(Event::MovesPlanned(e)) =
            self.case.records.at(position)?.map(|cause| &cause.event)
        else {
            return Ok(());
        };
        let told = requested_moves(requested, &e.moves).find_map(|one| one.measured_at);
        let Some(told) = told.filter(|at| part.chain.iter().all(|link| link.position != *at))
        else {
            return Ok(());
        };
        if let Some(event) = self.case.records.at(told)? {
            part.chain.insert(part.chain.len().min(2), Link::of(event, None));
        }
        Ok(())
    }

    /// Why another had to be replaced by the one that was requested here.
    fn why_replaced(&self, requested: &Envelope) -> Result<String, Stop> {
        let cause = match requested.header.causation {
            Some(position) => self.case.records.at(position)?,
            None => None,
        };
        Ok(match cause.map(|cause| &cause.event) {
            Some(Event::NodeLost(e)) => format!("its node {} was lost", e.node),
            Some(Event::NodeDeclaredLost(e)) => format!("its node {} was declared lost", e.node),
            Some(Event::NodeCordoned(e)) if e.drain => format!("its node {} is drained", e.node),
            Some(Event::MovesPlanned(e)) => {
                let mut mine = requested_moves(requested, &e.moves);
                mine.next().map_or_else(|| "it moves to another node".to_owned(), tell::moved)
            }
            Some(Event::AppDeployed(e)) => format!("revision {} declares it otherwise", e.revision),
            Some(Event::WorkloadRestarted(_)) => "its workload is restarted".to_owned(),
            Some(Event::ReplicasPlaced(e)) => format!("{} cannot get its image", e.node),
            Some(other) => tell::words(other),
            None => "history does not say why".to_owned(),
        })
    }

    /// Why it was asked for, when it takes no other's place.
    fn declared(&self, requested: &Envelope, of: &ReplicasRequested) -> Result<String, Stop> {
        let cause = match requested.header.causation {
            Some(position) => self.case.records.at(position)?,
            None => None,
        };
        let count = of.replicas.len();
        Ok(match cause.map(|cause| &cause.event) {
            Some(Event::AppDeployed(e)) => {
                let wanted = e.spec.workloads.get(&of.workload).map_or(0, |spec| spec.replicas);
                let all = usize::try_from(wanted).is_ok_and(|wanted| wanted == count);
                let missing =
                    if all { String::new() } else { format!(", and {count} were missing") };
                format!("revision {} declares {wanted} of {}{missing}", e.revision, self.workload())
            }
            Some(Event::WorkloadScaled(e)) => {
                format!("{} was scaled {} → {}", self.workload(), e.from, e.to)
            }
            _ => format!("{count} of {} were missing", self.workload()),
        })
    }

    /// The replica of the workload that had ended right before: what another was requested for.
    fn in_place_of(
        &self,
        requested: &'a Envelope,
    ) -> Result<Option<(&'a Envelope, &'a ReplicaEnded)>, Stop> {
        let Some(cause) = requested.header.causation else { return Ok(None) };
        let (_, of, own) = self.requested;
        if own.replaces.is_some() {
            return Ok(None);
        }
        let prefix = format!("{}-{}-", of.app.name, of.workload);
        let ended = self.case.records.ask(LogRequest {
            from: cause,
            to: Some(requested.header.position),
            kinds: vec!["ReplicaEnded".to_owned()],
            newest: true,
            limit: Some(20),
            ..LogRequest::default()
        })?;
        Ok(ended.iter().rev().find_map(|event| match &event.event {
            Event::ReplicaEnded(e)
                if e.replica.as_str().starts_with(&prefix) && e.outcome != Outcome::Stopped =>
            {
                Some((event, e))
            }
            _ => None,
        }))
    }

    fn here(&self) -> Result<Part, Stop> {
        let Some((event, placed)) = self.placed else {
            let reasons = vec!["it has no node yet: see below why".to_owned()];
            let mut part = self.pending()?;
            part.reasons.splice(0..0, reasons);
            return Ok(part);
        };
        let mut reasons = vec![placed.chosen.clone()];
        reasons.extend(
            placed.passed_over.iter().map(|over| format!("not {}", tell::passed_over(over))),
        );
        if let Some(node) = &self.requested.2.node {
            reasons.insert(0, format!("it is for {node} and no other: its workload is global"));
        }
        let chain = vec![Link::of(event, Some(self.id))];
        Ok(Part { title: format!("Why on {}", placed.node), reasons, chain, root: None })
    }

    fn pending(&self) -> Result<Part, Stop> {
        let (requested, of, _) = self.requested;
        if let Some((event, placed)) = self.placed {
            let mut reasons = vec![format!("it does not wait for a node: it has {}", placed.node)];
            let last = self.trouble.unwrap_or(event);
            reasons.push(tell::words(&last.event));
            return self.case.part("Why it is not ready", reasons, last, Some(self.id));
        }
        let entity = workload_entity(&of.app, &of.workload);
        let from = requested.header.position;
        let told = self.case.records.newest(&entity, &["ReplicasUnplaced"], from, 1)?;
        let Some(event) = told.first() else {
            let reasons = vec![self.undecided()?];
            return self.case.part("Why it is pending", reasons, requested, Some(self.id));
        };
        let mut reasons = workload::unfit(event);
        reasons.extend(workload::room(self.case.page));
        self.case.part("Why it is pending", reasons, event, Some(self.id))
    }

    /// Why the scheduler has said nothing of it.
    fn undecided(&self) -> Result<String, Stop> {
        let kinds = ["LeadershipTaken", "LeadershipReleased"];
        let led = self.case.records.newest("leader/scheduler", &kinds, 1, 1)?;
        Ok(match led.first().map(|event| (&event.event, event.header.position)) {
            Some((Event::LeadershipReleased(_), at)) => {
                format!("no scheduler leads since r{at}: start muster-scheduler")
            }
            None => "no scheduler has ever led: start muster-scheduler".to_owned(),
            Some(_) => {
                "the scheduler has not said anything of it yet: it decides within a second, \
                        or is away (`muster doctor`)"
                    .to_owned()
            }
        })
    }

    fn dead(&self) -> Result<Part, Stop> {
        if let Some((event, retired)) = self.retired {
            let mut reasons =
                vec![format!("it was told to end: {}", tell::reason(&retired.reason))];
            if retired.leaving {
                reasons.push(self.left());
            }
            if let Some((at, ended)) = self.ended {
                let position = at.header.position;
                reasons.push(format!("it then ended, at r{position}: {}", outcome(&ended.outcome)));
            }
            let leaves = self.view.is_some_and(|view| view.status == "leaving");
            let title = if leaves { "Why it is leaving" } else { "Why it ended" };
            return self.case.part(title, reasons, event, Some(self.id));
        }
        if let Some(removed) = self.removed {
            let reasons =
                vec!["its node was removed, and all that was on it counts as ended".to_owned()];
            return self.case.part("Why it ended", reasons, removed, Some(self.id));
        }
        let title = if self.ended.is_some() { "Why it died" } else { "Why its last run ended" };
        let Some(event) = self.trouble.or(self.ended.map(|(at, _)| at)) else {
            let reasons = vec!["it did not: nothing ended, nothing failed".to_owned()];
            return Ok(Part { title: "Why it died".to_owned(), reasons, ..Part::default() });
        };
        let reasons = match &event.event {
            Event::RunEnded(e) => ending(e, self.case, event.header.recorded_ms),
            other => vec![tell::words(other)],
        };
        // What it was started for is told of where it is told why it exists.
        let chain = vec![Link::of(event, Some(self.id))];
        Ok(Part { title: title.to_owned(), reasons, chain, root: None })
    }

    /// How it finished what was under way before it was asked to stop.
    fn left(&self) -> String {
        let Some((at, released)) = self.released else {
            return "it first finishes what is under way: it is asked to stop when every gateway has \
                    let go of it, or its time for that has passed"
                .to_owned();
        };
        let (position, how) = (at.header.position, tell::released(released));
        let how =
            if how.is_empty() { "no gateway was heard of".to_owned() } else { how.join("; ") };
        format!("it was asked to stop at r{position}, when nothing was sent to it any more: {how}")
    }

    fn moved(&self) -> Result<Vec<Part>, Stop> {
        let mut parts: Vec<Part> = self.successor_part()?.into_iter().collect();
        if self.requested.2.replaces.is_some() {
            parts.push(self.exists()?);
        }
        if let (Some(over), Some((_, new))) = (self.called_off()?, self.successor) {
            let reasons = vec![format!("it was not: {} was to take its place and is over", new.id)];
            parts.push(self.case.part("Why it stays", reasons, over, Some(&new.id))?);
        }
        if parts.is_empty() {
            let reasons =
                vec!["it was not: it replaces no other, and no other replaces it".to_owned()];
            parts.push(Part { title: "Why it was moved".to_owned(), reasons, ..Part::default() });
        }
        Ok(parts)
    }

    /// That the one which was to take its place was called off: this one is still there, and that not.
    fn called_off(&self) -> Result<Option<&Envelope>, Stop> {
        let (Some((_, new)), Some(_)) = (self.successor, self.view) else { return Ok(None) };
        let kinds = ["ReplicasRetired", "ReplicaEnded"];
        let over = self.case.records.newest(&replica_entity(&new.id), &kinds, 1, 1)?;
        Ok(over.first())
    }

    /// Why another took its place. A replica never moves.
    fn successor_part(&self) -> Result<Option<Part>, Stop> {
        let Some((event, new)) = self.successor else { return Ok(None) };
        if self.called_off()?.is_some() {
            return Ok(None);
        }
        let reasons = vec![format!("{} takes its place: {}", new.id, self.why_replaced(event)?)];
        let mut part = self.case.part("Why it was replaced", reasons, event, Some(self.id))?;
        self.add_measured(&mut part, event)?;
        Ok(Some(part))
    }
}

/// Of these moves those that a request is for.
fn requested_moves<'a>(
    requested: &'a Envelope,
    moves: &'a [Move],
) -> impl Iterator<Item = &'a Move> {
    let replicas = match &requested.event {
        Event::ReplicasRequested(e) => e.replicas.as_slice(),
        _ => &[],
    };
    moves.iter().filter(|one| replicas.iter().any(|r| r.replaces.as_ref() == Some(&one.replica)))
}

/// How a replica ended, in words.
pub(super) fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Stopped => "stopped as asked".to_owned(),
        Outcome::Completed => "it completed".to_owned(),
        Outcome::Failed { reason } => reason.clone(),
    }
}
