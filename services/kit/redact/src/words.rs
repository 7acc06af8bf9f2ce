//! What in an event is words: written by people, by their programs, by an engine, or by Muster with
//! something of these in it. Everything else is names, numbers and digests.

use schemas::command::Problem;
use schemas::event::{Event, Evidence, GatewayDiverged, Outcome, StateDiverged};

use crate::{Extent, spec};

/// What a word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// A value that is a secret as far as anybody knows.
    Value,
    /// A program, or an argument of one.
    Argument,
    /// Something that a program printed.
    Output,
    /// Something that a person wrote.
    Remark,
    /// What an engine or Muster said of something.
    Told,
}

impl Word {
    /// Whether it is taken out whole. Otherwise it is only looked through.
    pub(crate) fn is_taken_out(self, extent: Extent) -> bool {
        match self {
            Self::Value => true,
            Self::Argument | Self::Output | Self::Remark => extent == Extent::All,
            Self::Told => false,
        }
    }
}

/// Whoever looks at words, and may change them.
pub(crate) type Each<'a> = dyn FnMut(Word, &mut String) + 'a;

/// Hands on every word of an event. The content of a file is none: it is not text.
pub(crate) fn words(event: &mut Event, each: &mut Each<'_>) {
    match event {
        Event::CommandAccepted(e) => e.reason.iter_mut().for_each(|text| each(Word::Remark, text)),
        Event::CommandRejected(e) => problem(&mut e.problem, each),
        Event::AppDeployed(e) => {
            e.spec.workloads.values_mut().for_each(|workload| spec::words(workload, each));
        }
        Event::AppStalled(e) => each(Word::Told, &mut e.reason),
        Event::AppConverged(e) => {
            e.failed.iter_mut().for_each(|failed| each(Word::Told, &mut failed.reason));
        }
        Event::MovesPlanned(e) => {
            e.moves.iter_mut().for_each(|one| each(Word::Told, &mut one.gain));
        }
        Event::WorkloadScaled(e) => e.reason.iter_mut().for_each(|text| each(Word::Remark, text)),
        Event::NoteAdded(e) => {
            each(Word::Remark, &mut e.text);
            e.fields.values_mut().for_each(|text| each(Word::Remark, text));
        }
        Event::ReplicasPlaced(e) => {
            each(Word::Told, &mut e.chosen);
            e.passed_over.iter_mut().for_each(|over| each(Word::Told, &mut over.reason));
        }
        Event::ReplicasUnplaced(e) => {
            for unfit in &mut e.reasons {
                each(Word::Told, &mut unfit.reason);
                each(Word::Told, &mut unfit.remedy);
            }
        }
        Event::RunFailed(e) => each(Word::Told, &mut e.error),
        Event::CertificateFailed(e) => each(Word::Told, &mut e.error),
        Event::RunEnded(e) => evidence(&mut e.evidence, each),
        Event::RolloutFailed(e) => {
            each(Word::Told, &mut e.reason);
            e.evidence.iter_mut().for_each(|found| evidence(found, each));
        }
        Event::ReplicaUnready(e) => each(Word::Output, &mut e.output),
        Event::ReplicaEnded(e) => match &mut e.outcome {
            Outcome::Failed { reason } => each(Word::Told, reason),
            Outcome::Stopped | Outcome::Completed => {}
        },
        Event::ExecStarted(e) => e.command.iter_mut().for_each(|text| each(Word::Argument, text)),
        // Hashes of a state in which the secrets are: whoever guesses one could tell by them.
        Event::StateDiverged(StateDiverged { theirs, ours, .. })
        | Event::GatewayDiverged(GatewayDiverged { theirs, ours, .. }) => {
            each(Word::Value, theirs);
            each(Word::Value, ours);
        }
        Event::SequencerTaken(_)
        | Event::PositionVoided(_)
        | Event::HistoryForked(_)
        | Event::IntakeClosed(_)
        | Event::IntakeOpened(_)
        | Event::LeadershipTaken(_)
        | Event::LeadershipReleased(_)
        | Event::AppDeleteStarted(_)
        | Event::AppDeleted(_)
        | Event::WorkloadRestarted(_)
        | Event::RolloutStepped(_)
        | Event::RolloutPromoted(_)
        | Event::RolloutPaused(_)
        | Event::RolloutResumed(_)
        | Event::ReplicasRequested(_)
        | Event::ReplicasRetired(_)
        | Event::ReplicasReleased(_)
        | Event::RebalanceStarted(_)
        | Event::CallsMeasured(_)
        | Event::RebalanceSet(_)
        | Event::RebalanceEnded(_)
        | Event::CertificateOrdered(_)
        | Event::CertificateIssued(_)
        | Event::ConfigStored(_)
        | Event::NodeCordoned(_)
        | Event::NodeUncordoned(_)
        | Event::NodeLabelled(_)
        | Event::NodeRemoved(_)
        | Event::NodeDeclaredLost(_)
        | Event::NodeSuspected(_)
        | Event::NodeLost(_)
        | Event::NodeReturned(_)
        | Event::EvictionPaused(_)
        | Event::EvictionResumed(_)
        | Event::NodeDescribed(_)
        | Event::ImageResolved(_)
        | Event::RunStarted(_)
        | Event::ReplicaReady(_)
        | Event::StrayRemoved(_) => {}
    }
}

fn evidence(found: &mut Evidence, each: &mut Each<'_>) {
    let Evidence { exit_code: _, out_of_memory: _, cause, last_lines } = found;
    each(Word::Told, cause);
    last_lines.iter_mut().for_each(|line| each(Word::Output, line));
}

/// What was got at a field that holds a secret is one, whatever it was.
fn problem(problem: &mut Problem, each: &mut Each<'_>) {
    let Problem { code: _, field, got, valid } = problem;
    let mut within = field.split(['.', '[']);
    let word = |name: &str| match name {
        "env" | "labels" | "set_headers" | "configs" | "content_base64" => Some(Word::Value),
        "command" | "entrypoint" => Some(Word::Argument),
        _ => None,
    };
    each(within.find_map(word).unwrap_or(Word::Remark), got);
    each(Word::Told, valid);
}
