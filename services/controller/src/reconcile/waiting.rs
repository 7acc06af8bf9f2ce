//! A changed workload while what must come first is not there: it stays what it was.

use cluster::state::Replica;
use schemas::id::Digest;
use schemas::spec::Mode;

use super::{Part, Subject, dependencies};

/// The workload as it was before its change, and how many replicas of that there should be, while
/// nothing of the changed spec may begin. What is lost meanwhile is replaced by another of its kind.
pub(super) fn old<'a>(subject: &Subject<'a>) -> Option<(Subject<'a>, u64)> {
    if subject.part != Part::Whole || dependencies::met(subject) {
        return None;
    }
    let rollout = subject.workload.rollout.as_ref();
    let digest = match rollout {
        Some(rollout) => &rollout.from,
        None => newest(subject)?,
    };
    let spec = subject.app.specs.get(digest)?;
    if spec.mode != subject.spec.mode || spec.mode == Mode::Job {
        return None;
    }
    let old = Subject { part: Part::Old, spec, digest, ..*subject };
    let declared = u64::from(subject.workload.replicas);
    let good = subject.app.good.as_ref().and_then(|good| good.spec.workloads.get(subject.name));
    let wanted = match (rollout, good) {
        // From nothing to something: what is new is that there is something.
        (Some(_), Some(good)) if good.replicas == 0 => 0,
        (Some(_), _) => declared,
        // What never was as declared is kept as far as it got.
        (None, _) => declared.min(super::Roster::of(&old).len()),
    };
    Some((old, wanted))
}

/// The spec of the newest replica of another spec than the declared one.
fn newest<'a>(subject: &Subject<'a>) -> Option<&'a Digest> {
    let replicas = subject.state.replicas_of(subject.key, subject.name);
    let other =
        |replica: &&Replica| replica.retired.is_none() && replica.spec != subject.workload.spec;
    let newest = replicas.map(|(_, replica)| replica).filter(other).max_by_key(|r| r.requested_ms);
    newest.map(|replica| &replica.spec)
}
