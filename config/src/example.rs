//! The example file, made from the schema: every key at its default, with its documentation.

use serde_json::Value as Json;

use crate::load::shape;
use crate::raw::RawConfig;
use crate::schema::{Field, Shape};

/// Sections in the order a reader wants; others follow by name.
const ORDER: [&str; 5] = ["node", "entryPoints", "edge", "providers", "control"];

const HEADER: &str = "\
# Constellation: every key of the static configuration at its default.
#
# Made by `constellation config example`. Any key may be left out, and so may the file. TOML and JSON work as well.
# Keys are the same in any case. Durations are written 500ms, 10s, 1m30s, 2h, or as whole seconds.
# Any key can be set by a variable: CONSTELLATION__CONTROL__ADDRESS=127.0.0.1:9000, items of lists by position:
# CONSTELLATION__ENTRYPOINTS__WEB__ADDRESS__0=:8000. Variables win over the file. Lines that start with `#` and a key
# show keys whose default is to be absent.
";

/// A commented YAML file that reads as the default configuration.
pub fn example() -> String {
    let mut writer = Writer {
        out: HEADER.to_owned(),
    };
    let default = serde_json::to_value(RawConfig::default()).unwrap_or_default();
    if let Shape::Object(fields) = shape() {
        let rank = |field: &&Field| {
            let place = ORDER.iter().position(|name| *name == field.name);
            place.unwrap_or(ORDER.len())
        };
        let mut fields: Vec<&Field> = fields.iter().collect();
        fields.sort_by_key(rank);
        for field in fields {
            writer.out.push('\n');
            let value = default.get(&field.name).unwrap_or(&field.default);
            writer.field(field, value, Place::default());
        }
    }
    writer.out
}

/// How far a line is indented.
#[derive(Clone, Copy, Default)]
struct Place {
    depth: usize,
    /// The depth at which something begins whose default is to be absent: its lines are comments from there.
    absent: Option<usize>,
}

impl Place {
    fn deeper(self) -> Self {
        Self {
            depth: self.depth + 1,
            ..self
        }
    }

    fn absent(self) -> Self {
        Self {
            absent: self.absent.or(Some(self.depth)),
            ..self
        }
    }

    fn indent(self) -> String {
        match self.absent {
            Some(begin) => format!("{}# {}", "  ".repeat(begin), "  ".repeat(self.depth - begin)),
            None => "  ".repeat(self.depth),
        }
    }
}

struct Writer {
    out: String,
}

impl Writer {
    /// One key with its documentation above.
    fn field(&mut self, field: &Field, value: &Json, place: Place) {
        self.comment(&field.about, place);
        let place = if value.is_null() { place.absent() } else { place };
        match &field.shape {
            Shape::Object(fields) => {
                self.line(place, &format!("{}:", field.name));
                for inner in fields {
                    let value = value.get(&inner.name).unwrap_or(&inner.default);
                    self.field(inner, value, place.deeper());
                }
            }
            Shape::Map(inner) if matches!(**inner, Shape::Object(_)) => {
                self.line(place, &format!("{}:", field.name));
                self.names(inner, value, place.deeper());
            }
            shape => self.line(place, &format!("{}: {}", field.name, inline(value, shape))),
        }
    }

    /// The entries of a map: the first in full, the others as far as they differ from it.
    fn names(&mut self, shape: &Shape, value: &Json, place: Place) {
        let (Shape::Object(fields), Json::Object(entries)) = (shape, value) else {
            return;
        };
        let mut first: Option<&Json> = None;
        for (name, entry) in entries {
            self.line(place, &format!("{name}:"));
            match first {
                None => {
                    for field in fields {
                        let value = entry.get(&field.name).unwrap_or(&field.default);
                        self.field(field, value, place.deeper());
                    }
                    first = Some(entry);
                }
                Some(first) => self.difference(entry, first, place.deeper()),
            }
        }
    }

    fn difference(&mut self, entry: &Json, like: &Json, place: Place) {
        let Json::Object(entry) = entry else { return };
        for (key, value) in entry {
            match (value, like.get(key)) {
                (value, Some(like)) if value == like => {}
                (Json::Object(_), Some(like @ Json::Object(_))) => {
                    self.line(place, &format!("{key}:"));
                    self.difference(value, like, place.deeper());
                }
                // An object that the first entry doesn't have; that it is there says enough.
                (Json::Object(_), _) => self.line(place, &format!("{key}: {{}}")),
                _ => self.line(place, &format!("{key}: {}", inline(value, &Shape::Any))),
            }
        }
    }

    fn comment(&mut self, about: &str, place: Place) {
        let width = 110_usize.saturating_sub(place.indent().len());
        let mut line = "#".to_owned();
        for word in about.split(' ').filter(|word| !word.is_empty()) {
            if line.len() + word.len() + 1 > width {
                self.line(place, &line);
                "#".clone_into(&mut line);
            }
            line.push(' ');
            line.push_str(word);
        }
        if line.len() > 1 {
            self.line(place, &line);
        }
    }

    fn line(&mut self, place: Place, text: &str) {
        self.out.push_str(&place.indent());
        self.out.push_str(text);
        self.out.push('\n');
    }
}

/// A value on one line. JSON is YAML; one item alone needs no list.
fn inline(value: &Json, shape: &Shape) -> String {
    match value {
        Json::Array(items) if items.len() == 1 => items[0].to_string(),
        Json::String(text) if plain(text) => text.clone(),
        Json::Null if matches!(shape, Shape::Integer(..)) => "0".to_owned(),
        Json::Null => "\"\"".to_owned(),
        value => value.to_string(),
    }
}

/// Whether a text needs no quotes in YAML.
fn plain(text: &str) -> bool {
    let word = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    word && text.ends_with(|c: char| c.is_ascii_alphabetic()) && !["true", "false", "null"].contains(&text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::document::{self, Format, Node};
    use crate::schema::read;

    /// Every key path of a shape, names of maps as `*`.
    fn keys(shape: &Shape, path: &str, into: &mut BTreeSet<String>) {
        match shape {
            Shape::Object(fields) => {
                for field in fields {
                    let path = format!("{path}.{}", field.name);
                    into.insert(path.clone());
                    keys(&field.shape, &path, into);
                }
            }
            Shape::Map(inner) => keys(inner, &format!("{path}.*"), into),
            _ => {}
        }
    }

    fn written(node: &Node, shape: &Shape, path: &str, into: &mut BTreeSet<String>) {
        for entry in node.entries() {
            let (path, inner) = match shape {
                Shape::Object(fields) => {
                    let field = fields.iter().find(|field| field.name == entry.key).unwrap();
                    (format!("{path}.{}", field.name), &field.shape)
                }
                Shape::Map(inner) => (format!("{path}.*"), &**inner),
                _ => continue,
            };
            if !path.ends_with('*') {
                into.insert(path.clone());
            }
            written(&entry.node, inner, &path, into);
        }
    }

    /// The example with the keys that are comments made keys.
    fn uncommented() -> String {
        let is_key = |text: &str| {
            let name = text.trim_start().split(':').next().unwrap_or_default();
            text.contains(':')
                && name.starts_with(|c: char| c.is_ascii_alphabetic())
                && name.chars().all(|c| c.is_ascii_alphanumeric())
        };
        let body = example().replace(HEADER, "");
        let lines = body.lines().map(|line| match line.split_once("# ") {
            Some((indent, rest)) if indent.trim().is_empty() && is_key(rest) => format!("{indent}{rest}\n"),
            _ => format!("{line}\n"),
        });
        lines.collect()
    }

    #[test]
    fn every_key_of_the_schema_is_in_the_example_and_nothing_else() {
        let text = uncommented();
        let node = document::parse(&text, Format::Yaml, Path::new("example.yaml"))
            .unwrap()
            .root;
        let (mut declared, mut shown) = (BTreeSet::new(), BTreeSet::new());
        keys(shape(), "", &mut declared);
        written(&node, shape(), "", &mut shown);
        assert_eq!(declared, shown);
        assert!(declared.len() > 80, "{} keys", declared.len());
        let errors = read(&node, shape(), &|_| None).errors;
        assert_eq!(errors, [], "\n{text}");
    }

    #[test]
    fn every_key_is_documented_and_typed() {
        fn visit(shape: &Shape, path: &str) {
            match shape {
                Shape::Object(fields) => {
                    for field in fields {
                        let path = format!("{path}.{}", field.name);
                        let of_a_domain = path.contains(".domains.");
                        assert!(
                            field.about.ends_with(['.', ':']) || of_a_domain,
                            "{path}: {:?}",
                            field.about
                        );
                        visit(&field.shape, &path);
                    }
                }
                Shape::Map(inner) | Shape::List(inner) => visit(inner, &format!("{path}.*")),
                Shape::Any => panic!("{path} may be anything"),
                _ => {}
            }
        }
        visit(shape(), "");
    }
}
