//! The command that a decision is, and the words in which it says why.

use schemas::command::{Common, Scale};
use schemas::id::{AppKey, CommandId, Digest, WorkloadName};

use super::STEP_UP;
use super::target::{Measured, Words};

/// A `workload.scale` as it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its id. It follows from what it is about, so that a repeat is known as one.
    pub id: CommandId,
    /// What is asked for.
    pub scale: Scale,
    /// Whose app, why, and since when it must not have changed.
    pub common: Common,
}

/// What was decided about one workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) from: u32,
    pub(crate) to: u32,
    /// How many the load asks for, beyond bounds and the size of a step.
    pub(crate) wanted: u32,
    /// The bounds.
    pub(crate) min: u32,
    pub(crate) max: u32,
    /// For how long.
    pub(crate) window_ms: u64,
    /// What asks for the most.
    pub(crate) by: Measured,
}

impl Request {
    /// The request for a step, judged on an app that last changed at `changed_at`.
    ///
    /// It holds for that app as it was then and for no later one, so that whatever a person or
    /// another leader did meanwhile stands. That is also what makes a leader that was deposed
    /// harmless: of two commands on one change, the second is a repeat or is refused.
    pub(crate) fn new(
        key: &AppKey,
        workload: &WorkloadName,
        changed_at: u64,
        term: u64,
        step: Step,
    ) -> Self {
        let content = Digest::of(format!("{key}/{workload}/{changed_at}/{}", step.to).as_bytes());
        let id = CommandId::new(&format!("as-{}", &content.as_str()[..24]));
        let scale = Scale { app: key.name.clone(), workload: workload.clone(), replicas: step.to };
        let common = Common {
            tenant: Some(key.tenant.clone()),
            reason: Some(format!("{}; term {term}", step.words())),
            expect_position: Some(changed_at),
            ..Common::default()
        };
        Self { id: id.expect("hex and a dash"), scale, common }
    }
}

impl Step {
    fn words(&self) -> String {
        let Self { from, to, wanted, min, max, by, .. } = self;
        let over = match by.counted {
            counted if counted < *from => format!("{counted} of {from} replicas"),
            1 => "1 replica".to_owned(),
            counted => format!("{counted} replicas"),
        };
        let limit = match to {
            _ if to == wanted => String::new(),
            _ if to == max => format!(" ({wanted} wanted, {max} at most)"),
            _ if to == min => format!(" ({wanted} wanted, {min} at least)"),
            _ if *to == from.saturating_mul(STEP_UP) => format!(" ({wanted} wanted, {to} at once)"),
            _ => format!(" ({wanted} by now)"),
        };
        let measured = Words { measured: *by, over: &over };
        let window = duration(self.window_ms);
        format!("target tracking: {measured}, for {window}: {from} → {to}{limit}")
    }
}

fn duration(ms: u64) -> String {
    if ms.is_multiple_of(1_000) { format!("{} s", ms / 1_000) } else { format!("{ms} ms") }
}
