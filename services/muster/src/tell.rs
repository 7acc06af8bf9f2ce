//! Events in words.

use schemas::envelope::Envelope;
use schemas::event::{
    CallsMeasured, Event, Measured, Move, Outcome, PassedOver, RebalanceEnded, ReplicasReleased,
    RetireReason,
};
use schemas::id::ReplicaId;

/// One line: position, time, writer, what happened, and who asked for it if that was another.
pub(crate) fn line(envelope: &Envelope) -> String {
    let at = &envelope.header;
    let writer = at.writer.to_string();
    let by = if at.actor == writer { String::new() } else { format!("  by {}", at.actor) };
    let (time, words) = (time(at.recorded_ms), words(&envelope.event));
    format!("{:>7}  {time}  {writer:<14}  {words}{by}", format!("r{}", at.position))
}

/// The same, beneath what it follows from.
pub(crate) fn under(envelope: &Envelope, lines: &str) -> String {
    let at = &envelope.header;
    let by = match at.actor == at.writer.to_string() {
        true => String::new(),
        false => format!("  by {}", at.actor),
    };
    let (clock, words) = (format(at.recorded_ms, "%H:%M:%S"), words(&envelope.event));
    format!("{clock}  {lines}r{}  {words}{by}", at.position)
}

/// A moment, to the millisecond, by the local clock: what is printed can be typed as `--at`.
pub(crate) fn time(ms: u64) -> String {
    format(ms, "%Y-%m-%d %H:%M:%S%.3f")
}

/// A moment as seen from another: the time of day, and the date where it is another.
pub(crate) fn clock(ms: u64, now_ms: u64) -> String {
    let same = format(ms, "%F") == format(now_ms, "%F");
    format(ms, if same { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" })
}

fn format(ms: u64, pattern: &str) -> String {
    let utc = i64::try_from(ms).ok().and_then(chrono::DateTime::from_timestamp_millis);
    let local = utc.map(|utc| utc.with_timezone(&chrono::Local));
    local.map_or_else(|| "?".to_owned(), |local| local.format(pattern).to_string())
}

pub(crate) fn list<T: ToString>(items: &[T]) -> String {
    const SHOWN: usize = 4;
    let mut text = items.iter().take(SHOWN).map(T::to_string).collect::<Vec<_>>().join(", ");
    if items.len() > SHOWN {
        text.push_str(&format!(" and {} more", items.len() - SHOWN));
    }
    text
}

fn gets(replicas: &[ReplicaId]) -> String {
    format!("{} {}", list(replicas), if replicas.len() == 1 { "gets" } else { "get" })
}

/// By which gateways replicas were let go of, and what was left open.
pub(crate) fn released(e: &ReplicasReleased) -> Vec<String> {
    let mut told = Vec::new();
    if e.gateways > 0 {
        told.push(format!("{} let go of it", count(e.gateways, "gateway")));
    }
    if !e.silent.is_empty() {
        told.push(format!("nothing was heard of the gateway of {}", list(&e.silent)));
    }
    if e.open > 0 {
        told.push(format!("its time had passed with {} still under way", e.open));
    }
    told
}

pub(crate) fn reason(reason: &RetireReason) -> &'static str {
    match reason {
        RetireReason::ScaledDown => "there are more than declared",
        RetireReason::Replaced => "another of the declared revision took its place",
        RetireReason::Deleted => "it is not declared any more",
        RetireReason::Drained => "its node is being drained",
        RetireReason::NodeLost => "its node was lost and another took its place",
        RetireReason::NotNeeded => "it is not needed: the one it was to replace stays",
        RetireReason::Failed => "it failed",
        RetireReason::NoImage => "its node cannot get its image and another took its place",
        RetireReason::Rebalanced => "another on a better node took its place",
    }
}

/// What gateways measured of a rollout, as an addition to a sentence.
pub(crate) fn measured(measured: Option<&Measured>) -> String {
    let Some(m) = measured else { return String::new() };
    format!(
        "; {} of {} requests failed, of the old ones {} of {}",
        m.failed, m.requests, m.old_failed, m.old_requests
    )
}

/// So many of something.
pub(crate) fn count(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// A move, and what is gained by it.
pub(crate) fn moved(one: &Move) -> String {
    format!("{} is to move from {} to {}: {}", one.replica, one.from, one.to, one.gain)
}

/// A time to connect, in ms.
fn connects_in(us: u64) -> String {
    format!("{}.{} ms", us / 1_000, us % 1_000 / 100)
}

/// Who calls a workload, and how far that is.
fn calls(e: &CallsMeasured) -> String {
    let caller = |caller: &schemas::event::Caller| {
        let (whole, tenths) = (caller.rate_milli / 1_000, caller.rate_milli % 1_000 / 100);
        format!("{}/{}, {whole}.{tenths} times a second", caller.app, caller.workload)
    };
    let callers: Vec<String> = e.callers.iter().map(caller).collect();
    if callers.is_empty() {
        return format!("{}/{} is called by nobody any more", e.app, e.workload);
    }
    let way = |way: &schemas::event::Way| {
        format!("{} from {} to {}", connects_in(way.connect_us), way.from, way.to)
    };
    let ways: Vec<String> = e.ways.iter().map(way).collect();
    let ways = if ways.is_empty() { String::new() } else { format!("; {}", list(&ways)) };
    format!(
        "{}/{} is called by {}: {} to connect{ways}",
        e.app,
        e.workload,
        list(&callers),
        connects_in(e.connect_us),
    )
}

/// What came of moves.
pub(crate) fn moves_ended(e: &RebalanceEnded) -> String {
    let stayed = u64::try_from(e.stayed.len()).unwrap_or(u64::MAX);
    let moved = count(e.planned.saturating_sub(stayed), "replica");
    let but = match e.stayed.as_slice() {
        [] => String::new(),
        stayed => format!("; {} stayed, as no other came up in time", list(stayed)),
    };
    format!("{moved} moved, and nothing is gained by another move{but}")
}

/// Why nodes did not fit, in words.
pub(crate) fn passed_over(over: &PassedOver) -> String {
    format!("{} ({})", count(over.nodes, "node"), over.reason)
}

/// What an event says, in words.
pub(crate) fn words(event: &Event) -> String {
    match event {
        Event::SequencerTaken(e) => {
            let took = format!("event-log {} took the sequence", short(&e.instance));
            match &e.accept_loss {
                Some(end) => format!("{took}, without what had been published behind {end}"),
                None => took,
            }
        }
        Event::PositionVoided(_) => {
            "voided: the log never wrote what stood here, or a bundle leaves it out".to_owned()
        }
        Event::HistoryForked(e) => format!("a copy of history up to {} goes its own way", e.from),
        Event::StateDiverged(e) => format!(
            "the state that {} ({}) has of {} is not the one the log folds to",
            e.writer,
            short(&e.instance),
            e.place
        ),
        Event::GatewayDiverged(e) => format!(
            "the state that the gateway of {} has of {} is not the one the log folds to",
            e.node, e.place
        ),
        Event::CertificateOrdered(e) => {
            format!("the gateway of {} orders a certificate of {}", e.node, e.host)
        }
        Event::CertificateIssued(e) => format!(
            "{} has a certificate, ordered by the gateway of {}, valid until {}",
            e.host,
            e.node,
            crate::lists::moment(e.not_after_ms)
        ),
        Event::CertificateFailed(e) => {
            format!("the gateway of {} got no certificate of {}: {}", e.node, e.host, e.error)
        }
        Event::IntakeClosed(e) => format!(
            "the disk of {} has {} left: commands that ask for more are refused until it has {}",
            if e.disk == "nats" { "NATS" } else { "the log" },
            crate::table::bytes(e.free_bytes),
            crate::table::bytes(e.needed_bytes)
        ),
        Event::IntakeOpened(_) => "the disks have room again: commands are taken".to_owned(),
        Event::LeadershipTaken(e) => format!("{} took term {}", e.writer, e.term),
        Event::LeadershipReleased(e) => format!("{} released term {}", e.writer, e.term),
        Event::CommandAccepted(e) => match &e.reason {
            Some(why) => format!("{} {} accepted: {why}", e.verb, short(e.command.as_str())),
            None => format!("{} {} accepted", e.verb, short(e.command.as_str())),
        },
        Event::CommandRejected(e) => {
            format!("{} {} rejected: {}", e.verb, short(e.command.as_str()), e.problem)
        }
        Event::AppDeployed(e) => {
            let names: Vec<_> = e.spec.workloads.keys().collect();
            format!("{} declared, revision {}: {}", e.app, e.revision, list(&names))
        }
        Event::RebalanceStarted(e) => {
            let of = e.app.as_ref().map(|app| format!(" of {app}")).unwrap_or_default();
            let came = match e.nodes.as_slice() {
                [] => None,
                nodes => Some(format!("{} came and stayed", list(nodes))),
            };
            let far: Vec<_> = e.calls.iter().map(|c| format!("{}/{}", c.app, c.workload)).collect();
            let far = (!far.is_empty()).then(|| format!("{} far from what calls it", list(&far)));
            let why: Vec<String> = came.into_iter().chain(far).collect();
            let why = if why.is_empty() { String::new() } else { format!(": {}", list(&why)) };
            format!("replicas{of} are moved to where that gains something{why}")
        }
        Event::CallsMeasured(e) => calls(e),
        Event::RebalanceSet(e) if e.on => {
            "replicas are moved by themselves once a node has come and stayed, or calls are far"
                .to_owned()
        }
        Event::RebalanceSet(_) => "replicas are not moved by themselves".to_owned(),
        Event::MovesPlanned(e) => {
            let moves = e.moves.iter().map(moved);
            moves.collect::<Vec<_>>().join("; ")
        }
        Event::RebalanceEnded(e) => moves_ended(e),
        Event::AppConverged(e) => {
            let jobs = e.failed.iter().map(|f| format!("; {} failed: {}", f.workload, f.reason));
            let jobs: String = jobs.collect();
            format!("{} runs as declared, revision {}{jobs}", e.app, e.revision)
        }
        Event::AppStalled(e) => format!("{} stalled at {}: {}", e.app, e.workload, e.reason),
        Event::AppDeleteStarted(e) => format!("{} is being deleted", e.app),
        Event::AppDeleted(e) => format!("{} deleted", e.app),
        Event::WorkloadScaled(e) => {
            let why = e.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            format!("{}/{} scaled {} → {}{why}", e.app, e.workload, e.from, e.to)
        }
        Event::WorkloadRestarted(e) => format!("{}/{} to be restarted", e.app, e.workload),
        Event::RolloutFailed(e) => format!(
            "{}/{} failed at revision {}: {}; back to what revision {} declared",
            e.app, e.workload, e.revision, e.reason, e.back_to
        ),
        Event::RolloutStepped(e) => format!(
            "{}/{} goes on to {} % of the traffic for revision {}{}",
            e.app,
            e.workload,
            e.weight_percent,
            e.revision,
            measured(e.measured.as_ref())
        ),
        Event::RolloutPromoted(e) => format!(
            "{}/{} promoted: revision {} takes over{}",
            e.app,
            e.workload,
            e.revision,
            measured(e.measured.as_ref())
        ),
        Event::RolloutPaused(e) => {
            format!("{}/{} paused on its way to {}", e.app, e.workload, e.revision)
        }
        Event::RolloutResumed(e) => {
            format!("{}/{} goes on to revision {}", e.app, e.workload, e.revision)
        }
        Event::ReplicasRequested(e) => {
            let ids: Vec<_> = e.replicas.iter().map(|r| &r.id).collect();
            let replaced: Vec<_> = e.replicas.iter().filter_map(|r| r.replaces.as_ref()).collect();
            let instead = if replaced.is_empty() {
                String::new()
            } else {
                format!(" to replace {}", list(&replaced))
            };
            format!("{} requested{instead}", list(&ids))
        }
        Event::ReplicasRetired(e) if e.leaving => {
            format!(
                "{} to end when all is finished there: {}",
                list(&e.replicas),
                reason(&e.reason)
            )
        }
        Event::ReplicasRetired(e) => format!("{} to end: {}", list(&e.replicas), reason(&e.reason)),
        Event::ConfigStored(e) => format!("content {} stored", short(e.digest.as_str())),
        Event::NoteAdded(e) => format!("note on {}: {}", e.object, e.text),
        Event::NodeCordoned(e) if e.drain => format!("{} is being drained", e.node),
        Event::NodeCordoned(e) => format!("{} cordoned", e.node),
        Event::NodeUncordoned(e) => format!("{} takes replicas again", e.node),
        Event::NodeLabelled(e) => format!("{} labelled {:?}", e.node, e.labels),
        Event::NodeRemoved(e) => format!("{} removed", e.node),
        Event::NodeDeclaredLost(e) => format!("{} declared lost", e.node),
        Event::ReplicasPlaced(e) => {
            let over: Vec<_> = e.passed_over.iter().map(passed_over).collect();
            let over =
                if over.is_empty() { String::new() } else { format!("; not {}", list(&over)) };
            format!("{} placed on {}: {}{over}", list(&e.replicas), e.node, e.chosen)
        }
        Event::ReplicasReleased(e) => {
            let mut told = format!("{} no traffic any more: asked to stop", gets(&e.replicas));
            for more in released(e) {
                told.push_str(&format!("; {more}"));
            }
            told
        }
        Event::ReplicasUnplaced(e) => {
            let reasons: Vec<_> = e
                .reasons
                .iter()
                .map(|r| format!("{} on {}", r.reason, count(r.nodes, "node")))
                .collect();
            format!("{} of {}/{} fit nowhere: {}", e.waiting, e.app, e.workload, list(&reasons))
        }
        Event::NodeSuspected(e) => format!("{} suspected: silent for {} ms", e.node, e.silent_ms),
        Event::NodeLost(e) => format!("{} lost: silent for {} ms", e.node, e.silent_ms),
        Event::NodeReturned(e) => format!("{} is heard again", e.node),
        Event::EvictionPaused(e) => {
            format!("{} of {} nodes silent: none is declared lost", e.silent, e.nodes)
        }
        Event::EvictionResumed(e) => {
            format!("{} of {} nodes silent: losses are declared again", e.silent, e.nodes)
        }
        Event::NodeDescribed(e) => {
            let has = &e.description;
            format!(
                "{} has {} cores, {} of memory, engine {}",
                e.node,
                has.cpu_millis / 1_000,
                crate::table::bytes(has.memory_bytes),
                has.engine
            )
        }
        Event::ImageResolved(e) => format!("{} means {}", e.reference, e.image),
        Event::RunFailed(e) => format!(
            "{} run {} cannot {}: {}; again in {} ms",
            e.replica, e.run, e.step, e.error, e.retry_ms
        ),
        Event::RunStarted(e) => {
            format!("{} run {} started as container {}", e.replica, e.run, short(&e.container))
        }
        Event::RunEnded(e) => {
            let next = match e.retry_ms {
                None => "no other follows".to_owned(),
                Some(0) => "the next comes at once".to_owned(),
                Some(ms) => format!("the next in {ms} ms"),
            };
            format!("{} run {} ended: {}; {next}", e.replica, e.run, e.evidence.cause)
        }
        Event::ReplicaReady(e) => format!("{} run {} is ready", e.replica, e.run),
        Event::ReplicaUnready(e) => {
            format!("{} run {} is not healthy: {}", e.replica, e.run, e.output)
        }
        Event::ReplicaEnded(e) => match &e.outcome {
            Outcome::Stopped => format!("{} ended: stopped as asked", e.replica),
            Outcome::Completed => format!("{} ended: completed", e.replica),
            Outcome::Failed { reason } => format!("{} ended: {reason}", e.replica),
        },
        Event::ExecStarted(e) => {
            format!("{} runs `{}` in {} run {}", e.actor, e.command.join(" "), e.replica, e.run)
        }
        Event::StrayRemoved(e) => {
            format!("stray container {} removed from {}", e.container, e.node)
        }
    }
}

/// As much of an id as tells it from others.
pub(crate) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
