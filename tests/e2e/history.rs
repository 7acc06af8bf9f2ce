//! The walk through an incident in `docs/history.md`, step by step, on a real cluster.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tests::cluster::{Cluster, PATIENCE, program, text};
use tests::root;
use tests::transcript::{Line, Names, Step, read};

/// What changes nothing may be asked again until it is as shown: what it waits for takes its time.
const LOOKS: [&str; 11] =
    ["why", "ps", "apps", "nodes", "log", "show", "blame", "diff", "audit", "bisect", "whatif"];

#[test]
fn the_walk_through_an_incident_is_as_documented() {
    let cluster = Cluster::start(3);
    let document = std::fs::read_to_string(root().join("docs/history.md")).expect("it is there");
    let (steps, files) = read(&document);
    assert!(steps.len() > 20 && !files.is_empty(), "it has a transcript");
    let mut names = Names::default();
    names.stand_for("shop", cluster.app());
    names.stand_for("ana", "tester");
    for (i, node) in (1..).zip(cluster.nodes()) {
        names.stand_for(&format!("n{i}"), node.as_str());
    }
    for (name, content) in &files {
        let _ = cluster.write(&names.real(name), &names.real(content));
    }
    let mut walk = Walk { cluster, names, forks: Vec::new() };
    for step in &steps {
        walk.step(step);
    }
    let forked = walk.forks.len();
    assert_eq!(forked, 1, "it goes on otherwise, once");
}

/// A walk, as far as it has got.
struct Walk {
    cluster: Cluster,
    names: Names,
    forks: Vec<Fork>,
}

/// A cluster of a fork, which runs until the walk is over.
struct Fork(Child);

impl Drop for Fork {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

impl Walk {
    fn step(&mut self, step: &Step) {
        // A machine that is switched off is one whose agent is killed.
        if let Some(node) =
            step.typed.strip_prefix("ssh ").and_then(|t| t.strip_suffix(" poweroff"))
        {
            self.cluster.kill(&self.names.real(node));
            return;
        }
        let line = Line::read(&step.typed);
        assert_eq!(line.words.first().map(String::as_str), Some("muster"), "{}", step.typed);
        match &line.words[1..] {
            [dev, fork, into] if (dev.as_str(), fork.as_str()) == ("dev", "--fork") => {
                self.open(into, step);
            }
            _ => self.run(&line, step),
        }
    }

    /// `muster dev` on a fork, until the walk is over.
    fn open(&mut self, into: &str, step: &Step) {
        let log = self.cluster.folder().join("fork.log");
        let log = std::fs::File::create(log).expect("the folder takes files");
        let mut command = Command::new(program("muster"));
        command.args(["dev", "--nats-port", "0", "--fork", into]);
        command.current_dir(self.cluster.folder()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("muster runs");
        let out = child.stdout.take().expect("a pipe");
        self.forks.push(Fork(child));
        let mut printed = String::new();
        BufReader::new(out).read_line(&mut printed).expect("it can be read");
        self.shows(step, &printed).unwrap_or_else(|differs| panic!("{differs}"));
    }

    #[expect(clippy::disallowed_methods, reason = "a test waits by the clock, with a bound")]
    fn run(&mut self, line: &Line, step: &Step) {
        let began = Instant::now();
        loop {
            let printed = self.printed(line);
            let Err(differs) = self.shows(step, &printed) else { return };
            let looks = LOOKS.contains(&line.words[1].as_str());
            assert!(looks && began.elapsed() < PATIENCE, "{differs}{}", self.cluster.logs());
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// Whether what was printed is what the page shows; then its names are known from here on.
    fn shows(&mut self, step: &Step, printed: &str) -> Result<(), String> {
        let mut learnt = self.names.clone();
        learnt.matches(&step.printed, printed).map_err(|line| {
            format!("$ {}\nshown:\n{line}\nprinted:\n{printed}", self.names.real(&step.typed))
        })?;
        self.names = learnt;
        Ok(())
    }

    fn printed(&self, line: &Line) -> String {
        let args: Vec<String> =
            line.words.iter().skip(1).map(|word| self.names.real(word)).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut command = match line.variables.as_slice() {
            [] => self.cluster.command("tester", &args),
            variables => {
                let mut command = Command::new(program("muster"));
                for name in ["MUSTER_NATS_URL", "MUSTER_NATS_USER", "MUSTER_NATS_PASSWORD"] {
                    command.env_remove(name);
                }
                command.args(&args).envs(variables.iter().cloned()).stdin(Stdio::null());
                command
            }
        };
        let output = command.current_dir(self.cluster.folder()).output().expect("muster runs");
        let Output { stdout, stderr, .. } = output;
        let Some(file) = &line.into else { return format!("{}{}", text(&stdout), text(&stderr)) };
        let path: PathBuf = self.cluster.folder().join(file);
        std::fs::write(path, stdout).expect("the folder takes files");
        text(&stderr)
    }
}
