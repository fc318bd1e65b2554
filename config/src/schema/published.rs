//! The schema as it is published: with the shorter forms that documents use.

use std::collections::HashSet;

use serde_json::{Value as Json, json};

/// Go's durations, or whole seconds.
const DURATION: &str = r"^\+?([0-9]+|([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))*)$";

/// Adds to a schema made from the types what [`super::read`] takes as well: one text for a list, seconds as a number,
/// `true` and `false` for an object, null for any key.
pub(crate) fn published(mut schema: Json) -> Json {
    let objects = objects(&schema);
    widen(&mut schema, &objects);
    if let Some(defs) = schema.get_mut("$defs").and_then(Json::as_object_mut) {
        for definition in defs.values_mut() {
            widen(definition, &objects);
        }
    }
    schema
}

/// References to definitions of objects, as against those of words.
fn objects(schema: &Json) -> HashSet<String> {
    let defs = schema.get("$defs").and_then(Json::as_object);
    let objects = defs
        .into_iter()
        .flatten()
        .filter(|(_, def)| def.get("properties").is_some());
    objects.map(|(name, _)| format!("#/$defs/{name}")).collect()
}

/// Widens the properties of an object.
fn widen(schema: &mut Json, objects: &HashSet<String>) {
    if let Some(properties) = schema.get_mut("properties").and_then(Json::as_object_mut) {
        for schema in properties.values_mut() {
            property(schema, objects);
        }
    }
}

fn property(schema: &mut Json, objects: &HashSet<String>) {
    let Json::Object(map) = schema else { return };
    if map.get("format").and_then(Json::as_str) == Some("go-duration") {
        map.insert("type".to_owned(), json!(["string", "integer", "null"]));
        map.insert("pattern".to_owned(), json!(DURATION));
        map.insert("minimum".to_owned(), json!(0));
    } else if let Some("size" | "go-signed-duration") = map.get("format").and_then(Json::as_str) {
        map.insert("type".to_owned(), json!(["string", "integer", "null"]));
    } else if map.contains_key("$ref") || map.contains_key("anyOf") || map.contains_key("oneOf") {
        let alternatives = match (map.remove("$ref"), map.remove("anyOf"), map.remove("oneOf")) {
            (Some(reference), ..) => vec![json!({"$ref": reference})],
            (_, Some(Json::Array(any)), _) | (.., Some(Json::Array(any))) => any,
            _ => Vec::new(),
        };
        let mut alternatives: Vec<Json> = alternatives
            .into_iter()
            .filter(|alternative| alternative != &json!({"type": "null"}))
            .collect();
        let is_object = |alternative: &Json| {
            let reference = alternative.get("$ref").and_then(Json::as_str);
            reference.is_some_and(|reference| objects.contains(reference))
        };
        let switch = alternatives.iter().any(is_object);
        let others = if switch {
            json!({"type": ["boolean", "null"]})
        } else {
            json!({"type": "null"})
        };
        alternatives.push(others);
        map.insert("anyOf".to_owned(), Json::Array(alternatives));
    } else {
        let scalar_items = map.get("items").is_some_and(|items| items.get("type").is_some());
        let mut types = match map.remove("type") {
            Some(Json::String(kind)) => vec![Json::String(kind)],
            Some(Json::Array(kinds)) => kinds,
            _ => return,
        };
        if scalar_items {
            types.push(json!("string"));
        }
        if !types.contains(&json!("null")) {
            types.push(json!("null"));
        }
        map.insert("type".to_owned(), Json::Array(types));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_forms_are_allowed() {
        let schema = crate::schema();
        let table = [
            (
                "/$defs/RawEntryPoint/properties/address/type",
                json!(["array", "string", "null"]),
            ),
            (
                "/$defs/RawProxy/properties/retryAfter/type",
                json!(["string", "integer", "null"]),
            ),
            (
                "/$defs/RawProxy/properties/workers/type",
                json!(["integer", "null"]),
            ),
            (
                "/properties/accessLog/anyOf/1",
                json!({"type": ["boolean", "null"]}),
            ),
            ("/$defs/RawLog/properties/level/anyOf/1", json!({"type": "null"})),
        ];
        for (pointer, expected) in table {
            assert_eq!(schema.pointer(pointer), Some(&expected), "{pointer}");
        }
    }
}
