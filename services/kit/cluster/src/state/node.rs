//! A node: what it is, whether it is heard, and what it takes.

use std::collections::BTreeMap;

use schemas::event::NodeDescription;
use schemas::id::NodeName;
use schemas::spec::{Constraint, Mode};
use serde::{Deserialize, Serialize};

use super::Cause;

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Node {
    /// What it is and has.
    pub description: NodeDescription,
    /// Whether it is heard.
    pub status: NodeStatus,
    /// Whether it takes new replicas.
    pub admission: Admission,
    /// Labels that commands gave it, over those of its description.
    pub labels: BTreeMap<String, String>,
    /// When its description last changed.
    pub described_at: u64,
    /// When it joined, came back after it was lost, or was opened.
    #[serde(default)]
    pub came_ms: u64,
    /// Since when it takes replicas, if it does.
    #[serde(default)]
    pub open_ms: u64,
    /// How long connections from here to other nodes, or within this one, were stated to take, in
    /// microseconds.
    #[serde(default)]
    pub ways: BTreeMap<NodeName, u64>,
    /// What last changed its status or admission.
    pub cause: Cause,
}

impl Node {
    /// The value of an attribute that constraints name: `node`, `arch`, `label.<key>`.
    #[must_use]
    pub fn attribute<'a>(&'a self, name: &'a NodeName, attribute: &str) -> Option<&'a str> {
        match attribute {
            "node" => Some(name.as_str()),
            "arch" => Some(&self.description.arch),
            _ => self.label(attribute.strip_prefix("label.")?),
        }
    }

    /// The value of a label.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        let given = self.labels.get(key).or_else(|| self.description.labels.get(key))?;
        (!given.is_empty()).then_some(given.as_str())
    }

    /// Whether the node is as a constraint wants it.
    #[must_use]
    pub fn meets(&self, name: &NodeName, constraint: &Constraint) -> bool {
        let value = self.attribute(name, &constraint.attribute);
        (value == Some(constraint.value.as_str())) == constraint.equal
    }

    /// Whether new replicas may be placed here.
    #[must_use]
    pub fn takes_replicas(&self) -> bool {
        self.status == NodeStatus::Ready && self.admits(Mode::Replicated)
    }

    /// Whether a node of this admission takes replicas of a mode. What is for every node
    /// is a part of it: a cordon keeps other work away and not that, and a drain ends that too.
    #[must_use]
    pub fn admits(&self, mode: Mode) -> bool {
        match self.admission {
            Admission::Open => true,
            Admission::Cordoned => mode == Mode::Global,
            Admission::Draining => false,
        }
    }
}

/// Whether a node is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeStatus {
    /// It is.
    Ready,
    /// Not for a while.
    Suspected,
    /// Not for so long that its replicas are replaced. They may still run.
    Lost,
}

impl NodeStatus {
    /// As users read it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Suspected => "suspected",
            Self::Lost => "lost",
        }
    }
}

/// Whether a node takes new replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Admission {
    /// It does.
    Open,
    /// It keeps what it has.
    Cordoned,
    /// What it has moves elsewhere.
    Draining,
}

impl Admission {
    /// As users read it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Cordoned => "cordoned",
            Self::Draining => "draining",
        }
    }
}
