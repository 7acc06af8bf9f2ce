//! Three hosts with an app of ten replicas, reached through the gateway of each.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Cluster, free_port, get, text};
use crate::engines::Engines;
use crate::load::{Load, Mix, RATE};

/// How many replicas there are.
pub(super) const REPLICAS: usize = 10;

/// How long requests come in before anything is done, and after it.
const AROUND: Duration = Duration::from_secs(1);

/// How long a command may wait, for `--timeout`.
const PATIENCE: &str = "180s";

/// All of it. The cluster goes before its hosts do.
pub(super) struct Stage {
    pub(super) cluster: Cluster,
    pub(super) engines: Engines,
    port: u16,
    /// What differs from one declaration to the next.
    edition: u32,
}

/// A replica, as `muster ps` tells it.
#[derive(Clone, Debug)]
pub(super) struct Replica {
    pub(super) id: String,
    pub(super) node: String,
    pub(super) state: String,
    pub(super) run: u64,
}

impl Stage {
    /// Starts everything, and waits until each gateway leads to the app.
    pub(super) fn set() -> Self {
        let engines = Engines::up(3);
        engines.carry("muster/web:4");
        let cluster = Cluster::start_on(engines.hosts());
        let mut stage = Self { cluster, engines, port: free_port(), edition: 0 };
        let declared = stage.declared("rolling", &json!({}));
        stage.deploy(&declared);
        stage.settled();
        for at in stage.gateways() {
            stage.cluster.until(&format!("{at} leads to it"), |_| {
                get(&at.to_string(), "/").is_ok_and(|(status, _)| status == 200)
            });
        }
        stage
    }

    /// The addresses at which the app is published.
    pub(super) fn gateways(&self) -> Vec<SocketAddr> {
        let at = |address: &str| format!("{address}:{}", self.port).parse();
        self.engines.hosts().iter().map(|host| at(&host.address).expect("an address")).collect()
    }

    /// The next edition of the app, by a strategy, with settings of its program besides.
    pub(super) fn declared(&mut self, strategy: impl Into<Value>, settings: &Value) -> Value {
        self.edition += 1;
        let mut env = settings.clone();
        env["GREETING"] = format!("edition{}", self.edition).into();
        json!({"name": self.cluster.app(), "workloads": {"web": {
            "image": "muster/web:4", "replicas": REPLICAS, "env": env,
            "ports": [{"container": 8080, "published": self.port}],
            "probe": {"check": {"http": {"port": 8080, "path": "/healthz"}}, "interval_ms": 500},
            "resources": {"cpu_millis": 50, "memory_limit_bytes": 33_554_432},
            "update": {"strategy": strategy.into(), "parallelism": 2, "healthy_for_ms": 100,
                       "deadline_ms": 120_000},
        }}})
    }

    /// What answers of the last edition begin with.
    pub(super) fn greeting(&self) -> String {
        format!("edition{} ", self.edition)
    }

    /// Deploys it, and waits for its end or for what it waits for; what was said.
    pub(super) fn deploy(&self, app: &Value) -> String {
        let (well, said) = self.try_deploy(app);
        assert!(well, "{said}{}", self.cluster.logs());
        said
    }

    /// The same, and whether it went well.
    pub(super) fn try_deploy(&self, app: &Value) -> (bool, String) {
        let path = self.cluster.write("app.json", &app.to_string());
        let output = self.cluster.muster(&["deploy", "-f", &path, "--timeout", PATIENCE]);
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    }

    /// A command that waits for what it brings about.
    pub(super) fn ok(&self, args: &[&str]) -> String {
        self.cluster.ok(&[args, &["--timeout", PATIENCE]].concat())
    }

    /// Its replicas.
    pub(super) fn replicas(&self) -> Vec<Replica> {
        let printed = self.cluster.ok(&["ps", self.cluster.app(), "-o", "json"]);
        let listed: Value = serde_json::from_str(&printed).expect("ps prints JSON");
        let text = |item: &Value, key: &str| item[key].as_str().unwrap_or_default().to_owned();
        let items = listed["items"].as_array().expect("a list").iter();
        let replica = |item: &Value| Replica {
            id: text(item, "replica"),
            node: text(item, "node"),
            state: text(item, "state"),
            run: item["run"].as_u64().unwrap_or(0),
        };
        items.map(replica).collect()
    }

    /// Waits until there are ten replicas, all ready, and no other container.
    pub(super) fn settled(&self) {
        self.cluster.until(
            "there are ten replicas, all ready, and no other container",
            |cluster| {
                let replicas = self.replicas();
                replicas.len() == REPLICAS
                    && replicas.iter().all(|replica| replica.state == "ready")
                    && cluster.containers().len() == REPLICAS
            },
        );
    }

    /// Requests that come in through these gateways, which have begun.
    pub(super) fn load(&self, at: &[SocketAddr], mix: Mix) -> Load {
        let load = Load::start(at, RATE, mix);
        std::thread::sleep(AROUND);
        load
    }

    /// The same through all of them.
    pub(super) fn load_on_all(&self) -> Load {
        self.load(&self.gateways(), Mix::GetsAndPosts)
    }

    /// Lets requests come in for a while after what was done.
    pub(super) fn after(&self) {
        std::thread::sleep(AROUND);
    }

    /// History is whole, and nothing impossible is in it.
    pub(super) fn verified(&self) {
        assert!(self.cluster.ok(&["replay", "--verify"]).contains("verified"));
        assert!(!self.cluster.ok(&["doctor"]).contains("impossible"));
    }
}
