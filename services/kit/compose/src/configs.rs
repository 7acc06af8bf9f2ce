//! `configs`: files whose content goes into the log.

use std::collections::BTreeMap;

use schemas::command::CONFIG_BYTES_MAX;
use schemas::id::Digest;
use schemas::spec::ConfigFile;

use crate::Project;
use crate::app::{Context, entries, undeclared};
use crate::diagnose::{Notes, Wrong};
use crate::fields::{Fields, expected, inside, list, text};
use crate::node::{Entry, Node, Value};
use crate::service::resolved;
use crate::support::{CONFIG, CONFIG_REF};

/// The longest path of a config file, as the archive that carries it allows.
const PATH_BYTES_MAX: usize = 100;

/// The configs of the top level by name. Their contents are put beside.
pub(crate) fn declared(
    node: Option<&Node>,
    project: &Project<'_>,
    contents: &mut BTreeMap<Digest, Vec<u8>>,
    notes: &mut Notes<'_>,
) -> BTreeMap<String, Digest> {
    let mut configs = BTreeMap::new();
    for entry in entries(node, notes) {
        let content = content(entry, project, notes);
        if let Some(content) = notes.take(content) {
            let digest = Digest::of(&content);
            configs.insert(entry.key.clone(), digest.clone());
            contents.insert(digest, content);
        }
    }
    configs
}

fn content(entry: &Entry, project: &Project<'_>, notes: &mut Notes<'_>) -> Result<Vec<u8>, Wrong> {
    let fields = Fields::of(&entry.node, &CONFIG, notes)?;
    let given = ["file", "content", "environment"].map(|kind| fields.get(kind));
    let content = match given {
        [Some(node), None, None] => {
            let path = text(node)?;
            let context = Context {
                project,
                services: BTreeMap::new(),
                volumes: BTreeMap::new(),
                configs: BTreeMap::new(),
            };
            (project.read)(&resolved(&path, &context))
                .map_err(|error| Wrong::at(node.spot, format!("{path}: {error}")))?
        }
        [None, Some(node), None] => text(node)?.into_bytes(),
        [None, None, Some(node)] => {
            let name = text(node)?;
            let value = project.variables.get(&name).cloned();
            let unset = || Wrong::at(node.spot, format!("the variable {name} is not set"));
            value.ok_or_else(unset)?.into_bytes()
        }
        _ => {
            let text = format!("config `{}`: give one of file, content and environment", entry.key);
            return Err(Wrong::at(entry.spot, text));
        }
    };
    if content.len() > CONFIG_BYTES_MAX {
        let got = content.len();
        let text = format!("config `{}` has {got} bytes: at most {CONFIG_BYTES_MAX}", entry.key);
        return Err(Wrong::at(entry.spot, text));
    }
    Ok(content)
}

/// The configs that a service mounts, by path.
pub(crate) fn used(
    fields: &Fields<'_>,
    context: &Context<'_>,
    notes: &mut Notes<'_>,
) -> Result<BTreeMap<String, ConfigFile>, Wrong> {
    let mut files = BTreeMap::new();
    for node in fields.read("configs", list)?.unwrap_or_default() {
        let (name, target, mode) = match &node.value {
            Value::Map(_) => {
                let fields = Fields::of(node, &CONFIG_REF, notes)?;
                (
                    fields.need("source", text)?,
                    fields.read("target", text)?,
                    fields.read("mode", mode)?,
                )
            }
            _ => (text(node)?, None, None),
        };
        let Some(digest) = context.configs.get(&name) else {
            let known = context.configs.keys().map(String::as_str);
            return Err(undeclared(node.spot, "config", &name, known));
        };
        let path = inside(node, &target.unwrap_or_else(|| format!("/{name}")))?;
        if path.len() > PATH_BYTES_MAX {
            let text = format!("the path of a config file may have {PATH_BYTES_MAX} bytes");
            return Err(Wrong::at(node.spot, text));
        }
        if files.insert(path.clone(), ConfigFile { digest: digest.clone(), mode }).is_some() {
            return Err(Wrong::at(node.spot, format!("two configs are mounted at {path}")));
        }
    }
    Ok(files)
}

/// `0440`, `440` or `0o440`: octal in every spelling, as file modes are.
fn mode(node: &Node) -> Result<String, Wrong> {
    let given = text(node)?;
    let digits = given.trim_start_matches("0o").trim_start_matches('0');
    let value = u32::from_str_radix(if digits.is_empty() { "0" } else { digits }, 8);
    match value {
        Ok(value) if value <= 0o7777 => Ok(format!("{value:04o}")),
        _ => Err(expected(node, "a file mode in octal digits, as 0440")),
    }
}
