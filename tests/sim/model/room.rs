//! What a node has room for, by the model alone.

use std::collections::BTreeSet;

use schemas::id::NodeName;
use schemas::spec::{MountSource, Protocol, WorkloadSpec};

use super::{Judged, Model, Replica, wrong};

fn cpu(spec: &WorkloadSpec) -> u64 {
    spec.resources.cpu_millis.or(spec.resources.cpu_limit_millis).unwrap_or(0)
}

fn memory(spec: &WorkloadSpec) -> u64 {
    spec.resources.memory_bytes.or(spec.resources.memory_limit_bytes).unwrap_or(0)
}

fn host_ports(spec: &WorkloadSpec) -> impl Iterator<Item = (Protocol, u16)> {
    spec.ports.iter().filter_map(|port| Some((port.protocol, port.host?)))
}

pub(super) fn volumes(spec: &WorkloadSpec) -> impl Iterator<Item = String> {
    spec.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Volume(name) => Some(name.to_string()),
        MountSource::Path(_) => None,
    })
}

impl Model {
    /// No node is given more than it has, and no port of it twice.
    pub(super) fn check_room(&self, name: &NodeName) -> Judged {
        let Some(node) = self.nodes.get(name) else { return Ok(()) };
        let (mut cpus, mut bytes, mut ports) = (0, 0, BTreeSet::new());
        for (id, replica) in self.replicas.iter().filter(|(_, r)| r.node.as_ref() == Some(name)) {
            cpus += cpu(&replica.spec);
            bytes += memory(&replica.spec);
            if let Some(port) = host_ports(&replica.spec).find(|port| !ports.insert(*port)) {
                return wrong("room", format!("{id} wants {port:?} of {name}, which is taken"));
            }
        }
        if cpus > node.has.cpu_millis || bytes > node.has.memory_bytes {
            return wrong("room", format!("{name} was given {cpus} millis and {bytes} bytes"));
        }
        Ok(())
    }

    /// Whether a replica would fit a node, by this model alone.
    pub(crate) fn fits(&self, replica: &Replica, name: &NodeName) -> bool {
        let Some(node) = self.nodes.get(name) else { return false };
        let there = || self.replicas.values().filter(|r| r.node.as_ref() == Some(name));
        let spec = &replica.spec;
        // One that is replaced by another there, or by this one, counts with it as one.
        let goes = |r: &Replica| {
            let old = r.replaces.as_ref().and_then(|old| self.replicas.get(old));
            old.is_some_and(|old| old.node.as_ref() == Some(name) && !old.retired)
        };
        let same = there()
            .filter(|r| r.app == replica.app && r.workload == replica.workload && !r.retired)
            .filter(|r| !goes(r))
            .count()
            .saturating_sub(usize::from(goes(replica)));
        let max =
            spec.placement.max_per_node.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(0));
        let taken: BTreeSet<_> = there().flat_map(|r| host_ports(&r.spec)).collect();
        let homes = self.apps.get(&replica.app).map(|app| &app.volumes);
        let home =
            |volume: String| homes.and_then(|homes| homes.get(&volume)).is_none_or(|h| h == name);
        node.heard
            && node.takes(spec.mode)
            && replica.only.as_ref().is_none_or(|only| only == name)
            && spec.placement.constraints.iter().all(|c| node.meets(name, c))
            && there().map(|r| cpu(&r.spec)).sum::<u64>() + cpu(spec) <= node.has.cpu_millis
            && there().map(|r| memory(&r.spec)).sum::<u64>() + memory(spec) <= node.has.memory_bytes
            && same < max
            && host_ports(spec).all(|port| !taken.contains(&port))
            && volumes(spec).all(home)
    }
}
