//! Forms of scalars that neither a type nor bounds describe: what each takes, in code and in words.

use std::ops::RangeInclusive;

use serde_json::Value as Json;

use super::value::whole;

/// A form, found by the `format` of the schema.
#[derive(Debug)]
pub(crate) struct Format {
    name: &'static str,
    /// What is said of a value that doesn't fit.
    pub(crate) wrong: &'static str,
    /// What would fit.
    pub(crate) expected: &'static str,
    /// The value in the form that `serde` takes.
    pub(crate) read: fn(&str) -> Option<Json>,
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

static FORMATS: [Format; 6] = [
    Format {
        name: "retry-status",
        wrong: "is not a status that can be tried again",
        expected: "403, 429, or a status from 500 to 599; any other 4xx tells the client about its own request, which \
                   another server would answer alike",
        read: retry_status,
    },
    Format {
        name: "hash-key",
        wrong: "is not a key to hash by",
        expected: "client, header:NAME or cookie:NAME",
        read: hash_key,
    },
    Format {
        name: "http-method",
        wrong: "is not a request method",
        expected: "a method such as GET or HEAD",
        read: |text| token(text).then(|| Json::from(text.to_ascii_uppercase())),
    },
    Format {
        name: "percentile",
        wrong: "is not a percentile that can trigger a second attempt",
        expected: "a whole number from 50 to 99, or 0 for none",
        read: |text| none_or(text, 50..=99),
    },
    Format {
        name: "load-bound",
        wrong: "is not a bound of load",
        expected: "a whole number from 101 to 1000, or 0 for none",
        read: |text| none_or(text, 101..=1000),
    },
    Format {
        name: "check-status",
        wrong: "is not a status",
        expected: "a status from 100 to 599, or 0 for 200 to 399",
        read: |text| none_or(text, 100..=599),
    },
];

impl Format {
    pub(super) fn called(name: &str) -> Option<&'static Self> {
        FORMATS.iter().find(|format| format.name == name)
    }
}

/// A whole number within bounds, or 0.
fn none_or(text: &str, bounds: RangeInclusive<u16>) -> Option<Json> {
    let number = whole(text).and_then(|number| u16::try_from(number).ok())?;
    (number == 0 || bounds.contains(&number)).then(|| Json::from(number))
}

fn retry_status(text: &str) -> Option<Json> {
    let status = whole(text).and_then(|number| u16::try_from(number).ok())?;
    (matches!(status, 403 | 429) || (500..=599).contains(&status)).then(|| Json::from(status))
}

fn hash_key(text: &str) -> Option<Json> {
    if text.eq_ignore_ascii_case("client") {
        return Some(Json::from("client"));
    }
    let (kind, name) = text.split_once(':')?;
    let kind = ["header", "cookie"]
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(kind))?;
    token(name).then(|| Json::from(format!("{kind}:{name}")))
}

/// RFC 9110, section 5.6.2.
fn token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_forms_take() {
        let table = [
            ("retry-status", "503", Some(Json::from(503))),
            ("retry-status", "403", Some(Json::from(403))),
            ("retry-status", "429", Some(Json::from(429))),
            ("retry-status", "404", None),
            ("retry-status", "200", None),
            ("retry-status", "600", None),
            ("retry-status", "5xx", None),
            ("hash-key", "Client", Some(Json::from("client"))),
            ("hash-key", "Header:X-User", Some(Json::from("header:X-User"))),
            ("hash-key", "cookie:sid", Some(Json::from("cookie:sid"))),
            ("hash-key", "cookie:", None),
            ("hash-key", "header:a b", None),
            ("hash-key", "path", None),
            ("http-method", "head", Some(Json::from("HEAD"))),
            ("http-method", "A B", None),
            ("http-method", "", None),
            ("percentile", "0", Some(Json::from(0))),
            ("percentile", "95", Some(Json::from(95))),
            ("percentile", "49", None),
            ("percentile", "100", None),
            ("load-bound", "150", Some(Json::from(150))),
            ("load-bound", "100", None),
            ("check-status", "204", Some(Json::from(204))),
            ("check-status", "600", None),
        ];
        for (name, text, expected) in table {
            let format = Format::called(name).unwrap();
            assert_eq!((format.read)(text), expected, "{name} {text:?}");
        }
    }
}
