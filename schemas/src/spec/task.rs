//! A job that is a part of another workload's rollout.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::WorkloadName;

/// Makes a job a part of the rollouts of another workload: it runs once for each revision that changes
/// that one. It does not run when a revision that failed is taken back.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The workload.
    pub of: WorkloadName,
    /// Before its first replica of the new spec, or after all is as declared.
    pub when: When,
    /// Whether the revision has failed when a job that runs after it has. One that runs before it always
    /// fails it. Default false.
    #[serde(default, skip_serializing_if = "super::is_default")]
    pub rollback: bool,
}

/// When a job of a rollout runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Before any replica of the new spec begins; they wait for its success.
    Before,
    /// After everything else of the app is as declared.
    After,
}

impl Task {
    /// Whether its failure is that of the revision.
    #[must_use]
    pub fn fails_revision(&self) -> bool {
        self.when == When::Before || self.rollback
    }

    /// As users read it: `before web`.
    #[must_use]
    pub fn told(&self) -> String {
        match self.when {
            When::Before => format!("before {}", self.of),
            When::After => format!("after {}", self.of),
        }
    }
}
