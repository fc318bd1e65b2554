//! The tree that every format is read into: text with places, before anybody knows what it means.

use crate::Origin;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) origin: Origin,
    pub(crate) value: Value,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A scalar as written. The text survives, so that `version: 1.10` can still become the string `1.10`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scalar {
    pub(crate) kind: ScalarKind,
    pub(crate) text: String,
}

/// What the syntax says a scalar is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScalarKind {
    Null,
    Bool,
    Integer,
    Float,
    Text,
}

/// A key of a map, where it stands, and its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) origin: Origin,
    pub(crate) node: Node,
}

impl Node {
    pub(crate) fn scalar(origin: Origin, kind: ScalarKind, text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            origin,
            value: Value::Scalar(Scalar { kind, text }),
        }
    }

    pub(crate) fn text(origin: Origin, text: impl Into<String>) -> Self {
        Self::scalar(origin, ScalarKind::Text, text)
    }

    pub(crate) fn null(origin: Origin) -> Self {
        Self::scalar(origin, ScalarKind::Null, "null")
    }

    pub(crate) fn map(origin: Origin, entries: Vec<Entry>) -> Self {
        Self {
            origin,
            value: Value::Map(entries),
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.kind == ScalarKind::Null)
    }

    /// The entries of a map; none for anything else.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The value of a key, in any case.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entries()
            .iter()
            .find(|entry| entry.key.eq_ignore_ascii_case(key))
            .map(|entry| &entry.node)
    }

    /// The node at a key path such as `entryPoints.web.address[1]`, keys in any case. An index into a scalar is the
    /// scalar itself, because one value may stand for a list. Names with dots are not found.
    pub(crate) fn at(&self, path: &str) -> Option<&Node> {
        let mut node = self;
        for step in path.split('.').filter(|step| !step.is_empty()) {
            let (key, index) = match step.strip_suffix(']').and_then(|s| s.split_once('[')) {
                Some((key, index)) => (key, index.parse::<usize>().ok()),
                None => (step, None),
            };
            node = node.get(key)?;
            if let (Some(index), Value::List(items)) = (index, &node.value) {
                node = items.get(index)?;
            }
        }
        Some(node)
    }

    /// How many nodes this one consists of.
    pub(crate) fn size(&self) -> usize {
        1 + match &self.value {
            Value::Scalar(_) => 0,
            Value::List(items) => items.iter().map(Node::size).sum(),
            Value::Map(entries) => entries.iter().map(|entry| entry.node.size()).sum::<usize>(),
        }
    }

    /// The value as an operator recognises it, short.
    pub(crate) fn shown(&self) -> String {
        const LONGEST: usize = 60;
        match &self.value {
            Value::Scalar(scalar) if scalar.kind == ScalarKind::Text => {
                if scalar.text.contains("-----BEGIN") {
                    return "[redacted PEM]".to_owned();
                }
                let mut short: String = scalar.text.chars().take(LONGEST).collect();
                if short.len() < scalar.text.len() {
                    short.push('…');
                }
                format!("{short:?}")
            }
            Value::Scalar(scalar) => scalar.text.chars().take(LONGEST).collect(),
            Value::List(items) => format!("a list of {}", items.len()),
            Value::Map(entries) => {
                let keys: Vec<&str> = entries.iter().take(4).map(|entry| entry.key.as_str()).collect();
                let more = if entries.len() > keys.len() { ", …" } else { "" };
                format!("a map {{{}{more}}}", keys.join(", "))
            }
        }
    }
}
