//! A tree of labels to typed values, spelled as in the document.

use serde_json::{Map, Value};

use super::LabelError;
use super::schema::{Kind, Object};
use super::tree::{Node, same};

/// The options of `object` that the children of `node` set. `path` is the key of `node`.
pub(super) fn object(node: &Node, object: &Object, path: &str) -> Result<Map<String, Value>, LabelError> {
    let mut options = Map::new();
    for child in &node.children {
        let path = below(path, child);
        let Some(field) = object.fields.iter().find(|field| same(field.name, &child.name)) else {
            return Err(unknown(&path, child, object));
        };
        if let Some(value) = value(child, field.kind, &path)? {
            options.insert(field.name.to_owned(), value);
        }
    }
    Ok(options)
}

/// `None` when the label sets nothing: it is ignored, or a switch that is off.
fn value(node: &Node, kind: Kind, path: &str) -> Result<Option<Value>, LabelError> {
    match kind {
        Kind::Ignored => Ok(None),
        Kind::Raw => Ok(Some(raw(node))),
        Kind::Object(schema) => group(node, schema, path),
        Kind::Indexed(schema) => {
            let elements = node.children.iter();
            let elements =
                elements.map(|child| object(child, schema, &below(path, child)).map(Value::Object));
            Ok(Some(Value::Array(elements.collect::<Result<_, _>>()?)))
        }
        Kind::Single(_) if node.children.is_empty() => Err(standalone(path)),
        Kind::Single(schema) => {
            let element = object(node, schema, path)?;
            Ok(Some(Value::Array(vec![Value::Object(element)])))
        }
        Kind::Named(kind) => named(node, *kind, path).map(Some),
        // Traefik takes a list by index as an empty one, which for entry points means all of them; here it is a list.
        Kind::Words if !node.children.is_empty() && node.children.iter().all(is_element) => {
            let words = node.children.iter().map(|child| Value::from(child.value.trim()));
            Ok(Some(Value::Array(words.collect())))
        }
        Kind::Text | Kind::Flag | Kind::Integer | Kind::Duration | Kind::Words => {
            if let Some(child) = node.children.first() {
                return Err(LabelError::new(
                    &below(path, child),
                    format!("`{}` is a single value and has no options", node.name),
                ));
            }
            scalar(&node.value, kind, path).map(Some)
        }
    }
}

fn group(node: &Node, schema: &Object, path: &str) -> Result<Option<Value>, LabelError> {
    if node.children.is_empty() && !schema.standalone {
        return Err(standalone(path));
    }
    // The options of a group that is switched off are still checked, as Traefik does.
    let options = object(node, schema, path)?;
    let off = schema.standalone && !node.value.is_empty() && !node.value.eq_ignore_ascii_case("true");
    Ok((!off).then_some(Value::Object(options)))
}

fn named(node: &Node, kind: Kind, path: &str) -> Result<Value, LabelError> {
    if node.children.is_empty() {
        return Err(standalone(path));
    }
    let mut entries = Map::new();
    for child in &node.children {
        let path = below(path, child);
        let entry = match kind {
            // A name alone (`routers.a=`) makes an object with nothing but defaults.
            Kind::Object(schema) => Some(Value::Object(object(child, schema, &path)?)),
            kind => value(child, kind, &path)?,
        };
        if let Some(entry) = entry {
            entries.insert(child.name.clone(), entry);
        }
    }
    Ok(Value::Object(entries))
}

pub(super) fn raw(node: &Node) -> Value {
    if node.children.is_empty() {
        return Value::String(node.value.clone());
    }
    if node.children.iter().all(|child| child.name.starts_with('[')) {
        return Value::Array(node.children.iter().map(raw).collect());
    }
    let entries = node.children.iter();
    Value::Object(entries.map(|child| (child.name.clone(), raw(child))).collect())
}

fn scalar(text: &str, kind: Kind, path: &str) -> Result<Value, LabelError> {
    let refuse = |expected: &str| Err(LabelError::new(path, format!("`{text}` is not {expected}")));
    match kind {
        Kind::Flag => match flag(text) {
            Some(flag) => Ok(Value::Bool(flag)),
            None => refuse("a boolean; write `true` or `false`"),
        },
        Kind::Integer => match text.parse::<i64>() {
            Ok(number) => Ok(Value::from(number)),
            Err(_) => refuse("a whole number"),
        },
        Kind::Duration if is_duration(text) => Ok(Value::String(text.to_owned())),
        Kind::Duration => refuse("a duration; write it like `10s`, `1m30s` or `500ms`"),
        Kind::Words if text.is_empty() => Ok(Value::Array(Vec::new())),
        Kind::Words => Ok(Value::Array(
            text.split(',').map(|word| Value::from(word.trim())).collect(),
        )),
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// The spellings of Go's `strconv.ParseBool`, and no others.
fn flag(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Whether Go's `time.ParseDuration` accepts it, or it is a number of seconds.
fn is_duration(text: &str) -> bool {
    if text.parse::<i64>().is_ok() {
        return true;
    }
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number = &rest[..rest.len() - digits.len()];
        if number.matches('.').count() > 1 || !number.contains(|c: char| c.is_ascii_digit()) {
            return false;
        }
        // The longer unit first: `ms` before `m`.
        let units = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
        match units.iter().find_map(|unit| digits.strip_prefix(unit)) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    true
}

fn is_element(node: &Node) -> bool {
    node.name.starts_with('[') && node.children.is_empty()
}

fn below(path: &str, child: &Node) -> String {
    if child.name.starts_with('[') {
        format!("{path}{}", child.name)
    } else {
        format!("{path}.{}", child.name)
    }
}

fn unknown(path: &str, child: &Node, object: &Object) -> LabelError {
    let known: Vec<&str> = object.fields.iter().map(|field| field.name).collect();
    LabelError::new(
        path,
        format!(
            "there is no option `{}` here; known are {}",
            child.name,
            known.join(", ")
        ),
    )
}

fn standalone(path: &str) -> LabelError {
    LabelError::new(path, "it needs an option below it".to_owned())
}
