//! Hosts to run nodes on: engines in network namespaces, each with one link to this machine.
//!
//! `infra/engines.sh` makes them. They go when the fixture does, with all that runs there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::cluster::{docker, docker_at, text};

/// Several engines.
pub struct Engines {
    folder: PathBuf,
    hosts: Vec<Host>,
}

/// One of them, as on a host of its own.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name for [`Engines`].
    pub name: String,
    /// Its address.
    pub address: String,
    /// The address of this machine, as seen from there.
    pub gateway: String,
    /// Its engine's socket, which a cut does not touch.
    pub engine: String,
    netns: String,
    pidfile: PathBuf,
}

impl Host {
    /// A command that runs there: behind the link that can be cut.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.netns)).arg(program);
        command
    }

    /// Kills its engine without warning.
    pub fn kill_engine(&self) {
        let pid = std::fs::read_to_string(&self.pidfile).expect("the engine runs");
        let killed = Command::new("kill").args(["-9", pid.trim()]).status();
        assert!(killed.expect("kill is there").success(), "cannot kill the engine of {self:?}");
    }
}

impl Engines {
    /// Starts so many.
    ///
    /// # Panics
    ///
    /// When they cannot be started: they need root.
    #[must_use]
    pub fn up(count: usize) -> Self {
        // Tests of one process run side by side.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("muster-engines-{}-{number}", std::process::id());
        let mut engines = Self { folder: std::env::temp_dir().join(name), hosts: Vec::new() };
        let listed = engines.script(&["up", &count.to_string()]);
        engines.hosts = listed.lines().map(host).collect();
        assert_eq!(engines.hosts.len(), count, "{listed}");
        engines
    }

    /// The hosts.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Carries an image of this machine's engine to all of them. Importing it anew would give it
    /// another id on each.
    pub fn carry(&self, image: &str) {
        let path = self.folder.join("image.tar");
        let path = path.to_str().expect("the temporary folder has a plain name");
        let _ = docker(&["save", "-o", path, image]);
        for host in &self.hosts {
            let loaded = docker_at(&host.engine, &["load", "-i", path]);
            assert!(loaded.contains(image), "{image} was not loaded: is there one? {loaded}");
        }
    }

    /// Pulls the link of a host: what it runs goes on, and nothing reaches it.
    pub fn cut(&self, host: &Host) {
        self.script(&["cut", &host.name]);
    }

    /// Plugs it in again.
    pub fn heal(&self, host: &Host) {
        self.script(&["heal", &host.name]);
    }

    /// Has what goes to a host, and what comes from it, take so many milliseconds longer, for good.
    pub fn slow(&self, host: &Host, ms: u32) {
        self.script(&["slow", &host.name, &ms.to_string()]);
    }

    /// Starts an engine that was killed.
    pub fn start(&self, host: &Host) {
        self.script(&["start", &host.name]);
    }

    fn script(&self, args: &[&str]) -> String {
        let script = crate::root().join("infra/engines.sh");
        let run = Command::new(script)
            .args(args)
            .env("MUSTER_ENGINES_DIR", &self.folder)
            .stdin(Stdio::null())
            .output()
            .expect("infra/engines.sh runs");
        assert!(run.status.success(), "engines.sh {args:?}: {}", text(&run.stderr));
        text(&run.stdout)
    }
}

/// A line of `engines.sh`: `name=e1 address=…`.
fn host(line: &str) -> Host {
    let of = |key: &str| {
        let found = line.split_whitespace().find_map(|pair| pair.strip_prefix(key));
        found.unwrap_or_else(|| panic!("no {key} in {line}")).to_owned()
    };
    Host {
        name: of("name="),
        address: of("address="),
        gateway: of("host="),
        engine: of("docker_host="),
        netns: of("netns="),
        pidfile: of("pidfile=").into(),
    }
}

impl Drop for Engines {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A second panic would end the process before the other fixtures are gone.
            let _ = std::panic::catch_unwind(|| self.script(&["down"]));
        } else {
            self.script(&["down"]);
        }
    }
}
