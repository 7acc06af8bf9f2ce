//! The Docker engine through its API: the only place, with `spec` and `usage`, that names the client.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

mod image;
pub(crate) mod live;

use bollard::Docker;
use bollard::exec::StartExecResults;
use bollard::models::{ContainerInspectResponse, HealthStatusEnum, NetworkCreateRequest};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, EventsOptionsBuilder, ListContainersOptionsBuilder,
    LogsOptionsBuilder, RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
    UploadToContainerOptionsBuilder,
};
use futures_util::{Stream, StreamExt as _};
use schemas::document::{Assignment, SpecDocument};
use schemas::event::{Endpoint, Evidence};
use schemas::id::{AppKey, NodeName, ReplicaId};
use schemas::spec::{Check, Protocol};
use tokio::sync::{Mutex, RwLock};

use super::names::Names;
use super::{Done, ImageHealth, Info, Listed, Op, spec};
use crate::probe;

/// After which a call has failed. Pulling and stopping have bounds of their own.
const DEADLINE: Duration = Duration::from_secs(30);
/// How many of a run's last lines are kept.
const LAST_LINES: usize = 20;
/// How long a kept line may be, in characters.
const LINE_MAX: usize = 400;

/// An engine, as one node's agent uses it.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(super) docker: Docker,
    node: NodeSettings,
    networks: Arc<Networks>,
    pulled: Arc<image::Pulled>,
}

/// What a node's containers are like because of the node.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// Its name.
    pub name: NodeName,
    /// The address at which others reach ports of it.
    pub address: String,
    /// The host paths that may be mounted.
    pub allowed: Vec<PathBuf>,
    /// Who answers for names.
    pub(crate) names: Names,
}

/// Who may touch networks: whoever makes a container uses one, and one is taken away only while
/// nobody does. Made one at a time, because an engine makes two of one name when asked twice.
#[derive(Debug, Default)]
struct Networks {
    used: RwLock<()>,
    making: Mutex<()>,
}

type Failed = (&'static str, String);

fn at(step: &'static str) -> impl Fn(bollard::errors::Error) -> Failed {
    move |error| (step, error.to_string())
}

fn is_missing(error: &bollard::errors::Error) -> bool {
    status(error) == Some(404)
}

fn status(error: &bollard::errors::Error) -> Option<u16> {
    match error {
        bollard::errors::Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// A container's address in its one network, and the length of that network's prefix.
fn own_address(made: &ContainerInspectResponse) -> Option<String> {
    let networks = made.network_settings.as_ref()?.networks.as_ref()?;
    networks.values().find_map(|network| {
        let address = network.ip_address.as_ref().filter(|address| !address.is_empty())?;
        Some(format!("{address}/{}", network.ip_prefix_len?))
    })
}

impl Engine {
    /// Connects to a socket: `unix:///var/run/docker.sock` or `tcp://host:port`.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn connect(url: &str, node: NodeSettings) -> Result<Self, String> {
        let failed = |error: bollard::errors::Error| format!("no engine answers at {url}: {error}");
        let seconds = DEADLINE.as_secs();
        let docker = match url.strip_prefix("unix://") {
            Some(path) => Docker::connect_with_unix(path, seconds, bollard::API_DEFAULT_VERSION),
            None => Docker::connect_with_http(url, seconds, bollard::API_DEFAULT_VERSION),
        };
        let docker = docker.map_err(failed)?.negotiate_version().await.map_err(failed)?;
        Ok(Self { docker, node, networks: Arc::default(), pulled: Arc::default() })
    }

    /// What the engine says of itself.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn info(&self) -> Result<Info, String> {
        let info = self.docker.info().await.map_err(|error| error.to_string())?;
        let positive = |value: Option<i64>| u64::try_from(value.unwrap_or(0)).unwrap_or(0);
        let arch = match info.architecture.as_deref() {
            Some("x86_64") => "amd64",
            Some("aarch64") => "arm64",
            Some(other) => other,
            None => "unknown",
        };
        Ok(Info {
            version: info.server_version.unwrap_or_default(),
            arch: arch.to_owned(),
            os: info.operating_system.unwrap_or_default(),
            cores: positive(info.ncpu),
            memory_bytes: positive(info.mem_total),
            data_dir: info.docker_root_dir.unwrap_or_else(|| "/var/lib/docker".to_owned()),
        })
    }

    /// Does one thing.
    pub async fn run(&self, op: Op) -> Done {
        let done = match op {
            Op::Resolve { spec, .. } => self.resolve(&spec).await.map(Done::Resolved),
            Op::Start { replica, run, assignment, spec, cluster } => {
                let of = spec::Of { node: &self.node.name, cluster: cluster.as_deref() };
                self.start(of, &replica, run, &assignment, &spec).await
            }
            Op::Examine { replica, run, remove } => self.examine(&replica, run, remove).await,
            Op::Stop { replica, run, signal, grace_ms, remove, app } => {
                let name = spec::name(&replica, run);
                match self.stop(&name, signal, grace_ms).await {
                    Ok(()) if remove => {
                        let removed = self.remove(&name).await;
                        if let Some(app) = app {
                            self.drop_network(&app).await;
                        }
                        removed
                    }
                    stopped => stopped,
                }
                .map(|()| Done::Stopped)
            }
            Op::Probe { replica, run, check, endpoints, timeout_ms } => {
                let limit = Duration::from_millis(timeout_ms);
                let tried = self.probe(&replica, run, &check, &endpoints);
                let outcome = tokio::time::timeout(limit, tried).await;
                let late = || Err(format!("no answer within {timeout_ms} ms"));
                Ok(Done::Probed(outcome.unwrap_or_else(|_| late())))
            }
            Op::RemoveStray { container } => {
                self.remove(&container).await.map(|()| Done::StrayRemoved)
            }
            Op::RemoveImage { id, .. } => self.remove_image(&id).await,
            Op::List { .. } => self.list().await.map(Done::Listed),
        };
        done.unwrap_or_else(|(step, error)| Done::Failed { step: step.to_owned(), error })
    }

    async fn start(
        &self,
        of: spec::Of<'_>,
        replica: &ReplicaId,
        run: u32,
        assignment: &Assignment,
        document: &SpecDocument,
    ) -> Result<Done, Failed> {
        let image = assignment.image.as_deref().unwrap_or_default();
        self.have_image(image).await?;
        let _using = self.networks.used.read().await;
        self.make_network(&spec::network(&self.node.name, &assignment.app)).await?;
        let name = spec::name(replica, run);
        self.create(of, &name, replica, run, assignment, document).await?;
        self.docker.start_container(&name, None).await.map_err(at("start"))?;
        let made = self.docker.inspect_container(&name, None).await.map_err(at("inspect"))?;
        Ok(Done::Started {
            container: made.id.clone().unwrap_or_default(),
            endpoints: self.endpoints_of(&made),
            inside: own_address(&made),
            image_checks: made.state.and_then(|state| state.health).is_some(),
        })
    }

    async fn create(
        &self,
        of: spec::Of<'_>,
        name: &str,
        replica: &ReplicaId,
        run: u32,
        assignment: &Assignment,
        document: &SpecDocument,
    ) -> Result<(), Failed> {
        let names = self.node.names.server(of.cluster).await;
        let body = spec::body(of, replica, run, assignment, document, &self.node.allowed, names);
        let body = body.map_err(|error| ("create", error))?;
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        match self.docker.create_container(Some(options), body).await {
            Ok(_) => {}
            // A crash between creating and telling: it is ours already. Or somebody else's.
            Err(error) if status(&error) == Some(409) => self.check_own(of, name).await?,
            Err(error) => return Err(at("create")(error)),
        }
        let archive = spec::config_archive(document).map_err(|error| ("copy configs", error))?;
        if let Some(archive) = archive {
            let options = UploadToContainerOptionsBuilder::default().path("/").build();
            let body = bollard::body_full(archive.into());
            let sent = self.docker.upload_to_container(name, Some(options), body).await;
            sent.map_err(at("copy configs"))?;
        }
        Ok(())
    }

    /// Refuses a container that has our name and is not ours: it must not be taken for a run.
    async fn check_own(&self, of: spec::Of<'_>, name: &str) -> Result<(), Failed> {
        let found = self.docker.inspect_container(name, None).await.map_err(at("inspect"))?;
        let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
        if of.has(&labels) {
            return Ok(());
        }
        let error = format!(
            "the name {name} is taken by a container that is not this cluster's or node's: remove or \
             rename it"
        );
        Err(("create", error))
    }

    /// Takes the network of an app away, unless a container has it still.
    async fn drop_network(&self, app: &AppKey) {
        let _alone = self.networks.used.write().await;
        // The engine refuses while a container that runs has it; the next one that goes tries again.
        let _ = self.docker.remove_network(&spec::network(&self.node.name, app)).await;
    }

    async fn make_network(&self, name: &str) -> Result<(), Failed> {
        let _making = self.networks.making.lock().await;
        if self.docker.inspect_network(name, None).await.is_ok() {
            return Ok(());
        }
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            labels: Some([("io.muster.managed".to_owned(), "true".to_owned())].into()),
            ..NetworkCreateRequest::default()
        };
        match self.docker.create_network(request).await {
            Ok(_) => Ok(()),
            Err(error) => Err(at("create the network")(error)),
        }
    }

    fn endpoints_of(&self, made: &ContainerInspectResponse) -> Vec<Endpoint> {
        let ports = made.network_settings.as_ref().and_then(|settings| settings.ports.as_ref());
        let mut endpoints: Vec<Endpoint> = ports
            .into_iter()
            .flatten()
            .filter_map(|(key, bindings)| {
                let (container, protocol) = key.split_once('/')?;
                let binding = bindings.as_ref()?.first()?;
                Some(Endpoint {
                    container: container.parse().ok()?,
                    protocol: if protocol == "udp" { Protocol::Udp } else { Protocol::Tcp },
                    address: self.node.address.clone(),
                    port: binding.host_port.as_ref()?.parse().ok()?,
                })
            })
            .collect();
        endpoints.sort();
        endpoints
    }

    async fn examine(&self, replica: &ReplicaId, run: u32, remove: bool) -> Result<Done, Failed> {
        let name = spec::name(replica, run);
        let state = match self.docker.inspect_container(&name, None).await {
            Ok(found) => found.state.unwrap_or_default(),
            Err(error) if is_missing(&error) => {
                let cause = "its container was removed by hand".to_owned();
                return Ok(Done::Examined(Evidence { cause, ..Evidence::default() }));
            }
            Err(error) => return Err(at("inspect")(error)),
        };
        if state.running == Some(true) {
            return Ok(Done::StillRuns);
        }
        let out_of_memory = state.oom_killed == Some(true);
        let exit_code = state.exit_code;
        let cause = match (out_of_memory, exit_code) {
            (true, _) => "killed: it used more memory than its limit".to_owned(),
            (false, Some(code)) if code > 128 => {
                format!("exited with {code} (signal {})", code - 128)
            }
            (false, Some(code)) => format!("exited with {code}"),
            (false, None) => "ended".to_owned(),
        };
        let last_lines = self.last_lines(&name).await;
        if remove {
            self.remove(&name).await?;
        }
        Ok(Done::Examined(Evidence { exit_code, out_of_memory, cause, last_lines }))
    }

    async fn last_lines(&self, name: &str) -> Vec<String> {
        let options = LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .tail(&LAST_LINES.to_string())
            .build();
        let mut output = self.docker.logs(name, Some(options));
        let mut text = String::new();
        while let Some(Ok(part)) = output.next().await {
            text.push_str(&String::from_utf8_lossy(&part.into_bytes()));
        }
        let lines: Vec<&str> = text.lines().collect();
        let kept = lines.iter().skip(lines.len().saturating_sub(LAST_LINES));
        kept.map(|line| schemas::command::printable(line, LINE_MAX)).collect()
    }

    async fn stop(&self, name: &str, signal: Option<String>, grace_ms: u64) -> Result<(), Failed> {
        let seconds = i32::try_from(grace_ms.div_ceil(1_000)).unwrap_or(i32::MAX);
        let mut options = StopContainerOptionsBuilder::default().t(seconds);
        if let Some(signal) = &signal {
            options = options.signal(signal);
        }
        let limit = Duration::from_millis(grace_ms) + DEADLINE;
        let docker = self.docker.clone().with_timeout(limit);
        match docker.stop_container(name, Some(options.build())).await {
            Ok(()) => Ok(()),
            // 304: it had ended. 404: it was never made, or is gone.
            Err(error) if matches!(status(&error), Some(304 | 404)) => Ok(()),
            Err(error) => Err(at("stop")(error)),
        }
    }

    async fn remove(&self, name: &str) -> Result<(), Failed> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match self.docker.remove_container(name, Some(options)).await {
            Ok(()) => Ok(()),
            // 409: its removal is under way already.
            Err(error) if matches!(status(&error), Some(404 | 409)) => Ok(()),
            Err(error) => Err(at("remove")(error)),
        }
    }

    async fn probe(
        &self,
        replica: &ReplicaId,
        run: u32,
        check: &Check,
        endpoints: &[Endpoint],
    ) -> Result<(), String> {
        let name = spec::name(replica, run);
        match check {
            Check::None => Ok(()),
            Check::Exec { command } => self.exec(&name, command).await,
            Check::Http { port, path } => {
                probe::http(&self.reach(&name, *port, endpoints).await?, path).await
            }
            Check::Tcp { port } => probe::tcp(&self.reach(&name, *port, endpoints).await?).await,
        }
    }

    /// Where this machine reaches a container's port: on its own bridge address.
    async fn reach(&self, name: &str, port: u16, endpoints: &[Endpoint]) -> Result<String, String> {
        let found = self.docker.inspect_container(name, None).await.map_err(|e| e.to_string())?;
        let networks = found.network_settings.and_then(|settings| settings.networks);
        let address = networks
            .into_iter()
            .flatten()
            .find_map(|(_, network)| network.ip_address.filter(|address| !address.is_empty()));
        match address {
            Some(address) => Ok(format!("{address}:{port}")),
            None => {
                let mapped = endpoints.iter().find(|endpoint| endpoint.container == port);
                mapped
                    .map(|endpoint| format!("{}:{}", endpoint.address, endpoint.port))
                    .ok_or_else(|| format!("port {port} cannot be reached"))
            }
        }
    }

    async fn exec(&self, name: &str, command: &[String]) -> Result<(), String> {
        let config = bollard::models::ExecConfig {
            cmd: Some(command.to_vec()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..Default::default()
        };
        let text = |error: bollard::errors::Error| error.to_string();
        let exec = self.docker.create_exec(name, config).await.map_err(text)?;
        let mut said = String::new();
        if let StartExecResults::Attached { mut output, .. } =
            self.docker.start_exec(&exec.id, None).await.map_err(text)?
        {
            while let Some(Ok(part)) = output.next().await {
                if said.len() < LINE_MAX {
                    said.push_str(&String::from_utf8_lossy(&part.into_bytes()));
                }
            }
        }
        let ended = self.docker.inspect_exec(&exec.id).await.map_err(text)?;
        match ended.exit_code {
            Some(0) => Ok(()),
            code => {
                let code = code.map_or_else(|| "no code".to_owned(), |code| code.to_string());
                let said = schemas::command::printable(said.trim(), LINE_MAX);
                Err(format!("{} exited with {code}: {said}", command.join(" ")))
            }
        }
    }

    fn own(&self) -> HashMap<String, Vec<String>> {
        [("label".to_owned(), vec![format!("{}={}", spec::NODE_LABEL, self.node.name)])].into()
    }

    async fn list(&self) -> Result<BTreeMap<String, Listed>, Failed> {
        let options =
            ListContainersOptionsBuilder::default().all(true).filters(&self.own()).build();
        let found = self.docker.list_containers(Some(options)).await.map_err(at("list"))?;
        let mut listed = BTreeMap::new();
        for container in found {
            let labels = container.labels.unwrap_or_default();
            let replica = labels.get(spec::REPLICA_LABEL).and_then(|id| ReplicaId::new(id).ok());
            let run = labels.get(spec::RUN_LABEL).and_then(|run| run.parse().ok());
            let (Some(replica), Some(run)) = (replica, run) else { continue };
            let id = container.id.unwrap_or_default();
            let cluster = labels.get(spec::CLUSTER_LABEL).cloned();
            let running =
                container.state == Some(bollard::models::ContainerSummaryStateEnum::RUNNING);
            let name = spec::name(&replica, run);
            let (health, endpoints, inside) = (None, Vec::new(), None);
            let mut found =
                Listed { id, replica, run, cluster, running, health, endpoints, inside };
            if running {
                self.look_into(&mut found).await;
            }
            listed.insert(name, found);
        }
        Ok(listed)
    }

    /// Adds what only a closer look at a container tells. One that has gone meanwhile has none of it.
    async fn look_into(&self, listed: &mut Listed) {
        let Ok(found) = self.docker.inspect_container(&listed.id, None).await else { return };
        listed.endpoints = self.endpoints_of(&found);
        listed.inside = own_address(&found);
        let Some(found) = found.state.and_then(|state| state.health) else { return };
        listed.health = match found.status {
            Some(HealthStatusEnum::STARTING) => Some(ImageHealth::Starting),
            Some(HealthStatusEnum::HEALTHY) => Some(ImageHealth::Healthy),
            Some(HealthStatusEnum::UNHEALTHY) => {
                let last = found.log.unwrap_or_default().pop().unwrap_or_default();
                let said = last.output.as_deref().map(str::trim).filter(|said| !said.is_empty());
                let said = said.map_or_else(|| "it said nothing".to_owned(), str::to_owned);
                Some(ImageHealth::Unhealthy(said))
            }
            _ => None,
        };
    }

    /// Something happened to one of our containers: the name of one that died, or nothing that is
    /// known. Only hints: examining and listing tell what.
    pub fn events(&self) -> impl Stream<Item = Option<String>> + Send + use<> {
        let mut filters = self.own();
        filters.insert("type".to_owned(), vec!["container".to_owned()]);
        let wanted = ["die", "destroy", "health_status"];
        filters.insert("event".to_owned(), wanted.map(str::to_owned).to_vec());
        let options = EventsOptionsBuilder::default().filters(&filters).build();
        self.docker.events(Some(options)).filter_map(|event| async move {
            let event = event.ok()?;
            let died = event.action.as_deref() == Some("die");
            let name = event.actor.and_then(|actor| actor.attributes?.remove("name"));
            Some(name.filter(|_| died))
        })
    }
}
