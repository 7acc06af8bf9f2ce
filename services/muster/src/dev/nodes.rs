//! The nodes of a development cluster: on an engine of this machine, or simulated, as a fork has them.

use std::path::PathBuf;

use schemas::event::NodeDescription;
use schemas::id::NodeName;

use super::checks;
use crate::args::Dev;
use crate::context::default_dev_dir;
use crate::error::CliError;
use crate::fork::Forked;

/// How many more nodes than are run here may join from other processes.
const JOINING: u16 = 8;

/// The nodes, each with what its agent is told beside the settings that all have.
pub(super) struct Nodes {
    pub(super) run: Vec<(NodeName, Vec<String>)>,
    /// Those that may be there: more may join from other processes.
    pub(super) known: Vec<NodeName>,
}

/// The folder of the cluster.
pub(super) fn folder(dev: &Dev) -> PathBuf {
    dev.fork.clone().or_else(|| dev.data_dir.clone()).unwrap_or_else(default_dev_dir)
}

impl Nodes {
    /// Those that were asked for, once their engine answers; or those of the fork.
    pub(super) async fn of(dev: &Dev) -> Result<Self, CliError> {
        if let Some(folder) = &dev.fork {
            let forked = Forked::read(folder)?;
            let run: Vec<_> =
                forked.nodes.into_iter().map(|(name, node)| (name, simulated(node))).collect();
            let known = run.iter().map(|(name, _)| name.clone()).collect();
            return Ok(Self { run, known });
        }
        checks::engine(&dev.docker_host).await?;
        let mut args = vec!["--docker-host".to_owned(), dev.docker_host.clone()];
        args.extend(["--shared-by".to_owned(), dev.nodes.to_string()]);
        for path in &dev.allow_mount {
            args.extend(["--allow-mount".to_owned(), path.display().to_string()]);
        }
        let known: Vec<NodeName> = (1..=dev.nodes + JOINING)
            .map(|number| NodeName::new(&format!("{}{number}", dev.node_prefix)))
            .collect::<Result<_, _>>()
            .map_err(|error| CliError::usage(error.to_string()))?;
        let run = known.iter().take(dev.nodes.into()).map(|name| (name.clone(), args.clone()));
        Ok(Self { run: run.collect(), known })
    }

    pub(super) fn names(&self) -> Vec<NodeName> {
        self.run.iter().map(|(name, _)| name.clone()).collect()
    }
}

/// A node that is as it was described, with nothing behind it.
fn simulated(node: NodeDescription) -> Vec<String> {
    let mut args = vec![
        "--docker-host".to_owned(),
        format!("simulated:{}", node.arch),
        "--address".to_owned(),
        node.address,
        "--cpu-millis".to_owned(),
        node.cpu_millis.to_string(),
        "--memory-bytes".to_owned(),
        node.memory_bytes.to_string(),
    ];
    for (key, value) in node.labels {
        args.extend(["--label".to_owned(), format!("{key}={value}")]);
    }
    args
}
