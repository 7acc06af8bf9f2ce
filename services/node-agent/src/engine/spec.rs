//! A run's container as the engine wants it told: limits, mounts, ports, and safe defaults.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HealthConfig, HostConfig, HostConfigLogConfig, Mount,
    MountType, NetworkingConfig, PortBinding,
};
use runtime::inside::ZONE;
use schemas::document::{Assignment, SpecDocument};
use schemas::id::{AppKey, NodeName, ReplicaId};
use schemas::spec::{MountSource, Resources, WorkloadSpec};

use super::container_name;

/// The label by which a node's agent knows its own containers.
pub(crate) const NODE_LABEL: &str = "io.muster.node";
/// The label that says which cluster's node that is: names of nodes are chosen by people.
pub(crate) const CLUSTER_LABEL: &str = "io.muster.cluster";
pub(crate) const REPLICA_LABEL: &str = "io.muster.replica";
pub(crate) const RUN_LABEL: &str = "io.muster.run";

/// The most output that is kept of a container: three files of this size.
const LOG_SIZE: &str = "10m";
const LOG_FILES: &str = "3";

/// A core's share of cpu when cores are short.
const SHARES_PER_CORE: u64 = 1_024;

/// Whose a container is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Of<'a> {
    pub(crate) node: &'a NodeName,
    pub(crate) cluster: Option<&'a str>,
}

impl Of<'_> {
    /// Whether a container with these labels is its.
    pub(crate) fn has(self, labels: &HashMap<String, String>) -> bool {
        let of_cluster = match (self.cluster, labels.get(CLUSTER_LABEL)) {
            (Some(ours), Some(its)) => ours == its,
            _ => true,
        };
        of_cluster && labels.get(NODE_LABEL).is_some_and(|node| node == self.node.as_str())
    }
}

/// The network of an app on one node. It carries the node's name, because an engine takes two
/// networks of one name: of all that may make it, only one node's agent does.
pub(crate) fn network(node: &NodeName, app: &AppKey) -> String {
    format!("muster-{node}-{}-{}", app.tenant, app.name)
}

/// What a run's container is made from.
///
/// # Errors
///
/// When a host path is not allowed on this node.
pub(crate) fn body(
    of: Of<'_>,
    replica: &ReplicaId,
    run: u32,
    assignment: &Assignment,
    document: &SpecDocument,
    allowed: &[PathBuf],
    names: Option<Ipv4Addr>,
) -> Result<ContainerCreateBody, String> {
    let spec = &document.spec;
    let mounts = mounts(&assignment.app, spec, allowed)?;
    let alias = EndpointSettings {
        aliases: Some(vec![assignment.workload.to_string()]),
        ..EndpointSettings::default()
    };
    let network = network(of.node, &assignment.app);
    Ok(ContainerCreateBody {
        hostname: Some(replica.as_str().chars().take(63).collect()),
        image: assignment.image.clone(),
        user: spec.user.clone(),
        env: Some(spec.env.iter().map(|(key, value)| format!("{key}={value}")).collect()),
        cmd: spec.command.clone(),
        entrypoint: spec.entrypoint.clone(),
        working_dir: spec.working_dir.clone(),
        labels: Some(labels(of, replica, run, assignment, spec)),
        stop_signal: spec.stop_signal.clone(),
        healthcheck: healthcheck(spec),
        exposed_ports: Some(
            spec.ports.iter().map(|p| format!("{}/{}", p.container, p.protocol.as_str())).collect(),
        ),
        host_config: Some(HostConfig {
            dns: names.map(|server| vec![server.to_string()]),
            dns_search: names.map(|_| search(&assignment.app)),
            dns_options: names.map(|_| vec!["ndots:1".to_owned()]),
            ..host_config(spec, mounts, &network)
        }),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some([(network, alias)].into()),
        }),
        ..ContainerCreateBody::default()
    })
}

/// Where a name without its end is looked for: `web` in the app, `web.other` in all apps.
fn search(app: &AppKey) -> Vec<String> {
    vec![format!("{}.{ZONE}", app.name), ZONE.to_owned()]
}

/// What becomes of the image's own health check: it is turned off where the spec says what is tried,
/// or that nothing is. Otherwise the engine would go on with it for nobody.
fn healthcheck(spec: &WorkloadSpec) -> Option<HealthConfig> {
    spec.probe
        .is_some()
        .then(|| HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() })
}

fn labels(
    of: Of<'_>,
    replica: &ReplicaId,
    run: u32,
    assignment: &Assignment,
    spec: &WorkloadSpec,
) -> HashMap<String, String> {
    let mut labels: HashMap<String, String> =
        spec.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    let ours = [
        (NODE_LABEL, of.node.to_string()),
        (REPLICA_LABEL, replica.to_string()),
        (RUN_LABEL, run.to_string()),
        ("io.muster.app", assignment.app.to_string()),
        ("io.muster.workload", assignment.workload.to_string()),
        ("io.muster.revision", assignment.revision.to_string()),
        ("io.muster.spec", assignment.spec.to_string()),
        // So that tools made for Compose group what belongs together.
        ("com.docker.compose.project", assignment.app.name.to_string()),
        ("com.docker.compose.service", assignment.workload.to_string()),
    ];
    labels.extend(ours.map(|(key, value)| (key.to_owned(), value)));
    labels.extend(of.cluster.map(|cluster| (CLUSTER_LABEL.to_owned(), cluster.to_owned())));
    labels
}

fn mounts(app: &AppKey, spec: &WorkloadSpec, allowed: &[PathBuf]) -> Result<Vec<Mount>, String> {
    let mut mounts = Vec::new();
    for mount in &spec.mounts {
        let (typ, source) = match &mount.source {
            MountSource::Volume(name) => {
                (MountType::VOLUME, format!("{}_{}_{name}", app.tenant, app.name))
            }
            MountSource::Path(path) => {
                if !allowed.iter().any(|prefix| Path::new(path).starts_with(prefix)) {
                    return Err(format!(
                        "this node does not allow the host path {path}: use a named volume at {}, \
                         or start the node's agent with --allow-mount",
                        mount.target
                    ));
                }
                (MountType::BIND, path.clone())
            }
        };
        mounts.push(Mount {
            target: Some(mount.target.clone()),
            source: Some(source),
            typ: Some(typ),
            read_only: Some(mount.read_only),
            ..Mount::default()
        });
    }
    Ok(mounts)
}

fn host_config(spec: &WorkloadSpec, mounts: Vec<Mount>, network: &str) -> HostConfig {
    let given = &spec.resources;
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let memory = given.memory_limit_bytes.map(signed);
    let shares = given.reserved_cpu_millis() * SHARES_PER_CORE / 1_000;
    let security = &spec.security;
    let no_new_privileges =
        (!security.allow_new_privileges).then(|| vec!["no-new-privileges:true".to_owned()]);
    HostConfig {
        cpu_shares: (shares >= 2).then(|| signed(shares)),
        nano_cpus: given.cpu_limit_millis.map(|millis| signed(millis.saturating_mul(1_000_000))),
        memory,
        // Equal to the memory limit: no swap, so that the limit means what it says.
        memory_swap: memory,
        pids_limit: Some(signed(given.pids_limit.unwrap_or(Resources::PIDS_LIMIT))),
        init: security.init.then_some(true),
        readonly_rootfs: Some(security.read_only),
        cap_add: Some(security.cap_add.clone()),
        cap_drop: Some(security.cap_drop.clone()),
        security_opt: no_new_privileges,
        tmpfs: Some(
            spec.tmpfs
                .iter()
                .map(|(path, bytes)| {
                    let size = if *bytes > 0 { format!("size={bytes}") } else { String::new() };
                    (path.clone(), size)
                })
                .collect(),
        ),
        mounts: Some(mounts),
        // What the image names and the spec does not is reached by name as well.
        publish_all_ports: Some(true),
        port_bindings: Some(
            spec.ports
                .iter()
                .map(|port| {
                    let key = format!("{}/{}", port.container, port.protocol.as_str());
                    let host_port = port.host.map_or_else(String::new, |port| port.to_string());
                    let binding = PortBinding { host_ip: None, host_port: Some(host_port) };
                    (key, Some(vec![binding]))
                })
                .collect(),
        ),
        network_mode: Some(network.to_owned()),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(
                [("max-size", LOG_SIZE), ("max-file", LOG_FILES)]
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .into(),
            ),
        }),
        ..HostConfig::default()
    }
}

/// The config files of a spec as a tar archive, for the engine to unpack at the root.
///
/// # Errors
///
/// When a content is missing, or does not decode.
pub(crate) fn config_archive(document: &SpecDocument) -> Result<Option<Vec<u8>>, String> {
    use base64::Engine as _;
    if document.spec.configs.is_empty() {
        return Ok(None);
    }
    let mut archive = Vec::new();
    for (path, file) in &document.spec.configs {
        let content = document.configs.get(&file.digest);
        let content = content.ok_or_else(|| format!("the content of {path} did not come"))?;
        let content = base64::engine::general_purpose::STANDARD
            .decode(content)
            .map_err(|error| format!("the content of {path} is not base64: {error}"))?;
        let mode = file.mode.as_deref().unwrap_or("0444");
        archive.extend(tar_entry(path.trim_start_matches('/'), mode, &content)?);
    }
    archive.extend([0; 1_024]);
    Ok(Some(archive))
}

/// One file in ustar form: a header of 512 bytes, the content, and padding.
fn tar_entry(path: &str, mode: &str, content: &[u8]) -> Result<Vec<u8>, String> {
    if path.len() > 100 {
        return Err(format!("the path of a config file may have 100 bytes: {path}"));
    }
    let mut header = [0_u8; 512];
    let mut put =
        |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, path);
    put(100, &format!("{:0>7}", mode.trim_start_matches("0o")));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{:011o}", content.len()));
    put(136, "00000000000");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar");
    put(263, "00");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut entry = header.to_vec();
    entry.extend_from_slice(content);
    entry.resize(512 + content.len().div_ceil(512) * 512, 0);
    Ok(entry)
}

/// The name a run's container must have, and its replica's own labels to find it by.
pub(crate) fn name(replica: &ReplicaId, run: u32) -> String {
    container_name(replica, run)
}

#[cfg(test)]
mod tests {
    use schemas::spec::{Check, Probe};

    use super::*;

    #[test]
    fn the_image_s_own_check_runs_only_where_the_spec_says_nothing_of_probes() {
        let of = |check: Option<Check>| {
            let probe = check.map(Probe::of_check);
            healthcheck(&WorkloadSpec { probe, ..WorkloadSpec::of_image("web") })
        };
        let off = |found: Option<HealthConfig>| found.and_then(|found| found.test);
        assert_eq!(of(None), None, "it stays as the image has it");
        let none = Some(vec!["NONE".to_owned()]);
        assert_eq!(off(of(Some(Check::None))), none);
        assert_eq!(off(of(Some(Check::Tcp { port: 80 }))), none);
    }

    #[test]
    fn a_container_is_of_one_cluster_and_node_and_old_ones_of_their_node() {
        let node = NodeName::new("n1").expect("a name");
        let labels = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let of = Of { node: &node, cluster: Some("a") };
        assert!(of.has(&labels(&[(NODE_LABEL, "n1"), (CLUSTER_LABEL, "a")])));
        assert!(of.has(&labels(&[(NODE_LABEL, "n1")])));
        assert!(!of.has(&labels(&[(NODE_LABEL, "n1"), (CLUSTER_LABEL, "b")])));
        assert!(!of.has(&labels(&[(NODE_LABEL, "n2"), (CLUSTER_LABEL, "a")])));
        assert!(!of.has(&labels(&[(CLUSTER_LABEL, "a")])));
    }
}
