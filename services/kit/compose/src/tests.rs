//! Whole files through the front door: what comes out, and what is said.

mod any;
mod honoured;
mod merging;
mod table;
mod tasks;
mod wrong;

use std::collections::BTreeMap;

use schemas::spec::WorkloadSpec;

use crate::{Converted, Invalid, Project, Source, convert};

/// The folder that every test's project is in.
const FOLDER: &str = "/home/ana/Shop";

/// Files that the tests' Compose files name.
const FILES: [(&str, &str); 4] = [
    ("/home/ana/Shop/web.env", "FROM_FILE=file\nSHARED=file\n"),
    ("/home/ana/Shop/site.conf", "listen 80\n"),
    ("/home/ana/Shop/quoted.env", "A=\"1\"\n"),
    ("/home/ana/Shop/bad.env", "A=1\nB C\n"),
];

fn read(path: &str) -> Result<Vec<u8>, String> {
    let found = FILES.iter().find(|(name, _)| *name == path);
    found.map(|(_, text)| text.as_bytes().to_vec()).ok_or_else(|| "no such file".to_owned())
}

/// Converts files, with two variables set.
fn files(texts: &[&str]) -> Result<Converted, Invalid> {
    let names = ["compose.yaml", "override.yaml", "third.yaml"];
    let sources: Vec<Source> = names
        .into_iter()
        .zip(texts)
        .map(|(name, text)| Source { name: name.to_owned(), text: (*text).to_owned() })
        .collect();
    let variables = [("TAG", "1"), ("HOME", "/home/ana"), ("EMPTY", "")];
    let variables: BTreeMap<String, String> =
        variables.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    convert(&Project {
        files: &sources,
        folder: FOLDER,
        app: None,
        variables: &variables,
        read: &read,
    })
}

/// Converts one file that is right.
#[track_caller]
fn right(text: &str) -> Converted {
    files(&[text]).unwrap_or_else(|invalid| panic!("{invalid}\n{text}"))
}

/// What is said about a file that is wrong.
#[track_caller]
fn wrong(text: &str) -> String {
    match files(&[text]) {
        Ok(converted) => panic!("it converts to {:?}", converted.app),
        Err(invalid) => invalid.to_string(),
    }
}

/// A file with one service, `web`, that says what is given besides its image.
fn web(says: &str) -> String {
    format!("services:\n  web:\n    image: web:1\n{}", indented(says, 4))
}

fn indented(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{}{line}\n", " ".repeat(by))).collect()
}

/// The workload of such a file, which is converted without a warning.
#[track_caller]
fn workload(says: &str) -> WorkloadSpec {
    let converted = right(&web(says));
    assert!(converted.warnings.is_empty(), "{:?}", warnings(&converted));
    converted.app.workloads.into_values().next().expect("there is one")
}

fn warnings(converted: &Converted) -> Vec<String> {
    converted.warnings.iter().map(ToString::to_string).collect()
}
