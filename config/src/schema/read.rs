//! A tree of nodes checked against a shape, with Traefik's leniencies, all errors at once.
//!
//! Lenient as Traefik is: keys in any case, `"10"` or `10.0` for 10, 10 for `"10"`, `"true"` for true, one value (or
//! several with commas between) for a list, `true` for an object at its defaults and `false` for none of it. Strict as
//! Traefik is: an unknown key is an error at any depth.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Map, Value as Json};

use super::value::{BOOLEAN, any, boolean, expectation, network, noun, whole};
use super::{Field, Shape, Text, nearest};
use crate::document::{Entry, MAX_ERRORS, Node, Scalar, Value};
use crate::{ConfigError, Origin, duration, size};

/// What reading gives: a value that `serde` takes as it is, without the parts that are wrong, and what is wrong.
pub(crate) struct Reading {
    pub(crate) value: Json,
    pub(crate) errors: Vec<ConfigError>,
}

/// What is said of an unknown key, given its path, when there is more to say than which keys there are.
pub(crate) type Explain<'e> = &'e dyn Fn(&str) -> Option<Unknown>;

/// How an unknown key is treated.
pub(crate) enum Unknown {
    /// Refused, with this message and next step.
    Refuse(String, String),
    /// As if it were not there.
    Ignore,
}

/// Checks `root` against `shape`.
pub(crate) fn read(root: &Node, shape: &Shape, explain: Explain<'_>) -> Reading {
    let mut reader = Reader {
        explain,
        errors: Vec::new(),
        path: String::new(),
    };
    let value = reader.node(root, shape).unwrap_or(Json::Null);
    Reading {
        value,
        errors: reader.errors,
    }
}

struct Reader<'e> {
    explain: Explain<'e>,
    errors: Vec<ConfigError>,
    path: String,
}

impl Reader<'_> {
    /// The value of a node; `None` when it is null, `false` for an object, or wrong.
    fn node(&mut self, node: &Node, shape: &Shape) -> Option<Json> {
        if node.is_null() {
            return None;
        }
        match (shape, &node.value) {
            (Shape::Any, _) => {
                self.no_key_twice(node);
                Some(any(node))
            }
            (Shape::Object(fields), Value::Map(_)) => Some(self.object(node, fields)),
            (Shape::Object(fields), Value::Scalar(scalar)) => self.switch(node, scalar, fields),
            (Shape::Map(shape), Value::Map(entries)) => {
                self.names_once(entries);
                let mut map = Map::new();
                for entry in entries {
                    let value = self.below(&entry.key, |reader| reader.node(&entry.node, shape));
                    // A name without a value is an object at its defaults.
                    let empty = || matches!(**shape, Shape::Object(_)).then(|| Json::Object(Map::new()));
                    if let Some(value) = value.or_else(empty) {
                        map.insert(entry.key.clone(), value);
                    }
                }
                Some(Json::Object(map))
            }
            (Shape::List(shape), Value::List(items)) => Some(self.list(items, shape)),
            (Shape::List(shape), Value::Scalar(scalar)) => Some(self.separated(node, scalar, shape)),
            (Shape::List(shape), Value::Map(_)) if matches!(**shape, Shape::Object(_)) => {
                self.node(node, shape).map(|item| Json::Array(vec![item]))
            }
            (_, Value::Scalar(scalar)) => self.scalar(node, scalar, shape),
            _ => {
                self.wrong(node, "has the wrong shape", &expectation(shape));
                None
            }
        }
    }

    fn object(&mut self, node: &Node, fields: &[Field]) -> Json {
        let mut map = Map::new();
        let mut first: HashMap<&str, &Origin> = HashMap::new();
        for entry in node.entries() {
            let field = fields
                .iter()
                .find(|field| field.name.eq_ignore_ascii_case(&entry.key));
            let Some(field) = field else {
                self.below(&entry.key, |reader| {
                    reader.unknown(&entry.key, &entry.origin, fields)
                });
                continue;
            };
            self.below(&field.name, |reader| {
                let value = reader.node(&entry.node, &field.shape);
                if let Some(first) = first.insert(&field.name, &entry.origin) {
                    let hint = "keep one of them; keys are the same in any case";
                    reader.again(&entry.origin, first, hint);
                } else if let Some(value) = value {
                    map.insert(field.name.clone(), value);
                }
            });
        }
        Json::Object(map)
    }

    /// Refuses names that stand twice in a map, where case counts.
    fn names_once(&mut self, entries: &[Entry]) {
        let mut first: HashMap<&str, &Origin> = HashMap::with_capacity(entries.len());
        for entry in entries {
            if let Some(first) = first.insert(&entry.key, &entry.origin) {
                self.below(&entry.key, |reader| {
                    reader.again(&entry.origin, first, "keep one of them")
                });
            }
        }
    }

    /// The same for all levels below a node of any shape.
    fn no_key_twice(&mut self, node: &Node) {
        match &node.value {
            Value::Scalar(_) => {}
            Value::List(items) => items.iter().for_each(|item| self.no_key_twice(item)),
            Value::Map(entries) => {
                self.names_once(entries);
                for entry in entries {
                    self.below(&entry.key, |reader| reader.no_key_twice(&entry.node));
                }
            }
        }
    }

    fn again(&mut self, origin: &Origin, first: &Origin, hint: &str) {
        let first = match first {
            Origin::File { line, .. } => format!("on line {line}"),
            other => format!("in {other}"),
        };
        self.push(origin.clone(), |error| {
            error.message = format!("the key stands here again; it is first {first}");
            error.hint = Some(hint.to_owned());
        });
    }

    fn list(&mut self, items: &[Node], shape: &Shape) -> Json {
        let mut list = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let length = self.path.len();
            self.path.push_str(&format!("[{index}]"));
            if item.is_null() {
                self.wrong(item, "is empty", &expectation(shape));
            } else {
                list.extend(self.node(item, shape));
            }
            self.path.truncate(length);
        }
        Json::Array(list)
    }

    /// One scalar for a whole list.
    fn separated(&mut self, node: &Node, scalar: &Scalar, shape: &Shape) -> Json {
        if matches!(shape, Shape::Object(_) | Shape::Map(_) | Shape::List(_)) {
            self.wrong(
                node,
                "has the wrong shape",
                &format!("a list of {}s", noun(shape)),
            );
            return Json::Array(Vec::new());
        }
        let inline_pem = scalar.text.contains("-----BEGIN");
        let parts: Vec<&str> = match scalar.text.as_str() {
            "" => Vec::new(),
            text if inline_pem => vec![text],
            text => text.split(',').map(str::trim).collect(),
        };
        let items: Vec<Node> = parts
            .into_iter()
            .map(|part| Node::text(node.origin.clone(), part))
            .collect();
        self.list(&items, shape)
    }

    /// `true` or `false` where an object belongs; a label without a value counts as true. An object with a key
    /// `enabled` takes it as that key.
    fn switch(&mut self, node: &Node, scalar: &Scalar, fields: &[Field]) -> Option<Json> {
        let label = node.origin == Origin::Label && scalar.text.is_empty();
        let enabled = fields.iter().any(|field| field.name == "enabled");
        match boolean(&scalar.text) {
            Some(on) if enabled => Some(serde_json::json!({"enabled": on})),
            Some(false) => None,
            None if !label => {
                self.wrong(node, "has the wrong shape", "a map, or `true` for its defaults");
                None
            }
            _ => Some(Json::Object(Map::new())),
        }
    }

    fn scalar(&mut self, node: &Node, scalar: &Scalar, shape: &Shape) -> Option<Json> {
        let text = scalar.text.as_str();
        let value = match shape {
            Shape::Text(Text::Plain) => Some(Json::from(text)),
            Shape::Text(Text::Duration) => {
                length(text).map(|duration| Json::from(duration::format(duration)))
            }
            Shape::Text(Text::SignedDuration) => duration::is_signed(text).then(|| Json::from(text)),
            Shape::Length(least, most) => length(text)
                .filter(|length| (least..=most).contains(&length))
                .map(|length| Json::from(duration::format(length))),
            Shape::Size(most) => size::parse(text)
                .filter(|size| size <= most)
                .map(|size| Json::from(size::format(size))),
            Shape::Form(format) => (format.read)(text),
            Shape::Text(Text::Network) => network(text).map(|network| Json::from(network.to_string())),
            Shape::Word(words) => words
                .iter()
                .find(|word| word.eq_ignore_ascii_case(text))
                .map(|word| Json::from(word.as_str())),
            Shape::Integer(least, most) => whole(text)
                .filter(|number| (least..=most).contains(&number))
                .and_then(|number| {
                    let signed = i64::try_from(number).map(Json::from);
                    signed.or_else(|_| u64::try_from(number).map(Json::from)).ok()
                }),
            Shape::Number(least, most) => text
                .parse::<f64>()
                .ok()
                .filter(|number| number.is_finite() && (least..=most).contains(&number))
                .map(Json::from),
            Shape::Bool => boolean(text).map(Json::from),
            _ => None,
        };
        if value.is_none() {
            let what = match shape {
                Shape::Text(Text::Duration | Text::SignedDuration) => "is not a duration",
                Shape::Length(..) if length(text).is_some() => "is out of range",
                Shape::Length(..) => "is not a duration",
                Shape::Size(_) if size::parse(text).is_some() => "is out of range",
                Shape::Size(_) => "is not a number of bytes",
                Shape::Form(format) => format.wrong,
                Shape::Text(Text::Network) => "is not an address or network",
                Shape::Word(_) => "is not one of the allowed words",
                Shape::Integer(..) if whole(text).is_some() => "is out of range",
                Shape::Integer(..) => "is not a whole number",
                Shape::Number(..) => "is not a number in range",
                Shape::Bool => "is neither true nor false",
                _ => "has the wrong shape",
            };
            self.wrong(node, what, &expectation(shape));
        }
        value
    }

    fn unknown(&mut self, key: &str, origin: &Origin, fields: &[Field]) {
        let names = || fields.iter().map(|field| field.name.as_str());
        let (message, hint) = match (self.explain)(&self.path) {
            Some(Unknown::Ignore) => return,
            Some(Unknown::Refuse(message, hint)) => (message, Some(hint)),
            None => {
                let hint = nearest(key, names()).map(|name| format!("did you mean `{name}`?"));
                ("unknown key".to_owned(), hint)
            }
        };
        let expected = match fields.len() {
            0 => "no keys here".to_owned(),
            1 => format!("only `{}`", fields[0].name),
            _ => format!("one of {}", names().collect::<Vec<_>>().join(", ")),
        };
        let known_elsewhere = message != "unknown key";
        self.push(origin.clone(), |error| {
            error.message = message;
            error.hint = hint;
            error.expected = (!known_elsewhere).then_some(expected);
        });
    }

    fn wrong(&mut self, node: &Node, message: &str, expected: &str) {
        let hint = match &node.value {
            Value::Scalar(scalar) if expected == BOOLEAN => match scalar.text.to_ascii_lowercase().as_str() {
                "yes" | "on" | "y" => Some("write `true`"),
                "no" | "off" | "n" => Some("write `false`"),
                _ => None,
            },
            _ => None,
        };
        let value = shown(node, &self.path);
        self.push(node.origin.clone(), |error| {
            error.message = message.to_owned();
            error.value = Some(value);
            error.expected = Some(expected.to_owned());
            error.hint = hint.map(str::to_owned);
        });
    }

    fn push(&mut self, origin: Origin, fill: impl FnOnce(&mut ConfigError)) {
        if self.errors.len() < MAX_ERRORS {
            let mut error = ConfigError::new(origin, self.path.clone(), "");
            fill(&mut error);
            self.errors.push(error);
        }
    }

    /// Runs `work` with the path one key longer.
    fn below<T>(&mut self, key: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(key);
        let result = work(self);
        self.path.truncate(length);
        result
    }
}

/// A duration, also as a whole number in any of its spellings.
fn length(text: &str) -> Option<Duration> {
    duration::parse(text).or_else(|| whole(text).and_then(|seconds| duration::parse(&seconds.to_string())))
}

/// Keys whose values no error shows.
const SECRET_KEYS: [&str; 6] = ["token", "password", "secret", "users", "key", "keyFile"];

/// The value for an error, unless its key says that it is secret.
pub(crate) fn shown(node: &Node, path: &str) -> String {
    let last = path.rsplit('.').next().unwrap_or_default();
    let last = last.split('[').next().unwrap_or_default();
    if SECRET_KEYS.iter().any(|key| key.eq_ignore_ascii_case(last)) {
        return "[redacted]".to_owned();
    }
    node.shown()
}
