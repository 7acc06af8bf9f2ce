//! An engine that only pretends: its containers are entries in a file.
//!
//! For forks of a history, whose nodes are elsewhere, and for trying large clusters on a small machine.
//! What is asked of it succeeds at once: what starts runs until it is stopped, a job ends well, every
//! probe passes. It outlives its agent, as an engine does.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::Stream;
use runtime::files;
use schemas::event::{Endpoint, Evidence};
use schemas::id::{Digest, ReplicaId};
use schemas::spec::{Mode, WorkloadSpec};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use super::{Done, Info, Listed, Op, container_name};

/// The file with its containers, in the agent's folder.
const FILE: &str = "simulated.json";

/// How many deaths may wait to be heard; what is missed is found by listing.
const DEATHS: usize = 256;

/// A pretended container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its replica.
    pub replica: ReplicaId,
    /// Its run.
    pub run: u32,
    /// The engine's id of it.
    pub id: String,
    /// Whether it runs.
    pub running: bool,
    /// Where its ports are said to be.
    pub endpoints: Vec<Endpoint>,
}

/// A pretended engine. Clones share it.
#[derive(Clone, Debug)]
pub struct Engine {
    containers: Arc<Mutex<BTreeMap<String, Container>>>,
    path: PathBuf,
    address: String,
    arch: String,
    deaths: broadcast::Sender<String>,
}

/// Writes what an engine is to begin with.
///
/// # Errors
///
/// When the file cannot be written.
pub fn prepare(folder: &Path, containers: impl IntoIterator<Item = Container>) -> io::Result<()> {
    let named = containers.into_iter().map(|c| (container_name(&c.replica, c.run), c));
    let named: BTreeMap<String, Container> = named.collect();
    files::write_atomically(&folder.join(FILE), &serde_json::to_vec(&named)?)
}

impl Engine {
    /// Goes on with what is in the agent's folder.
    ///
    /// # Errors
    ///
    /// When its file cannot be read.
    pub fn open(folder: &Path, address: String, arch: String) -> Result<Self, String> {
        let path = folder.join(FILE);
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let containers = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| failed(&error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(failed(&error)),
        };
        let (deaths, _) = broadcast::channel(DEATHS);
        Ok(Self { containers: Arc::new(Mutex::new(containers)), path, address, arch, deaths })
    }

    /// What it says of itself: the machine it pretends on is this one.
    pub(super) fn info(&self) -> Info {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Info {
            version: "simulated".to_owned(),
            arch: self.arch.clone(),
            os: "simulated".to_owned(),
            cores: u64::try_from(cores).unwrap_or(1),
            memory_bytes: memory_bytes().unwrap_or(1 << 30),
            data_dir: "/".to_owned(),
        }
    }

    /// Does what is asked.
    pub(super) fn run(&self, op: Op) -> Done {
        let mut containers = self.containers.lock().unwrap_or_else(PoisonError::into_inner);
        let before = containers.clone();
        let done = self.change(&mut containers, op);
        if *containers != before {
            let text = serde_json::to_vec(&*containers).expect("container names are strings");
            if let Err(error) = files::write_atomically(&self.path, &text) {
                *containers = before;
                let error = format!("{}: {error}", self.path.display());
                return Done::Failed { step: "write".to_owned(), error };
            }
        }
        done
    }

    fn change(&self, containers: &mut BTreeMap<String, Container>, op: Op) -> Done {
        match op {
            Op::Resolve { spec, .. } => Done::Resolved(image_id(&spec.spec.image)),
            Op::Start { replica, run, spec, .. } => {
                let name = container_name(&replica, run);
                let running = spec.spec.mode != Mode::Job;
                let endpoints = self.endpoints(&name, &spec.spec);
                let id = Digest::of(name.as_bytes()).to_string();
                let container = Container {
                    replica,
                    run,
                    id: id.clone(),
                    running,
                    endpoints: endpoints.clone(),
                };
                if !running {
                    // Nobody hears it: the next listing finds it.
                    let _ = self.deaths.send(name.clone());
                }
                containers.insert(name, container);
                Done::Started { container: id, endpoints, inside: None, image_checks: false }
            }
            Op::Examine { replica, run, remove } => {
                let name = container_name(&replica, run);
                if containers.get(&name).is_some_and(|container| container.running) {
                    return Done::StillRuns;
                }
                if remove {
                    containers.remove(&name);
                }
                Done::Examined(Evidence { exit_code: Some(0), ..Evidence::default() })
            }
            Op::Stop { replica, run, remove, .. } => {
                let name = container_name(&replica, run);
                match containers.get_mut(&name) {
                    Some(container) if !remove => container.running = false,
                    _ => drop(containers.remove(&name)),
                }
                Done::Stopped
            }
            Op::Probe { .. } => Done::Probed(Ok(())),
            Op::RemoveStray { container } => {
                containers.remove(&container);
                Done::StrayRemoved
            }
            Op::RemoveImage { .. } => Done::ImageRemoved { freed_bytes: 0 },
            Op::List { .. } => Done::Listed(containers.iter().map(listed).collect()),
        }
    }

    /// Ports as an engine would choose them. Nobody listens there.
    fn endpoints(&self, container: &str, spec: &WorkloadSpec) -> Vec<Endpoint> {
        let ports = spec.ports.iter().map(|port| {
            let seed = Digest::of(format!("{container}/{}", port.container).as_bytes());
            let chosen = u16::from_str_radix(&seed.as_str()[..3], 16).unwrap_or(0);
            Endpoint {
                container: port.container,
                protocol: port.protocol,
                address: self.address.clone(),
                port: port.host.unwrap_or(32_768 + chosen),
            }
        });
        ports.collect()
    }

    /// The names of containers that ended.
    pub(super) fn events(&self) -> impl Stream<Item = Option<String>> + Send + use<> {
        let deaths = self.deaths.subscribe();
        futures_util::stream::unfold(deaths, |mut deaths| async move {
            match deaths.recv().await {
                Ok(name) => Some((Some(name), deaths)),
                Err(broadcast::error::RecvError::Lagged(_)) => Some((None, deaths)),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        })
    }
}

/// A reference that says which image it means stays as it is.
fn image_id(reference: &str) -> String {
    if reference.contains("sha256:") {
        return reference.to_owned();
    }
    format!("sha256:{}", Digest::of(reference.as_bytes()))
}

fn listed((name, container): (&String, &Container)) -> (String, Listed) {
    let Container { replica, run, id, running, endpoints } = container.clone();
    let (cluster, health, inside) = (None, None, None);
    (name.clone(), Listed { id, replica, run, cluster, running, health, endpoints, inside })
}

fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1_024)
}

#[cfg(test)]
mod tests {
    use schemas::document::{Assignment, SpecDocument};
    use schemas::id::{AppKey, WorkloadName};

    use super::*;

    fn start(mode: Mode) -> Op {
        let spec = WorkloadSpec { mode, ..WorkloadSpec::of_image("web:1") };
        let digest = spec.digest();
        let replica = ReplicaId::new("shop-web-aaaaa").expect("an id");
        let assignment = Assignment {
            app: AppKey::parse("shop").expect("a name"),
            workload: WorkloadName::new("web").expect("a name"),
            revision: 1,
            spec: digest.clone(),
            image: None,
            end: false,
            correlation: None,
            cause: 1,
        };
        let spec = SpecDocument { digest, spec, configs: BTreeMap::new() };
        Op::Start { replica, run: 1, cluster: None, assignment, spec }
    }

    #[test]
    fn it_goes_on_where_it_was_when_its_agent_is_started_again() {
        let folder = std::env::temp_dir().join(format!("muster-simulated-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("it is made");
        let open = || Engine::open(&folder, "10.0.0.1".to_owned(), "amd64".to_owned());
        let engine = open().expect("it opens");
        assert!(matches!(engine.run(start(Mode::Replicated)), Done::Started { .. }));
        let again = open().expect("it opens");
        let Done::Listed(listed) = again.run(Op::List { asked_ms: 0 }) else { panic!("a list") };
        assert!(listed["shop-web-aaaaa-1"].running);
        let replica = ReplicaId::new("shop-web-aaaaa").expect("an id");
        let examine = Op::Examine { replica, run: 1, remove: true };
        assert_eq!(again.run(examine), Done::StillRuns);
        std::fs::remove_dir_all(folder).expect("it goes away");
    }

    #[test]
    fn a_job_ends_well_at_once() {
        let folder =
            std::env::temp_dir().join(format!("muster-simulated-job-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("it is made");
        let engine = Engine::open(&folder, "10.0.0.1".to_owned(), "amd64".to_owned());
        let engine = engine.expect("it opens");
        assert!(matches!(engine.run(start(Mode::Job)), Done::Started { .. }));
        let replica = ReplicaId::new("shop-web-aaaaa").expect("an id");
        let done = engine.run(Op::Examine { replica, run: 1, remove: true });
        assert!(matches!(done, Done::Examined(Evidence { exit_code: Some(0), .. })), "{done:?}");
        assert_eq!(engine.run(Op::List { asked_ms: 0 }), Done::Listed(BTreeMap::new()));
        std::fs::remove_dir_all(folder).expect("it goes away");
    }
}
