//! Where two JSON values differ.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};

/// A field that differs; null where it is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Field {
    pub(crate) path: String,
    pub(crate) from: Value,
    pub(crate) to: Value,
}

/// The paths at which two values differ.
pub(crate) fn differences(path: &str, old: &Value, new: &Value, found: &mut Vec<Field>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let side =
                    |side: &Map<String, Value>| side.get(key).cloned().unwrap_or(Value::Null);
                differences(&path, &side(old), &side(new), found);
            }
        }
        (old, new) if old != new => {
            found.push(Field { path: path.to_owned(), from: old.clone(), to: new.clone() });
        }
        _ => {}
    }
}
