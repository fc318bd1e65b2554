//! Options as labels: the paths of a document, one label each.

use fastrand::Rng;
use serde_json::Value;

use super::vocabulary::chance;

/// Adds the labels for these options below `prefix`.
pub(super) fn flatten(rng: &mut Rng, prefix: &str, options: &Value, labels: &mut Vec<(String, String)>) {
    match options {
        Value::Object(all) => {
            for (name, value) in all {
                let name = if chance(rng, 10) {
                    name.to_ascii_lowercase()
                } else {
                    name.clone()
                };
                flatten(rng, &format!("{prefix}.{name}"), value, labels);
            }
            // Such as `compress: {}`.
            if all.is_empty() {
                labels.push((prefix.to_owned(), "true".to_owned()));
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (index, item) in items.iter().enumerate() {
                flatten(rng, &format!("{prefix}[{index}]"), item, labels);
            }
        }
        Value::Array(items) => {
            let words: Vec<String> = items.iter().map(scalar).collect();
            labels.push((prefix.to_owned(), words.join(",")));
        }
        value => labels.push((prefix.to_owned(), scalar(value))),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
