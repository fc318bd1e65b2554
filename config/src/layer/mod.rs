//! Layers: environment and flags laid over the tree of the file, each value with its own origin.
//!
//! A layer only places texts at keys; whether a key exists and what a text means is judged afterwards for all layers
//! alike, so that an error names the variable it comes from.

mod environment;

use crate::document::{Entry, Node, ScalarKind, Value};
use crate::schema::Shape;
use crate::{ConfigError, Origin};

pub(crate) use environment::{CONFIG_FILE, lay_contract, variables};

/// One value of a layer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Setting {
    /// Parts of the key; a number is an index where the key leads to a list.
    pub(crate) key: Vec<String>,
    pub(crate) value: String,
    pub(crate) origin: Origin,
}

impl Setting {
    /// A setting by key path, such as `entryPoints.web.address[1]`.
    pub(crate) fn at(path: &str, value: impl Into<String>, origin: Origin) -> Self {
        let key = path
            .split(['.', '['])
            .map(|part| part.trim_end_matches(']').to_owned())
            .collect();
        Self {
            key,
            value: value.into(),
            origin,
        }
    }
}

/// Lays settings over a tree, shorter keys first and indices in order, so that the result doesn't hang on the order of
/// the environment.
pub(crate) fn lay(root: &mut Node, shape: &Shape, mut settings: Vec<Setting>) -> Vec<ConfigError> {
    settings.sort_by_cached_key(|setting| {
        let parts: Vec<(u64, String)> = setting
            .key
            .iter()
            .map(|part| (part.parse().unwrap_or(u64::MAX), part.to_ascii_lowercase()))
            .collect();
        parts
    });
    settings
        .iter()
        .filter_map(|setting| {
            place(root, shape, &setting.key, setting)
                .err()
                .map(|error| *error)
        })
        .collect()
}

fn place(node: &mut Node, shape: &Shape, key: &[String], setting: &Setting) -> Result<(), Box<ConfigError>> {
    let Some((part, rest)) = key.split_first() else {
        *node = Node::text(setting.origin.clone(), setting.value.clone());
        return Ok(());
    };
    if part.is_empty() {
        let error = ConfigError::new(setting.origin.clone(), "", "a part of the key is empty")
            .expected("parts of a key with `__` between them, such as CONSTELLATION__CONTROL__ADDRESS");
        return Err(Box::new(error));
    }
    if let Shape::List(item) = shape {
        return place_in_list(node, item, part, rest, setting);
    }
    // `true` or nothing where keys follow: the keys go into an object at its defaults.
    if !matches!(node.value, Value::Map(_)) {
        *node = Node::map(setting.origin.clone(), Vec::new());
    }
    let (name, inner) = match shape {
        Shape::Object(fields) => fields
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case(part))
            .map_or((part.clone(), &Shape::Any), |field| {
                (field.name.clone(), &field.shape)
            }),
        Shape::Map(inner) => (name_like(node, part), &**inner),
        _ => (part.clone(), &Shape::Any),
    };
    let Value::Map(entries) = &mut node.value else {
        return Ok(());
    };
    let index = entries
        .iter()
        .position(|entry| entry.key.eq_ignore_ascii_case(&name));
    let entry = match index {
        Some(index) => &mut entries[index],
        None => {
            let origin = setting.origin.clone();
            entries.push(Entry {
                key: name,
                origin: origin.clone(),
                node: Node::null(origin),
            });
            let last = entries.len() - 1;
            &mut entries[last]
        }
    };
    place(&mut entry.node, inner, rest, setting)
}

fn place_in_list(
    node: &mut Node,
    item: &Shape,
    part: &str,
    rest: &[String],
    setting: &Setting,
) -> Result<(), Box<ConfigError>> {
    let refuse = |message: String, expected: String| {
        let error = ConfigError::new(setting.origin.clone(), setting.key.join("."), message);
        Err(Box::new(error.expected(expected)))
    };
    let Ok(index) = part.parse::<usize>() else {
        let expected = "the position in the list, from 0".to_owned();
        return refuse(format!("`{part}` stands where a list is"), expected);
    };
    if let Value::Scalar(scalar) = &node.value {
        // One text for the whole list so far.
        let alone = (scalar.kind != ScalarKind::Null).then(|| node.clone());
        *node = Node {
            origin: node.origin.clone(),
            value: Value::List(alone.into_iter().collect()),
        };
    }
    let Value::List(items) = &mut node.value else {
        return Ok(());
    };
    if index > items.len() {
        let message = format!(
            "position {index} leaves a gap: the next free one is {}",
            items.len()
        );
        return refuse(message, format!("a position from 0 to {}", items.len()));
    }
    if index == items.len() {
        items.push(Node::null(setting.origin.clone()));
    }
    place(&mut items[index], item, rest, setting)
}

/// The name in a map that a part of a variable stands for: variables can't hold `-` or `.` and are upper case by
/// custom, so `WEB_SECURE` is `web-secure` where that exists, and `web_secure` where nothing like it does.
fn name_like(node: &Node, part: &str) -> String {
    let plain = |name: &str| name.to_ascii_lowercase().replace(['-', '.'], "_");
    let wanted = plain(part);
    node.entries()
        .iter()
        .find(|entry| plain(&entry.key) == wanted)
        .map_or_else(|| part.to_ascii_lowercase(), |entry| entry.key.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        let list = Shape::List(Box::new(Shape::Text(crate::schema::Text::Plain)));
        let field = |name: &str, shape| crate::schema::Field {
            name: name.to_owned(),
            about: String::new(),
            default: serde_json::Value::Null,
            shape,
        };
        let entry = Shape::Object(vec![field("address", list), field("asDefault", Shape::Bool)]);
        Shape::Object(vec![field("entryPoints", Shape::Map(Box::new(entry)))])
    }

    fn laid(file: &str, settings: &[(&str, &str)]) -> Result<String, String> {
        let path = std::path::Path::new("f.yaml");
        let mut root = crate::document::parse(file, crate::Format::Yaml, path)
            .unwrap()
            .root;
        let settings = settings
            .iter()
            .map(|(key, value)| Setting::at(key, *value, Origin::Flag { name: (*key).into() }))
            .collect();
        match lay(&mut root, &shape(), settings).first() {
            Some(error) => Err(error.to_string()),
            None => Ok(crate::schema::read(&root, &shape(), &|_| None).value.to_string()),
        }
    }

    #[test]
    fn settings_go_where_the_key_says() {
        let web = r#"{"entryPoints":{"web":{"address":[":1"]}}}"#;
        let two = r#"{"entryPoints":{"web":{"address":[":1",":2"]}}}"#;
        let dashed = r#"{"entryPoints":{"Web-Secure":{"asDefault":true}}}"#;
        type Pairs = &'static [(&'static str, &'static str)];
        let table: [(&str, Pairs, &str); 8] = [
            ("", &[("ENTRYPOINTS.WEB.ADDRESS", ":1")], web),
            (
                "entryPoints: {web: {address: x}}",
                &[("entrypoints.web.address", ":1")],
                web,
            ),
            (
                "entryPoints: {web: {address: ':1'}}",
                &[("ENTRYPOINTS.WEB.ADDRESS.1", ":2")],
                two,
            ),
            (
                "entryPoints: {web: {address: [':1', x]}}",
                &[("entryPoints.web.address[1]", ":2")],
                two,
            ),
            (
                "",
                &[
                    ("entryPoints.web.address.1", ":2"),
                    ("entryPoints.web.address.0", ":1"),
                ],
                two,
            ),
            (
                "entryPoints: {Web-Secure: }",
                &[("ENTRYPOINTS.WEB_SECURE.ASDEFAULT", "true")],
                dashed,
            ),
            (
                "",
                &[("ENTRYPOINTS.WEB_SECURE.ASDEFAULT", "true")],
                r#"{"entryPoints":{"web_secure":{"asDefault":true}}}"#,
            ),
            ("entryPoints: true", &[("entryPoints.web.address", ":1")], web),
        ];
        for (file, settings, expected) in table {
            assert_eq!(
                laid(file, settings).as_deref(),
                Ok(expected),
                "{file} {settings:?}"
            );
        }
    }

    #[test]
    fn settings_that_fit_nowhere() {
        let table = [
            (
                "entryPoints.web.address.2",
                "flag for entryPoints.web.address.2: entryPoints.web.address.2: position 2 leaves a gap: the next free one is 0\n    expected: a position from 0 to 0",
            ),
            (
                "entryPoints.web.address.x",
                "flag for entryPoints.web.address.x: entryPoints.web.address.x: `x` stands where a list is\n    expected: the position in the list, from 0",
            ),
        ];
        for (key, expected) in table {
            assert_eq!(laid("", &[(key, "v")]), Err(expected.to_owned()));
        }
    }
}
