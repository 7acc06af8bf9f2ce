//! Every command that reads history, once in each repetition, on a long one: what has no goal of its own must
//! still work there, and say how long it takes.

use std::path::Path;

use runtime::Failure;

use super::ask::ask;
use crate::Args;

/// What is asked, and the words for it.
pub(super) fn questions(url: &str, end: u64, folder: &Path) -> Result<Vec<Question>, Failure> {
    let app = an_app(url)?;
    let node = "node-01";
    let (quarter, half) = (end / 4, end / 2);
    let (fork, bundle) = (folder.join("fork"), folder.join("bundle"));
    let lines = [
        ("show, of an event in the middle", format!("show r{half}")),
        ("blame, of an app", format!("blame {app}")),
        ("ps --at, in the middle", format!("ps --at r{half}")),
        ("diff, of 10,000 events", format!("diff r{half}..r{}", half + 10_000)),
        ("diff, of half of the history", format!("diff r{quarter}..r{}", quarter + half)),
        ("undo --dry-run, of 10,000 events", format!("undo r{} --dry-run", end - 10_000)),
        ("whatif --kill-node", format!("whatif --kill-node {node}")),
        ("log, the last 1,000 of a node", format!("log node/{node} --newest 1000")),
        ("audit prove, in the middle", format!("audit prove r{half}")),
    ];
    let mut questions: Vec<Question> = lines.into_iter().map(Question::of).collect();
    let appeared = format!("apps.exists(a, a.app == '{app}')");
    questions
        .push(Question::new("bisect, over all of the history", ["bisect", "--where", &appeared]));
    let at = format!("r{}", end / 10);
    let [fork, bundle] = [&fork, &bundle].map(|path| path.display().to_string());
    questions.push(Question::new(
        "fork, of a tenth of the history",
        ["fork", "--at", &at, "--into", &fork],
    ));
    let words = ["export", "--to", &at, "--into", &bundle];
    questions.push(Question::new("export, of a tenth of the history", words));
    questions
        .push(Question::of(("replay --verify, all of the history", "replay --verify".to_owned())));
    questions.push(Question::of(("audit verify, all of the history", "audit verify".to_owned())));
    Ok(questions)
}

/// A command line, and what is asked by it.
pub(super) struct Question {
    pub(super) what: &'static str,
    words: Vec<String>,
}

impl Question {
    fn of((what, line): (&'static str, String)) -> Self {
        Self { what, words: line.split(' ').map(str::to_owned).collect() }
    }

    fn new<const N: usize>(what: &'static str, words: [&str; N]) -> Self {
        Self { what, words: words.map(str::to_owned).into() }
    }
}

/// Microseconds that each takes. What forks write is deleted again.
pub(super) fn ask_all(
    args: &Args,
    url: &str,
    end: u64,
    folder: &Path,
) -> Result<Vec<(&'static str, u64)>, Failure> {
    let mut took = Vec::new();
    std::fs::create_dir_all(folder)?;
    for question in questions(url, end, folder)? {
        args.goes_on()?;
        let words: Vec<&str> = question.words.iter().map(String::as_str).collect();
        took.push((question.what, ask(url, &words)?.us));
    }
    std::fs::remove_dir_all(folder)?;
    Ok(took)
}

/// The name of an app that there is.
fn an_app(url: &str) -> Result<String, Failure> {
    let said = ask(url, &["apps", "-o", "json"])?.said;
    let apps: serde_json::Value = serde_json::from_slice(&said)?;
    let name = apps["items"][0]["app"].as_str();
    Ok(name.ok_or_else(|| format!("no app in {apps}"))?.to_owned())
}
