//! `volumes` and `tmpfs` of a service: what is mounted where.

use schemas::spec::{Mount, MountSource, WorkloadSpec};

use crate::app::{Context, undeclared};
use crate::diagnose::{Notes, Wrong};
use crate::fields::{Fields, by, expected, flag, inside, list, text, word};
use crate::node::{Node, Value};
use crate::service::resolved;
use crate::support::{MOUNT, MOUNT_BIND, MOUNT_TMPFS, MOUNT_VOLUME};
use crate::units;

pub(crate) fn read(
    fields: &Fields<'_>,
    context: &Context<'_>,
    spec: &mut WorkloadSpec,
    notes: &mut Notes<'_>,
) -> Result<(), Wrong> {
    for node in fields.read("volumes", list)?.unwrap_or_default() {
        match &node.value {
            Value::Map(_) => long(node, context, spec, notes)?,
            _ => spec.mounts.push(short(node, &text(node)?, context)?),
        }
    }
    if let Some(node) = fields.get("tmpfs") {
        match &node.value {
            Value::List(list) => {
                for node in list {
                    tmpfs(node, spec)?;
                }
            }
            _ => tmpfs(node, spec)?,
        }
    }
    Ok(())
}

/// `SOURCE:TARGET[:MODE]`.
fn short(node: &Node, given: &str, context: &Context<'_>) -> Result<Mount, Wrong> {
    let parts: Vec<&str> = given.split(':').collect();
    let (source, target, modes) = match parts[..] {
        [source, target] if target.starts_with('/') => (source, target, ""),
        [source, target, modes] => (source, target, modes),
        [target] | [target, _] if target.starts_with('/') => {
            let text = format!(
                "a volume without a name is refused, because nothing could find it again: \
                 declare one under `volumes:`, and write NAME:{target}"
            );
            return Err(Wrong::at(node.spot, text));
        }
        _ => return Err(expected(node, "SOURCE:TARGET or SOURCE:TARGET:ro")),
    };
    let mut read_only = false;
    for mode in modes.split(',').filter(|mode| !mode.is_empty()) {
        match mode {
            "ro" => read_only = true,
            // Sharing labels and caching hints concern other systems than ours.
            "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" => {}
            _ => {
                let text = format!("the mode {mode:?} is refused: use ro or rw");
                return Err(Wrong::at(node.spot, text));
            }
        }
    }
    let is_path = source.starts_with(['/', '.', '~']);
    let source = source_of(node, source, is_path, context)?;
    Ok(Mount { source, target: inside(node, target)?, read_only })
}

fn source_of(
    node: &Node,
    source: &str,
    is_path: bool,
    context: &Context<'_>,
) -> Result<MountSource, Wrong> {
    if is_path {
        return Ok(MountSource::Path(resolved(source, context)));
    }
    match context.volumes.get(source) {
        Some(volume) => Ok(MountSource::Volume(volume.clone())),
        None if source.contains('/') => {
            let text = format!("{source:?} is no volume: begin a path with ./ or /");
            Err(Wrong::at(node.spot, text))
        }
        None => {
            let known = context.volumes.keys().map(String::as_str);
            let mut wrong = undeclared(node.spot, "volume", source, known);
            wrong.text.push_str(" (volumes are declared under `volumes:` at the top level)");
            Err(wrong)
        }
    }
}

fn long(
    node: &Node,
    context: &Context<'_>,
    spec: &mut WorkloadSpec,
    notes: &mut Notes<'_>,
) -> Result<(), Wrong> {
    let fields = Fields::of(node, &MOUNT, notes)?;
    let none = Node::new(node.spot, Value::Null);
    Fields::of(fields.get("bind").unwrap_or(&none), &MOUNT_BIND, notes)?;
    Fields::of(fields.get("volume").unwrap_or(&none), &MOUNT_VOLUME, notes)?;
    let memory = Fields::of(fields.get("tmpfs").unwrap_or(&none), &MOUNT_TMPFS, notes)?;
    let target = inside(node, &fields.need("target", text)?)?;
    let kinds = [("volume", "volume"), ("bind", "bind"), ("tmpfs", "tmpfs")];
    let kind = fields.need("type", |node| word(node, &kinds))?;
    let read_only = fields.read("read_only", flag)?.unwrap_or(false);
    if kind == "tmpfs" {
        let size = memory.read("size", by(units::bytes))?;
        spec.tmpfs.insert(target, size.unwrap_or(0));
        return Ok(());
    }
    let Some(source) = fields.get("source") else {
        let text = "a volume without a name is refused, because nothing could find it again: \
                    declare one under `volumes:`, and name it as `source`";
        return Err(Wrong::at(node.spot, text));
    };
    let source = source_of(source, &text(source)?, kind == "bind", context)?;
    spec.mounts.push(Mount { source, target, read_only });
    Ok(())
}

/// `PATH[:size=SIZE]`.
fn tmpfs(node: &Node, spec: &mut WorkloadSpec) -> Result<(), Wrong> {
    let given = text(node)?;
    let (path, options) = given.split_once(':').unwrap_or((&given, ""));
    let mut size = 0;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let Some(value) = option.strip_prefix("size=") else {
            let text = format!("the option {option:?} is refused: only size is honoured");
            return Err(Wrong::at(node.spot, text));
        };
        size = units::bytes(value).map_err(|wrong| Wrong::at(node.spot, wrong))?;
    }
    spec.tmpfs.insert(inside(node, path)?, size);
    Ok(())
}
