//! Scalars as values, and what shapes expect, in words.

use serde_json::Value as Json;

use super::{Shape, Text};
use crate::document::{Node, ScalarKind, Value};
use crate::{duration, size};

pub(super) const BOOLEAN: &str = "true or false";

/// What Go's `strconv.ParseBool` takes, which is what Traefik's users know.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// A whole number, also written as `0x1f`, `0o17` or `10.0`.
pub(super) fn whole(text: &str) -> Option<i128> {
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            return i128::from_str_radix(digits, radix)
                .ok()
                .filter(|_| !digits.starts_with(['+', '-']));
        }
    }
    let digits = match text.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|byte| byte == b'0') => whole,
        Some(_) => return None,
        None => text,
    };
    digits.parse().ok()
}

/// A network; a lone address is the network of that address.
pub(super) fn network(text: &str) -> Option<ipnet::IpNet> {
    let network = text.parse::<ipnet::IpNet>().map(|network| network.trunc());
    network
        .or_else(|_| text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from))
        .ok()
}

/// A node as plain JSON.
pub(super) fn any(node: &Node) -> Json {
    match &node.value {
        Value::Map(entries) => entries
            .iter()
            .map(|entry| (entry.key.clone(), any(&entry.node)))
            .collect(),
        Value::List(items) => items.iter().map(any).collect(),
        Value::Scalar(scalar) => match scalar.kind {
            ScalarKind::Null => Json::Null,
            ScalarKind::Bool => {
                boolean(&scalar.text).map_or_else(|| Json::from(scalar.text.as_str()), Json::from)
            }
            ScalarKind::Integer => match whole(&scalar.text).map(i64::try_from) {
                Some(Ok(number)) => Json::from(number),
                _ => Json::from(scalar.text.as_str()),
            },
            ScalarKind::Float => match scalar.text.parse::<f64>() {
                Ok(number) if number.is_finite() => Json::from(number),
                _ => Json::from(scalar.text.as_str()),
            },
            ScalarKind::Text => Json::from(scalar.text.as_str()),
        },
    }
}

/// What a shape expects, for errors.
pub(super) fn expectation(shape: &Shape) -> String {
    match shape {
        Shape::Any => "any value".to_owned(),
        Shape::Object(fields) if fields.is_empty() => "an empty map".to_owned(),
        Shape::Object(fields) => {
            let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
            format!("a map with keys of {}", names.join(", "))
        }
        Shape::Map(_) => "a map from names to values".to_owned(),
        Shape::List(shape) => format!("a list of {}s", noun(shape)),
        Shape::Text(Text::Plain) => "a text".to_owned(),
        Shape::Text(Text::Duration) => duration::EXPECTED.to_owned(),
        Shape::Text(Text::SignedDuration) => duration::EXPECTED_SIGNED.to_owned(),
        Shape::Text(Text::Network) => "an IP address or a network such as 10.0.0.0/8".to_owned(),
        Shape::Word(words) => format!("one of {}", words.join(", ")),
        Shape::Integer(least, most) if *most >= i128::from(i64::MAX) && *least <= i128::from(i64::MIN) => {
            "a whole number".to_owned()
        }
        Shape::Integer(least, most) if *most >= i128::from(i64::MAX) => {
            format!("a whole number, {least} or more")
        }
        Shape::Integer(least, most) => format!("a whole number from {least} to {most}"),
        Shape::Number(least, most) => format!("a number from {least} to {most}"),
        Shape::Length(least, most) => format!(
            "a duration from {} to {}",
            duration::format(*least),
            duration::format(*most)
        ),
        Shape::Size(most) => format!(
            "a number of bytes up to {}, such as 64KiB or 65536",
            size::format(*most)
        ),
        Shape::Form(format) => format.expected.to_owned(),
        Shape::Bool => BOOLEAN.to_owned(),
    }
}

pub(super) fn noun(shape: &Shape) -> &'static str {
    match shape {
        Shape::Object(_) | Shape::Map(_) => "map",
        Shape::List(_) => "list",
        Shape::Integer(..) | Shape::Number(..) => "number",
        Shape::Text(Text::Network) => "network",
        Shape::Text(Text::Duration | Text::SignedDuration) | Shape::Length(..) => "duration",
        Shape::Text(_) => "text",
        _ => "value",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_traefik_reads_them() {
        let table = [
            ("10", Some(10)),
            ("-10", Some(-10)),
            ("10.0", Some(10)),
            ("10.00", Some(10)),
            ("0x1f", Some(31)),
            ("0o17", Some(15)),
            ("10.5", None),
            ("10.", None),
            ("0x", None),
            ("0x-1", None),
            ("1e3", None),
            ("ten", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(whole(text), expected, "{text:?}");
        }
    }

    #[test]
    fn networks_lose_their_host_part() {
        let table = [
            ("10.1.2.3/8", Some("10.0.0.0/8")),
            ("10.1.2.3", Some("10.1.2.3/32")),
            ("fd00::1/8", Some("fd00::/8")),
            ("10.0.0.0/33", None),
            ("10.0.0", None),
            ("", None),
        ];
        for (text, expected) in table {
            let read = network(text).map(|network| network.to_string());
            assert_eq!(read.as_deref(), expected, "{text:?}");
        }
    }
}
