//! A JSON schema made ready to be walked.

use std::time::Duration;

use serde_json::Value as Json;

use super::format::Format;
use crate::{duration, size};

/// What a value may be. `null` is always allowed and means that the value is left out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    /// Anything, kept as written.
    Any,
    /// A fixed set of keys.
    Object(Vec<Field>),
    /// Names chosen by the user.
    Map(Box<Shape>),
    List(Box<Shape>),
    Text(Text),
    /// One of these words, in any case.
    Word(Vec<String>),
    /// A whole number with its bounds.
    Integer(i128, i128),
    /// A number with its bounds.
    Number(f64, f64),
    /// A duration with its bounds.
    Length(Duration, Duration),
    /// A number of bytes, up to this one.
    Size(u64),
    /// A scalar of a form of its own.
    Form(&'static Format),
    Bool,
}

/// A key of an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: String,
    /// The documentation of the field, in one line.
    pub(crate) about: String,
    /// The value when the key is left out; null where that means something else than a value.
    pub(crate) default: Json,
    pub(crate) shape: Shape,
}

/// What a text must look like, by the `format` of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    Plain,
    /// [`crate::duration`].
    Duration,
    /// The same, also below zero.
    SignedDuration,
    /// An IP address or a network in CIDR notation.
    Network,
}

impl Shape {
    /// Compiles a root schema. A construct that our types don't make becomes [`Shape::Any`]; a test watches for it.
    pub(crate) fn compile(schema: &Json) -> Self {
        compile(schema, schema.get("$defs").unwrap_or(&Json::Null), 0)
    }
}

fn compile(schema: &Json, defs: &Json, depth: usize) -> Shape {
    // Types that contain themselves would not end; ours don't.
    if depth > 32 {
        return Shape::Any;
    }
    let inner = |schema: &Json| compile(schema, defs, depth + 1);
    if let Some(reference) = schema.get("$ref").and_then(Json::as_str) {
        let name = reference.trim_start_matches("#/$defs/");
        return defs.get(name).map_or(Shape::Any, inner);
    }
    for group in ["anyOf", "oneOf"] {
        let Some(variants) = schema.get(group).and_then(Json::as_array) else {
            continue;
        };
        let words: Option<Vec<String>> = variants
            .iter()
            .map(|variant| Some(variant.get("const")?.as_str()?.to_owned()))
            .collect();
        if let Some(words) = words {
            return Shape::Word(words);
        }
        let mut kinds = variants
            .iter()
            .filter(|variant| variant.get("type").and_then(Json::as_str) != Some("null"));
        return match (kinds.next(), kinds.next()) {
            (Some(only), None) => inner(only),
            _ => Shape::Any,
        };
    }
    if let Some(words) = schema.get("enum").and_then(Json::as_array) {
        return Shape::Word(words.iter().filter_map(Json::as_str).map(str::to_owned).collect());
    }
    if let Some(format) = schema
        .get("format")
        .and_then(Json::as_str)
        .and_then(Format::called)
    {
        return Shape::Form(format);
    }
    match kind(schema) {
        Some("object") => match (schema.get("properties"), schema.get("additionalProperties")) {
            (Some(Json::Object(properties)), _) => Shape::Object(
                properties
                    .iter()
                    .map(|(name, property)| Field {
                        name: name.clone(),
                        about: about(property),
                        default: property.get("default").cloned().unwrap_or(Json::Null),
                        shape: inner(property),
                    })
                    .collect(),
            ),
            (_, Some(values @ Json::Object(_))) => Shape::Map(Box::new(inner(values))),
            (_, Some(Json::Bool(true))) => Shape::Map(Box::new(Shape::Any)),
            (_, Some(Json::Bool(false))) => Shape::Object(Vec::new()),
            _ => Shape::Any,
        },
        Some("array") => Shape::List(Box::new(schema.get("items").map_or(Shape::Any, inner))),
        Some("string") => Shape::Text(match schema.get("format").and_then(Json::as_str) {
            Some("go-duration") if schema.get("x-least").is_some() => return length(schema),
            Some("go-duration") => Text::Duration,
            Some("go-signed-duration") => Text::SignedDuration,
            Some("size") => return bytes(schema),
            Some("network") => Text::Network,
            _ => Text::Plain,
        }),
        Some("integer") => integer(schema),
        Some("number") => {
            let bound = |key| schema.get(key).and_then(Json::as_f64);
            Shape::Number(
                bound("minimum").unwrap_or(f64::MIN),
                bound("maximum").unwrap_or(f64::MAX),
            )
        }
        Some("boolean") => Shape::Bool,
        _ => Shape::Any,
    }
}

/// The type beside `null`.
fn kind(schema: &Json) -> Option<&str> {
    match schema.get("type")? {
        Json::String(kind) => Some(kind),
        Json::Array(kinds) => kinds.iter().filter_map(Json::as_str).find(|kind| *kind != "null"),
        _ => None,
    }
}

fn integer(schema: &Json) -> Shape {
    let (least, most) = match schema.get("format").and_then(Json::as_str) {
        Some("uint8") => (0, i128::from(u8::MAX)),
        Some("uint16") => (0, i128::from(u16::MAX)),
        Some("uint32") => (0, i128::from(u32::MAX)),
        Some("uint64" | "uint") => (0, i128::from(u64::MAX)),
        _ => (i128::from(i64::MIN), i128::from(i64::MAX)),
    };
    let bound = |key| {
        let number = schema.get(key)?;
        number
            .as_i64()
            .map(i128::from)
            .or_else(|| number.as_u64().map(i128::from))
    };
    Shape::Integer(
        bound("minimum").unwrap_or(least).max(least),
        bound("maximum").unwrap_or(most).min(most),
    )
}

/// Durations between the texts `x-least` and `x-most`.
fn length(schema: &Json) -> Shape {
    let bound = |key| schema.get(key).and_then(Json::as_str).and_then(duration::parse);
    Shape::Length(
        bound("x-least").unwrap_or_default(),
        bound("x-most").unwrap_or(Duration::MAX),
    )
}

/// Sizes up to `x-most`, which is a size itself.
fn bytes(schema: &Json) -> Shape {
    let most = schema.get("x-most").and_then(Json::as_str);
    Shape::Size(most.and_then(size::parse).unwrap_or(u64::MAX))
}

/// The description in one line.
fn about(property: &Json) -> String {
    let text = property
        .get("description")
        .and_then(Json::as_str)
        .unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
