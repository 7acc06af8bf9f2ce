//! How a changed revision takes the place of the old one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a changed revision replaces the replicas of the old one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Update {
    /// In which order and how much of it at once. Default `rolling`.
    #[serde(skip_serializing_if = "super::is_default")]
    pub strategy: Strategy,
    /// How many replicas are replaced at a time. Default 1.
    pub parallelism: u32,
    /// How many replicas there may be above the declared number while they are replaced. Default:
    /// as many as `parallelism`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<u32>,
    /// How many of the declared number may be missing while they are replaced. Default 0.
    #[serde(skip_serializing_if = "super::is_default")]
    pub max_unavailable: u32,
    /// How long a new replica must be ready before the next one is replaced. Default 10,000.
    pub healthy_for_ms: u64,
    /// After which a new replica that is not ready has failed the rollout. Default 300,000.
    pub deadline_ms: u64,
    /// Whether a revision that fails makes room for the one before by itself. Default true.
    #[serde(skip_serializing_if = "Clone::clone")]
    pub rollback: bool,
    /// Of a thousand requests, how many more than of the old revision may fail before the new one has
    /// failed. Default 50.
    #[serde(skip_serializing_if = "is_error_permille")]
    pub max_error_permille: u32,
}

impl Default for Update {
    fn default() -> Self {
        Self {
            strategy: Strategy::Rolling,
            parallelism: 1,
            max_surge: None,
            max_unavailable: 0,
            healthy_for_ms: 10_000,
            deadline_ms: 300_000,
            rollback: true,
            max_error_permille: 50,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_error_permille(permille: &u32) -> bool {
    *permille == Update::default().max_error_permille
}

/// In which order a changed revision takes over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Strategy {
    /// A few replicas at a time, the new one first.
    #[default]
    Rolling,
    /// All old replicas end, then the new ones begin.
    Recreate,
    /// A part of the traffic goes to a few new replicas; step by step it becomes more.
    Canary {
        /// The steps, in order. After the last one the rest follows as in `rolling`.
        steps: Vec<Step>,
    },
    /// All new replicas stand beside the old ones and get no traffic; then all of it goes over at once.
    BlueGreen {
        /// How long the new ones must be healthy before they get it. None: until they are promoted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        promote_after_ms: Option<u64>,
    },
}

impl Strategy {
    /// As users read it.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Rolling => "rolling",
            Self::Recreate => "recreate",
            Self::Canary { .. } => "canary",
            Self::BlueGreen { .. } => "blue_green",
        }
    }
}

/// A step of a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// How much of the traffic the new revision gets, in percent.
    pub weight_percent: u32,
    /// How long it must go well before the next step. None: until it is promoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_ms: Option<u64>,
}
