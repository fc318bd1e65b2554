//! A value as YAML that people like to read: maps in blocks, everything else as in JSON, which is YAML as well.

use serde_json::Value;

/// The text.
pub fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    write(value, 0, &mut out);
    out
}

fn write(value: &Value, depth: usize, out: &mut String) {
    let Value::Object(entries) = value else {
        out.push_str(&format!("{value}\n"));
        return;
    };
    if entries.is_empty() {
        out.push_str("{}\n");
        return;
    }
    for (key, value) in entries {
        out.push_str(&"  ".repeat(depth));
        let plain = !key.is_empty()
            && key
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && key.starts_with(|c: char| c.is_ascii_alphabetic())
            && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
                .iter()
                .any(|word| word.eq_ignore_ascii_case(key));
        match plain {
            true => out.push_str(key),
            false => out.push_str(&Value::from(key.as_str()).to_string()),
        }
        out.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push('\n');
                write(value, depth + 1, out);
            }
            _ => {
                out.push(' ');
                write(value, depth + 1, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn maps_are_blocks_and_the_rest_is_json() {
        let value = json!({"a": {"b": [1, "x: y"], "no": true}, "c": {}, "d e": null});
        assert_eq!(
            to_yaml(&value),
            "a:\n  b: [1,\"x: y\"]\n  \"no\": true\nc: {}\n\"d e\": null\n"
        );
    }
}
