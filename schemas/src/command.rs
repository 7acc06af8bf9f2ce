//! Imperative requests, which may be refused.
//!
//! On the wire a command is a JSON object on `muster.v1.cmd.<noun>.<verb>`: the fields that every
//! command may have (`id`, `tenant`, `reason`, `expect_position`, `version`) beside those of its own.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{AppName, CommandId, NodeName, Tenant, WorkloadName};
use crate::spec::AppSpec;

/// The largest command but `config.put`, in bytes.
pub const COMMAND_BYTES_MAX: usize = 64 * 1024;

/// The largest `config.put`, in bytes: content of 512 KiB in base64, and a little around it.
pub const CONFIG_COMMAND_BYTES_MAX: usize = 704 * 1024;

/// The largest content that `config.put` stores, in bytes.
pub const CONFIG_BYTES_MAX: usize = 512 * 1024;

/// How deep a command's JSON may nest.
pub const DEPTH_MAX: usize = 16;

/// The version of the commands of this release.
pub const VERSION: u64 = 1;

/// What every command may carry beside its own fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Common {
    /// The command's id, if not in the header `Nats-Msg-Id`. Publishing it again changes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<CommandId>,
    /// Whose app is meant. Default `main`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Tenant>,
    /// Why, in the publisher's words. Kept in history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Refuse unless the object has not changed since this position.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect_position: Option<u64>,
    /// The version of the command's format. Default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// Declares the commands once: the variant, its `noun.verb`, and its body.
macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $verb:literal {
        $($(#[$field_doc:meta])* $field:ident : $type:ty),* $(,)?
    })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
            #[serde(deny_unknown_fields)]
            pub struct $name {
                $($(#[$field_doc])* pub $field: $type),*
            }
        )*

        /// A command, decoded.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Command {
            $($(#[$doc])* $name($name)),*
        }

        impl Command {
            /// Every `noun.verb` there is.
            pub const VERBS: &'static [&'static str] = &[$($verb),*];

            /// The command's `noun.verb`.
            #[must_use]
            pub fn verb(&self) -> &'static str {
                match self { $(Self::$name(_) => $verb),* }
            }

            fn decode_body(verb: &str, body: Value) -> Result<Self, Problem> {
                match verb {
                    $($verb => serde_path_to_error::deserialize(body)
                        .map(Self::$name)
                        .map_err(Problem::from_path_error),)*
                    _ => Err(Problem::unknown_verb(verb)),
                }
            }

            /// The command's own fields, as they travel.
            #[must_use]
            pub fn body(&self) -> Value {
                match self {
                    $(Self::$name(body) => {
                        serde_json::to_value(body).expect("a command has string keys only")
                    })*
                }
            }

            /// The JSON Schema of every command by `noun.verb`.
            #[must_use]
            pub fn json_schemas() -> Vec<(&'static str, schemars::Schema)> {
                vec![$(($verb, schemars::schema_for!($name))),*]
            }
        }
    };
}

commands! {
    /// Makes an app be as declared.
    Deploy = "app.deploy" {
        /// The whole app: workloads that are left out are ended.
        app: AppSpec,
    }
    /// Ends an app and everything of it but its volumes.
    DeleteApp = "app.delete" {
        /// The app.
        app: AppName,
    }
    /// Sets the number of a workload's replicas.
    Scale = "workload.scale" {
        /// The app.
        app: AppName,
        /// The workload.
        workload: WorkloadName,
        /// How many there should be.
        replicas: u32,
    }
    /// Replaces every replica of a workload by a new one of the same spec.
    Restart = "workload.restart" {
        /// The app.
        app: AppName,
        /// The workload.
        workload: WorkloadName,
    }
    /// Keeps what is rolled out of an app where it is: nothing more is replaced, stepped on or taken back
    /// by itself.
    PauseRollout = "rollout.pause" {
        /// The app.
        app: AppName,
        /// The workload. None: every one that is rolled out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        workload: Option<WorkloadName>,
    }
    /// Lets what was paused go on.
    ResumeRollout = "rollout.resume" {
        /// The app.
        app: AppName,
        /// The workload. None: every one that is paused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        workload: Option<WorkloadName>,
    }
    /// Lets a canary go on to its next step, or a blue-green rollout over to the new replicas.
    PromoteRollout = "rollout.promote" {
        /// The app.
        app: AppName,
        /// The workload. None: every one that is held back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        workload: Option<WorkloadName>,
        /// Whether the steps that are left are passed over.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        full: bool,
    }
    /// Takes a revision that has not converged back: the last good declaration of the app comes again.
    AbortRollout = "rollout.abort" {
        /// The app.
        app: AppName,
    }
    /// Places nothing new on a node.
    Cordon = "node.cordon" {
        /// The node.
        node: NodeName,
    }
    /// Lets a cordoned or drained node have replicas again.
    Uncordon = "node.uncordon" {
        /// The node.
        node: NodeName,
    }
    /// Cordons a node and moves its replicas elsewhere, each ending after its replacement is ready.
    Drain = "node.drain" {
        /// The node.
        node: NodeName,
    }
    /// Sets labels of a node; an empty value takes a label away.
    Label = "node.label" {
        /// The node.
        node: NodeName,
        /// Labels by key.
        labels: BTreeMap<String, String>,
    }
    /// States that a silent node is gone, so that its replicas are replaced now.
    DeclareLost = "node.lost" {
        /// The node.
        node: NodeName,
    }
    /// Forgets a node. Refused while it is not drained, lost or empty. An agent that runs there joins
    /// anew, at once or when it is heard again: stop it first where the node is to stay away.
    RemoveNode = "node.remove" {
        /// The node.
        node: NodeName,
    }
    /// Moves replicas to nodes that are better for them, each ending after its replacement is ready.
    StartRebalance = "rebalance.start" {
        /// Only those of this app. None: of every app.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        app: Option<AppName>,
    }
    /// Says whether replicas are moved by themselves once a node has joined or come back, and stayed.
    SetRebalance = "rebalance.auto" {
        /// Whether they are.
        on: bool,
    }
    /// Stores a file under its SHA-256, for specs to refer to.
    PutConfig = "config.put" {
        /// The content in base64. At most 512 KiB before encoding.
        content_base64: String,
    }
    /// Leaves a note on any object: a ticket, a cost, an approval.
    AddNote = "note.add" {
        /// What it is about: `app/<tenant>/<name>`, `node/<name>`, `replica/<id>`.
        object: String,
        /// The note.
        text: String,
        /// Anything more, by key.
        #[serde(default)]
        fields: BTreeMap<String, String>,
    }
}

/// Why a command cannot be carried out. This is what a rejection carries.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, thiserror::Error,
)]
#[error("{code}{}: got {got}; {valid}", if field.is_empty() { String::new() } else { format!(" at {field}") })]
pub struct Problem {
    /// A stable code; the text around it may change.
    pub code: String,
    /// The path of the field, as `workloads.web.image`; empty when it is the whole command.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// What was got, cut to 160 characters.
    pub got: String,
    /// What would be valid.
    pub valid: String,
}

impl Problem {
    /// A problem of a stable code at a field.
    #[must_use]
    pub fn new(code: &str, field: &str, got: &str, valid: &str) -> Self {
        Self {
            code: code.to_owned(),
            field: field.to_owned(),
            got: printable(got, 160),
            valid: printable(valid, 400),
        }
    }

    fn unknown_verb(verb: &str) -> Self {
        Self::new("unknown_command", "", verb, &format!("one of {}", Command::VERBS.join(", ")))
    }

    fn from_path_error(error: serde_path_to_error::Error<serde_json::Error>) -> Self {
        let path = error.path().to_string();
        let field = if path == "." { "" } else { &path };
        let text = error.inner().to_string();
        let code = match text.split([' ', '`']).next() {
            Some("unknown") => "unknown_field",
            Some("missing") => "missing_field",
            _ => "invalid_value",
        };
        Self::new(code, field, &text, "see `muster schema` for the fields and their values")
    }
}

/// A text without control characters, cut to `max` characters: what came from outside never reaches
/// a terminal or the log as it was.
#[must_use]
pub fn printable(text: &str, max: usize) -> String {
    let mut clean: String =
        text.chars().take(max).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(max).is_some() {
        clean.push('…');
    }
    clean
}

impl Command {
    /// Decodes a command from what was published on `<noun>.<verb>`.
    ///
    /// # Errors
    ///
    /// The first problem found, in this order: size, encoding, depth, version, fields.
    pub fn decode(verb: &str, payload: &[u8]) -> Result<(Common, Self), Problem> {
        let max = if verb == "config.put" { CONFIG_COMMAND_BYTES_MAX } else { COMMAND_BYTES_MAX };
        if payload.len() > max {
            let got = format!("{} bytes", payload.len());
            return Err(Problem::new("too_large", "", &got, &format!("at most {max} bytes")));
        }
        let value: Value = serde_json::from_slice(payload).map_err(|error| {
            Problem::new("not_json", "", &error.to_string(), "publish one JSON object in UTF-8")
        })?;
        if depth(&value) > DEPTH_MAX {
            let valid = format!("at most {DEPTH_MAX} levels");
            return Err(Problem::new("too_deep", "", "deeper nesting", &valid));
        }
        let Value::Object(mut fields) = value else {
            return Err(Problem::new("not_an_object", "", "another JSON value", "one JSON object"));
        };
        let mut common = serde_json::Map::new();
        for key in ["id", "tenant", "reason", "expect_position", "version"] {
            if let Some(value) = fields.remove(key) {
                common.insert(key.to_owned(), value);
            }
        }
        let common: Common = serde_path_to_error::deserialize(Value::Object(common))
            .map_err(Problem::from_path_error)?;
        if let Some(version) = common.version.filter(|version| *version != VERSION) {
            let valid = format!("version {VERSION}, or leave it out");
            return Err(Problem::new("unknown_version", "version", &version.to_string(), &valid));
        }
        Ok((common, Self::decode_body(verb, Value::Object(fields))?))
    }

    /// The command as it is published.
    #[must_use]
    pub fn encode(&self, common: &Common) -> Vec<u8> {
        let mut fields = self.body();
        let common = serde_json::to_value(common).expect("common fields have string keys");
        if let (Value::Object(fields), Value::Object(common)) = (&mut fields, common) {
            fields.extend(common);
        }
        serde_json::to_vec(&fields).expect("a JSON value encodes")
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(verb: &str, payload: &str, code: &str, field: &str) {
        let problem = Command::decode(verb, payload.as_bytes()).expect_err("it is refused");
        assert_eq!((problem.code.as_str(), problem.field.as_str()), (code, field), "{problem}");
    }

    #[test]
    fn a_deploy_decodes_and_encodes_back() {
        let payload = br#"{"id":"d1","app":{"name":"shop","workloads":{"web":{"image":"web:1"}}}}"#;
        let (common, command) = Command::decode("app.deploy", payload).expect("it decodes");
        assert_eq!(common.id.as_ref().map(CommandId::as_str), Some("d1"));
        let again = Command::decode("app.deploy", &command.encode(&common));
        assert_eq!(again, Ok((common, command)));
    }

    #[test]
    fn every_kind_of_bad_input_has_a_code_and_a_path() {
        check("app.deploy", "{", "not_json", "");
        check("app.deploy", "[]", "not_an_object", "");
        check("app.fly", "{}", "unknown_command", "");
        check("app.deploy", "{}", "missing_field", "");
        check("app.delete", r#"{"app":"shop","force":true}"#, "unknown_field", "force");
        check("app.delete", r#"{"app":"Shop"}"#, "invalid_value", "app");
        check("app.delete", r#"{"app":"shop","version":9}"#, "unknown_version", "version");
        let spec = r#"{"app":{"name":"s","workloads":{"web":{"image":"i","replicas":-1}}}}"#;
        check("app.deploy", spec, "invalid_value", "app.workloads.web.replicas");
        let deep = format!("{}{}", r#"{"a":"#.repeat(20), "1".to_owned() + &"}".repeat(20));
        check("app.delete", &deep, "too_deep", "");
        let large = format!(r#"{{"app":"{}"}}"#, "a".repeat(COMMAND_BYTES_MAX));
        check("app.delete", &large, "too_large", "");
    }

    #[test]
    fn control_characters_never_come_back() {
        assert_eq!(printable("a\u{1b}[31mb", 80), "a\u{fffd}[31mb");
        assert_eq!(printable("abc", 2), "ab…");
    }
}
