//! What a node must run: one small document per node, and the specs it refers to.
//!
//! A document is a pure function of the log up to the place it names. Agents read only these: they
//! never follow events.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{AppKey, CommandId, Digest, NodeName, ReplicaId, WorkloadName};
use crate::place::Place;
use crate::spec::WorkloadSpec;

/// The largest document, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 256 * 1024;

/// Everything one node must run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeDocument {
    /// The node.
    pub node: NodeName,
    /// The place it follows from. A higher one replaces it.
    pub place: Place,
    /// The replicas that are or were to run here and have not been seen to end.
    pub replicas: BTreeMap<ReplicaId, Assignment>,
    /// The node is none of the cluster's, or not any more: its agent joins by describing it anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
    /// The id of the history it follows from: whose containers the node's are, on an engine that
    /// several clusters use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
}

impl NodeDocument {
    /// Tells apart documents that ask for different things, whatever places they name.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut asked =
            serde_json::to_vec(&self.replicas).expect("a document has string keys only");
        if self.removed {
            asked.extend(b" removed");
        }
        Digest::of(&asked)
    }
}

/// One replica in a node's document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Assignment {
    /// Its app.
    pub app: AppKey,
    /// Its workload.
    pub workload: WorkloadName,
    /// The revision it belongs to.
    pub revision: u64,
    /// The digest of its spec, found under `muster.v1.node.<node>.spec.<digest>`.
    pub spec: Digest,
    /// What its image reference means, once some agent has resolved it. A container is created from
    /// this and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Whether it must end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub end: bool,
    /// The command at the root of it being here, or of its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<CommandId>,
    /// The position of the event that put it here or ended it: the cause of what the agent does.
    pub cause: u64,
}

/// A spec and the contents it refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SpecDocument {
    /// Its digest.
    pub digest: Digest,
    /// The spec.
    pub spec: WorkloadSpec,
    /// The contents of its config files in base64, by their digest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub configs: BTreeMap<Digest, String>,
}
