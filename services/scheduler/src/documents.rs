//! The node documents: for each node what it must run, as the state says.

use std::collections::{BTreeMap, BTreeSet};

use cluster::State;
use schemas::document::{Assignment, NodeDocument, SpecDocument};
use schemas::id::{Digest, NodeName};
use schemas::place::Place;
use schemas::report::Heartbeat;
use schemas::spec::WorkloadSpec;

use decider::Now;

/// How long an agent may take to hold a document before it is written again, in ms.
const WRITE_AGAIN_MS: u64 = 3_000;

/// A document to write, after the specs it refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The document.
    pub document: NodeDocument,
    /// Specs that were not written for this node before.
    pub specs: Vec<SpecDocument>,
}

/// What this leadership has written.
#[derive(Debug, Default)]
pub struct Documents {
    written: BTreeMap<NodeName, Written>,
}

#[derive(Debug)]
struct Written {
    digest: Digest,
    specs: BTreeSet<Digest>,
    at_ms: u64,
}

impl Documents {
    /// Forgets what was written: a new leadership writes everything once.
    pub fn clear(&mut self) {
        self.written.clear();
    }

    /// Writes what touched nodes must run, where that is not what was written last.
    pub fn reflect(&mut self, state: &mut State, place: Place, now: Now) -> Vec<Write> {
        let touched = std::mem::take(&mut state.touched.nodes);
        touched.iter().filter_map(|node| self.write(state, node, place, now)).collect()
    }

    /// Takes note of the document that an agent holds. When it is not the one that was written, and
    /// there was time to get it, that is written again.
    pub fn heard(&mut self, heartbeat: &Heartbeat, now: Now) -> bool {
        let Some(written) = self.written.get(&heartbeat.node) else { return false };
        let differs = heartbeat.document.as_ref() != Some(&written.digest);
        let late = now.mono_ms >= written.at_ms + WRITE_AGAIN_MS;
        if differs && late {
            self.written.remove(&heartbeat.node);
        }
        differs && late
    }

    /// Whether nothing was written by this leadership for a node whose agent is heard.
    pub fn lacks(&self, heartbeat: &Heartbeat) -> bool {
        !self.written.contains_key(&heartbeat.node)
    }

    fn write(&mut self, state: &State, node: &NodeName, place: Place, now: Now) -> Option<Write> {
        let (document, specs) = document(state, node, place);
        let digest = document.digest();
        let before = self.written.get(node);
        if before.is_some_and(|before| before.digest == digest) {
            return None;
        }
        let known = |digest: &Digest| before.is_some_and(|before| before.specs.contains(digest));
        let fresh: Vec<SpecDocument> = specs
            .iter()
            .filter(|(digest, _)| !known(digest))
            .map(|(digest, spec)| spec_document(state, digest, spec))
            .collect();
        let specs = specs.into_keys().collect();
        self.written.insert(node.clone(), Written { digest, specs, at_ms: now.mono_ms });
        Some(Write { document, specs: fresh })
    }
}

fn document<'a>(
    state: &'a State,
    node: &NodeName,
    place: Place,
) -> (NodeDocument, BTreeMap<Digest, &'a WorkloadSpec>) {
    let mut replicas = BTreeMap::new();
    let mut specs = BTreeMap::new();
    for (id, replica) in state.replicas_on(node) {
        let (Some(app), Some(spec)) = (state.apps.get(&replica.app), state.spec_of(replica)) else {
            continue;
        };
        let assignment = Assignment {
            app: replica.app.clone(),
            workload: replica.workload.clone(),
            revision: replica.revision,
            spec: replica.spec.clone(),
            image: app.images.get(&replica.spec).cloned(),
            end: replica.retired.is_some() && !replica.leaving,
            correlation: replica.cause.correlation.clone(),
            cause: replica.cause.position,
        };
        specs.insert(replica.spec.clone(), spec);
        replicas.insert(id.clone(), assignment);
    }
    let removed = !state.nodes.contains(node);
    let cluster = Some(state.cluster.genesis.clone()).filter(|genesis| !genesis.is_empty());
    (NodeDocument { node: node.clone(), place, replicas, removed, cluster }, specs)
}

fn spec_document(state: &State, digest: &Digest, spec: &WorkloadSpec) -> SpecDocument {
    let configs = spec
        .configs
        .values()
        .filter_map(|file| Some((file.digest.clone(), state.configs.get(&file.digest)?.clone())));
    SpecDocument { digest: digest.clone(), spec: spec.clone(), configs: configs.collect() }
}

#[cfg(test)]
mod tests {
    use cluster::history::{History, node};
    use schemas::event::{NodeDescribed, NodeRemoved};
    use schemas::id::Writer;

    use super::*;

    #[test]
    fn a_removed_node_is_told_so_and_told_when_it_is_back() {
        let mut history = History::default();
        history.node("n1", 4, 4);
        let description =
            history.fold.state().nodes.get(&node("n1")).expect("it joined").description.clone();
        let mut documents = Documents::default();
        let mut written = |history: &mut History| {
            let place = history.fold.place();
            let writes = documents.reflect(history.fold.state_mut(), place, Now::default());
            assert!(writes.iter().all(|w| w.document.cluster.as_deref() == Some(&*"0".repeat(32))));
            writes.into_iter().map(|write| write.document.removed).collect::<Vec<_>>()
        };
        assert_eq!(written(&mut history), [false]);
        history.add(&Writer::Controller, NodeRemoved { node: node("n1") });
        assert_eq!(written(&mut history), [true], "though nothing ran there");
        let described = NodeDescribed { node: node("n1"), description };
        history.add(&Writer::Agent(node("n1")), described);
        assert_eq!(written(&mut history), [false]);
        assert_eq!(written(&mut history), [false; 0]);
    }
}
