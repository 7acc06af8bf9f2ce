//! What `deploy`, `plan` and `config` are given: files and variables in, an `app.deploy` out.
//!
//! A file is a Compose file, or JSON: a whole `app.deploy`, or the app alone. Its content tells.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use compose::{Diagnostic, Project, Source};
use schemas::command::{Command, Common, Deploy, PutConfig};
use schemas::id::Digest;
use schemas::spec::AppSpec;

use crate::args::Files;
use crate::error::CliError;

/// The files that are looked for when none is given, each with what is laid over it if it is there.
const DEFAULTS: [(&str, &[&str]); 5] = [
    ("compose.yaml", &["compose.override.yaml", "compose.override.yml"]),
    ("compose.yml", &["compose.override.yml", "compose.override.yaml"]),
    ("docker-compose.yaml", &["docker-compose.override.yaml", "docker-compose.override.yml"]),
    ("docker-compose.yml", &["docker-compose.override.yml", "docker-compose.override.yaml"]),
    ("app.json", &[]),
];

/// What is to be deployed.
#[derive(Debug)]
pub(crate) struct Input {
    /// What a whole `app.deploy` in JSON says beside the app.
    pub(crate) common: Common,
    /// The command.
    pub(crate) deploy: Deploy,
    /// What `config.put` must have stored before.
    pub(crate) contents: BTreeMap<Digest, Vec<u8>>,
}

/// Reads what the options name. Warnings go to standard error.
///
/// # Errors
///
/// When a file cannot be read, or is not an app.
pub(crate) fn read(files: &Files) -> Result<Input, CliError> {
    let paths = if files.file.is_empty() { found()? } else { files.file.clone() };
    let mut sources = Vec::new();
    for path in &paths {
        sources.push(Source { name: path.display().to_string(), text: text(path)? });
    }
    let input = match &sources[..] {
        [one] if is_json(&one.text) => from_json(one, files)?,
        _ => from_compose(&paths, &sources, files)?,
    };
    // What the cluster would refuse for its form is refused here, before anything is stored.
    let command = Command::Deploy(input.deploy.clone());
    match Command::decode(command.verb(), &command.encode(&input.common)) {
        Ok(_) => Ok(input),
        Err(problem) => Err(CliError::usage(format!("{}: {problem}", sources[0].name))),
    }
}

/// The command that stores a content.
pub(crate) fn put_config(content: &[u8]) -> PutConfig {
    use base64::Engine as _;
    PutConfig { content_base64: base64::engine::general_purpose::STANDARD.encode(content) }
}

/// The files of the current folder.
fn found() -> Result<Vec<PathBuf>, CliError> {
    for (main, overrides) in DEFAULTS {
        if Path::new(main).is_file() {
            let upper = overrides.iter().copied().find(|name| Path::new(name).is_file());
            return Ok([main].into_iter().chain(upper).map(PathBuf::from).collect());
        }
    }
    let names = DEFAULTS.map(|(main, _)| main);
    let text = format!("there is none of {} here: name a file with -f", names.join(", "));
    Err(CliError::usage(text))
}

fn text(path: &Path) -> Result<String, CliError> {
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut bytes).map(|_| ())
    } else {
        std::fs::read(path).map(|content| bytes = content)
    };
    let name = path.display();
    read.map_err(|error| CliError::usage(format!("cannot read {name}: {error}")))?;
    String::from_utf8(bytes).map_err(|_| CliError::usage(format!("{name} is not UTF-8 text")))
}

/// Whether a text is JSON of ours. JSON is YAML too: a Compose file in JSON has services.
fn is_json(text: &str) -> bool {
    text.trim_start().starts_with('{')
        && match serde_json::from_str::<serde_json::Value>(text) {
            Ok(value) => value.get("services").is_none(),
            Err(_) => text.contains("\"workloads\""),
        }
}

fn from_json(source: &Source, files: &Files) -> Result<Input, CliError> {
    let text = source.text.as_bytes();
    let (common, mut deploy) = match serde_json::from_slice::<AppSpec>(text) {
        Ok(app) => (Common::default(), Deploy { app }),
        Err(_) => match Command::decode("app.deploy", text) {
            Ok((common, Command::Deploy(command))) => (common, command),
            Ok(_) => return Err(CliError::internal("app.deploy decodes as another command")),
            Err(problem) => return Err(CliError::usage(format!("{}: {problem}", source.name))),
        },
    };
    if let Some(name) = &files.app_name {
        deploy.app.name = name.clone();
    }
    Ok(Input { common, deploy, contents: BTreeMap::new() })
}

fn from_compose(paths: &[PathBuf], sources: &[Source], files: &Files) -> Result<Input, CliError> {
    let folder = folder(&paths[0])?;
    let dotenv = folder.join(".env");
    let dotenv = if dotenv.is_file() {
        Some(Source { name: dotenv.display().to_string(), text: text(&dotenv)? })
    } else {
        None
    };
    let process = runtime::settings::environment();
    let variables = compose::environment(process, dotenv.as_ref())
        .map_err(|invalid| CliError::usage(invalid.to_string()))?;
    let converted = compose::convert(&Project {
        files: sources,
        folder: &folder.display().to_string(),
        app: files.app_name.as_ref().map(schemas::id::AppName::as_str),
        variables: &variables,
        read: &|path| std::fs::read(path).map_err(|error| error.to_string()),
    });
    match converted {
        Ok(converted) => {
            warn(&converted.warnings);
            let deploy = Deploy { app: converted.app };
            Ok(Input { common: Common::default(), deploy, contents: converted.contents })
        }
        Err(invalid) => {
            warn(&invalid.warnings);
            Err(CliError::usage(invalid.to_string()))
        }
    }
}

/// The folder that a file's relative paths start from.
fn folder(file: &Path) -> Result<PathBuf, CliError> {
    let parent = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    parent
        .canonicalize()
        .map_err(|error| CliError::usage(format!("cannot find {}: {error}", parent.display())))
}

fn warn(warnings: &[Diagnostic]) {
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_told_from_compose_by_content() {
        assert!(is_json(r#"{"name":"shop","workloads":{}}"#));
        assert!(is_json(r#" {"app":{"name":"shop","workloads":{}}}"#));
        assert!(is_json(r#"{"name":"shop","workloads":{"#));
        assert!(!is_json(r#"{"services":{"web":{"image":"a"}}}"#));
        assert!(!is_json("{services: {web: {image: a}}}"));
        assert!(!is_json("services:\n  web: {image: a}\n"));
    }
}
