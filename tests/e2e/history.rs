//! The walk through an incident in `docs/history.md`, step by step, on a real cluster.

use std::time::{Duration, Instant};

use tests::cluster::{Cluster, PATIENCE, text};
use tests::root;
use tests::transcript::{Names, Step, read};

/// What changes nothing may be asked again until it is as shown: what it waits for takes its time.
const LOOKS: [&str; 9] = ["why", "ps", "apps", "nodes", "log", "show", "blame", "diff", "audit"];

#[test]
fn the_walk_through_an_incident_is_as_documented() {
    let mut cluster = Cluster::start(3);
    let document = std::fs::read_to_string(root().join("docs/history.md")).expect("it is there");
    let (steps, files) = read(&document);
    assert!(steps.len() > 10 && !files.is_empty(), "it has a transcript");
    let mut names = Names::default();
    names.stand_for("shop", cluster.app());
    names.stand_for("ana", "tester");
    for (i, node) in (1..).zip(cluster.nodes()) {
        names.stand_for(&format!("n{i}"), node.as_str());
    }
    for (name, content) in &files {
        let _ = cluster.write(&names.real(name), &names.real(content));
    }
    for step in &steps {
        run(&mut cluster, step, &mut names);
    }
}

#[expect(clippy::disallowed_methods, reason = "a test waits by the clock, with a bound")]
fn run(cluster: &mut Cluster, step: &Step, names: &mut Names) {
    // A machine that is switched off is one whose agent is killed.
    if let Some(node) = step.typed.strip_prefix("ssh ").and_then(|t| t.strip_suffix(" poweroff")) {
        cluster.kill(&names.real(node));
        return;
    }
    let typed = words(&step.typed);
    let args: Vec<String> = typed.iter().skip(1).map(|word| names.real(word)).collect();
    // Files are in the folder of the cluster.
    let args: Vec<String> = args
        .into_iter()
        .map(|arg| match arg.ends_with(".yaml") {
            true => cluster.folder().join(arg).display().to_string(),
            false => arg,
        })
        .collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    assert_eq!(typed.first().map(String::as_str), Some("muster"), "{}", step.typed);
    let look = |cluster: &Cluster, names: &mut Names| -> Result<(), String> {
        let output = cluster.muster(&args);
        let printed = format!("{}{}", text(&output.stdout), text(&output.stderr));
        let mut learnt = names.clone();
        learnt
            .matches(&step.printed, &printed)
            .map_err(|line| format!("$ {}\nshown:\n{line}\nprinted:\n{printed}", args.join(" ")))?;
        *names = learnt;
        Ok(())
    };
    let began = Instant::now();
    while let Err(differs) = look(cluster, names) {
        let again = LOOKS.contains(&args[0]) && began.elapsed() < PATIENCE;
        assert!(again, "{differs}{}", cluster.logs());
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// The words of a line; between quotes is one word.
fn words(line: &str) -> Vec<String> {
    let parts = line.split('\'').enumerate();
    let words = parts.flat_map(|(i, part)| match i % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect(),
        _ => vec![part.to_owned()],
    });
    words.collect()
}
