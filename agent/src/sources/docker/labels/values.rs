//! A middleware as a file or labels gave it, held against what Traefik 3.7 knows of it.

use constellation_config::duration;
use serde_json::{Map, Value};

use super::middleware_schema::MIDDLEWARE;
use super::schema::{Kind, Object};

/// The middleware with each option in its own type, without those that say nothing. The error names the first option that
/// Traefik would not take.
pub fn middleware(definition: &Value) -> Result<Map<String, Value>, String> {
    let kinds = match definition {
        Value::Object(kinds) => kinds,
        _ => return Err("it is no map with a kind and its options".to_owned()),
    };
    let typed = object(kinds, &MIDDLEWARE, "")?;
    let named: Vec<&str> = typed.keys().map(String::as_str).collect();
    match named.as_slice() {
        [_] => Ok(typed),
        [] => Err("it has no kind, or its kind no option".to_owned()),
        several => Err(format!("it has several kinds ({}): keep one", several.join(", "))),
    }
}

fn object(options: &Map<String, Value>, schema: &Object, path: &str) -> Result<Map<String, Value>, String> {
    let mut typed = Map::new();
    for (key, given) in options {
        let at = match path {
            "" => key.clone(),
            above => format!("{above}.{key}"),
        };
        let field = schema
            .fields
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case(key))
            .ok_or_else(|| format!("there is no option {at}"))?;
        if let Some(known) = value(given, field.kind, &at)? {
            typed.insert(field.name.to_owned(), known);
        }
    }
    Ok(typed)
}

/// `None`: it says nothing.
fn value(given: &Value, kind: Kind, path: &str) -> Result<Option<Value>, String> {
    let wrong = |expected: &str| format!("{path} is not {expected}");
    if given.is_null() {
        return Ok(None);
    }
    Ok(Some(match kind {
        Kind::Ignored => return Ok(None),
        Kind::Text => Value::from(text(given).ok_or_else(|| wrong("a text"))?),
        Kind::Flag => match (given, text(given).as_deref()) {
            (Value::Bool(flag), _) => Value::from(*flag),
            (_, Some("1" | "t" | "T" | "true" | "TRUE" | "True")) => Value::from(true),
            (_, Some("0" | "f" | "F" | "false" | "FALSE" | "False")) => Value::from(false),
            _ => return Err(wrong("true or false")),
        },
        Kind::Integer => {
            let number = text(given).and_then(|text| text.parse::<i64>().ok());
            Value::from(number.ok_or_else(|| wrong("a whole number"))?)
        }
        Kind::Duration => {
            let length = text(given).and_then(|text| duration::parse(&text));
            let length = length.ok_or_else(|| wrong(duration::EXPECTED))?;
            Value::from(duration::format(length))
        }
        Kind::Words => match words(given).ok_or_else(|| wrong("a list of texts"))? {
            words if words.is_empty() => return Ok(None),
            words => Value::from(words),
        },
        Kind::Object(schema) => match given {
            Value::Object(options) => {
                let typed = object(options, schema, path)?;
                if typed.is_empty() && !schema.standalone {
                    return Ok(None);
                }
                Value::Object(typed)
            }
            Value::Bool(true) if schema.standalone => Value::Object(Map::new()),
            Value::Bool(false) if schema.standalone => return Ok(None),
            _ => return Err(wrong("a map of options")),
        },
        Kind::Named(kind) => {
            let Value::Object(entries) = given else {
                return Err(wrong("a map"));
            };
            let mut named = Map::new();
            for (key, entry) in entries {
                if let Some(entry) = value(entry, *kind, &format!("{path}.{key}"))? {
                    named.insert(key.clone(), entry);
                }
            }
            if named.is_empty() {
                return Ok(None);
            }
            Value::Object(named)
        }
        Kind::Raw | Kind::Indexed(_) | Kind::Single(_) => {
            return Err(format!("{path} is not served by this version"));
        }
    }))
}

fn words(given: &Value) -> Option<Vec<String>> {
    match given {
        Value::Array(items) => items.iter().map(text).collect(),
        one => Some(vec![text(one)?]),
    }
}

fn text(given: &Value) -> Option<String> {
    match given {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn options_get_their_types_and_what_says_nothing_goes() {
        for (definition, expected) in [
            (json!({"compress": true}), json!({"compress": {}})),
            (json!({"compress": {}}), json!({"compress": {}})),
            (
                json!({"ratelimit": {"average": "10", "period": 2, "burst": null}}),
                json!({"rateLimit": {"average": 10, "period": "2s"}}),
            ),
            (
                json!({"ipAllowList": {"sourceRange": "10.0.0.0/8", "ipStrategy": {}}}),
                json!({"ipAllowList": {"sourceRange": ["10.0.0.0/8"], "ipStrategy": {}}}),
            ),
            (
                json!({"headers": {"customRequestHeaders": {"X-A": ""}, "allowedHosts": [], "stsSeconds": 7}}),
                json!({"headers": {"customRequestHeaders": {"X-A": ""}, "stsSeconds": 7}}),
            ),
        ] {
            assert_eq!(
                Value::Object(middleware(&definition).unwrap()),
                expected,
                "{definition}"
            );
        }
    }

    #[test]
    fn what_traefik_would_refuse_is_named() {
        for (definition, expected) in [
            (
                json!({"stripPrefix": {}}),
                "it has no kind, or its kind no option",
            ),
            (
                json!({"headers": {"frameDeny": "perhaps"}}),
                "headers.frameDeny is not true or false",
            ),
            (
                json!({"headers": {"bogus": 1}}),
                "there is no option headers.bogus",
            ),
            (json!({"bogus": {"a": 1}}), "there is no option bogus"),
            (
                json!({"rateLimit": {"period": "10 parsecs"}}),
                "rateLimit.period is not a duration",
            ),
            (
                json!({"rateLimit": {"average": "ten"}}),
                "rateLimit.average is not a whole number",
            ),
            (
                json!({"plugin": {"x": {}}}),
                "plugin is not served by this version",
            ),
            (
                json!({"compress": {}, "stripPrefix": {"prefixes": ["/a"]}}),
                "several kinds (compress, stripPrefix)",
            ),
            (json!("compress"), "it is no map"),
        ] {
            let error = middleware(&definition).unwrap_err();
            assert!(error.contains(expected), "{definition}: {error}");
        }
    }
}
