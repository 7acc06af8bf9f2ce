//! The engine, as bare as it can be had: one HTTP request a connection, and nothing between.
//!
//! It is the yardstick of everything about containers, so it does what must be done and no more:
//! create, start. A user's own client could not do it with less.

use std::path::{Path, PathBuf};

use runtime::Failure;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::clock::Since;

/// The label of what this program made by hand.
const LABEL: &str = "io.muster.bench";

/// An engine behind a socket.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    socket: PathBuf,
    image: String,
    /// Of everything that this run makes.
    tag: String,
}

impl Engine {
    /// Connects, and looks for the image.
    pub(crate) async fn connect(socket: &Path, image: &str) -> Result<Self, Failure> {
        let tag = format!("bench{}", std::process::id());
        let engine = Self { socket: socket.to_owned(), image: image.to_owned(), tag };
        let found = engine.ask("GET", &format!("/images/{image}/json"), None).await;
        found.map_err(|error| format!("{error}: `make images` makes the image"))?;
        Ok(engine)
    }

    /// Where it is.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let failed = |error: std::io::Error| {
            format!("the engine at {} does not answer: {error}", self.socket.display())
        };
        let mut stream = UnixStream::connect(&self.socket).await.map_err(failed)?;
        let body = body.map_or(String::new(), Value::to_string);
        let request = format!(
            "{method} {path} HTTP/1.0\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.map_err(failed)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map_err(failed)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split_whitespace().nth(1).unwrap_or_default();
        if !status.starts_with('2') && status != "304" {
            return Err(format!("{method} {path}: {status} {}", body.trim()).into());
        }
        // HTTP/1.0 has no chunks: what follows the head is the answer, and may be nothing.
        if body.is_empty() {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_str(body).map_err(|error| format!("{method} {path}: {error}"))?)
    }

    fn network(&self) -> String {
        self.tag.clone()
    }

    /// Makes the network that containers made by hand are on.
    pub(crate) async fn make_network(&self) -> Result<(), Failure> {
        let body =
            json!({ "Name": self.network(), "Driver": "bridge", "Labels": { LABEL: self.tag } });
        self.ask("POST", "/networks/create", Some(&body)).await.map(|_| ())
    }

    /// Creates and starts one container, as an agent makes one of an app with one port.
    pub(crate) async fn run(&self, name: &str) -> Result<(), Failure> {
        let body = json!({
            "Image": self.image,
            "Hostname": name,
            "Labels": { LABEL: self.tag },
            "ExposedPorts": { "8080/tcp": {} },
            "HostConfig": {
                "NetworkMode": self.network(),
                "PortBindings": { "8080/tcp": [{ "HostPort": "" }] },
                "PidsLimit": 4096,
                "SecurityOpt": ["no-new-privileges:true"],
                "LogConfig": { "Type": "json-file", "Config": { "max-size": "10m", "max-file": "3" } },
            },
        });
        let name = format!("{}-{name}", self.tag);
        self.ask("POST", &format!("/containers/create?name={name}"), Some(&body)).await?;
        self.ask("POST", &format!("/containers/{name}/start"), None).await.map(|_| ())
    }

    /// Creates and starts so many, so many at once: how long that took.
    pub(crate) async fn run_all(&self, count: u32, at_once: u32) -> Result<u64, Failure> {
        let next = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
        let mut workers = tokio::task::JoinSet::new();
        let since = Since::now();
        for _ in 0..at_once {
            let (engine, next) = (self.clone(), next.clone());
            workers.spawn(async move {
                loop {
                    let i = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if i >= count {
                        return Ok::<(), Failure>(());
                    }
                    engine.run(&i.to_string()).await?;
                }
            });
        }
        while let Some(worker) = workers.join_next().await {
            worker??;
        }
        Ok(since.us())
    }

    /// Removes the containers made by hand.
    pub(crate) async fn clear(&self) -> Result<(), Failure> {
        self.remove_labelled(&format!("{LABEL}={}", self.tag)).await
    }

    /// Removes every container and network with a label.
    pub(crate) async fn remove_labelled(&self, label: &str) -> Result<(), Failure> {
        for id in self.ids("/containers/json?all=true&", label).await? {
            self.ask("DELETE", &format!("/containers/{id}?force=true&v=true"), None).await?;
        }
        Ok(())
    }

    /// Removes the networks whose names contain this.
    pub(crate) async fn remove_networks(&self, name: &str) -> Result<(), Failure> {
        for id in self.listed("/networks?", &json!({ "name": [name] })).await? {
            self.ask("DELETE", &format!("/networks/{id}"), None).await?;
        }
        Ok(())
    }

    /// Removes all that was made by hand.
    pub(crate) async fn clean_up(&self) -> Result<(), Failure> {
        self.clear().await?;
        self.remove_networks(&self.network()).await
    }

    /// Kills a container.
    pub(crate) async fn kill(&self, container: &str) -> Result<(), Failure> {
        self.ask("POST", &format!("/containers/{container}/kill"), None).await.map(|_| ())
    }

    async fn ids(&self, path: &str, label: &str) -> Result<Vec<String>, Failure> {
        self.listed(path, &json!({ "label": [label] })).await
    }

    async fn listed(&self, path: &str, filters: &Value) -> Result<Vec<String>, Failure> {
        let filters = percent_encoded(&filters.to_string());
        let found = self.ask("GET", &format!("{path}filters={filters}"), None).await?;
        let ids = found.as_array().into_iter().flatten();
        Ok(ids.filter_map(|one| one["Id"].as_str().map(str::to_owned)).collect())
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
