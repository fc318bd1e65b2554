//! The values that nodes tell: small, versioned texts with limits.
//!
//! A value is a version and fields between `|`: `1|3|0|1|0|0`. Fields that a later release appends to a version
//! are ignored; a version that is not known makes one value unreadable, not the node. No field may contain `|` or `,`
//! beyond its own structure, so there is nothing to escape.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use thiserror::Error;

mod node;
mod service;

pub use node::{CAPABILITIES_LIMIT, Load, Metadata, Standing};
pub(crate) use service::Counted;
pub use service::{Counts, ServiceId};

/// The most bytes of a value. The counts of a service have about 12.
pub const VALUE_LIMIT: usize = 512;

const VERSION: &str = "1";

/// Why a text is no value, or a value can't be told.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ValueError {
    /// More than is kept small.
    #[error("{what} has {bytes} bytes, at most {VALUE_LIMIT} are gossiped: announce it as bulk")]
    Large {
        /// What.
        what: &'static str,
        /// How much.
        bytes: usize,
    },
    /// Of another release.
    #[error("{what} is of version {seen:?}, this release reads version {VERSION}")]
    Version {
        /// What.
        what: &'static str,
        /// Seen.
        seen: String,
    },
    /// A field is missing or wrong.
    #[error("{what}: {field} is {seen:?}, expected {expected}")]
    Field {
        /// What.
        what: &'static str,
        /// Which field.
        field: &'static str,
        /// Its beginning.
        seen: String,
        /// What would be right.
        expected: &'static str,
    },
}

struct Fields<'a> {
    what: &'static str,
    rest: std::str::Split<'a, char>,
}

impl<'a> Fields<'a> {
    fn of(what: &'static str, text: &'a str) -> Result<Self, ValueError> {
        if text.len() > VALUE_LIMIT {
            return Err(ValueError::Large {
                what,
                bytes: text.len(),
            });
        }
        let mut rest = text.split('|');
        match rest.next() {
            Some(VERSION) => Ok(Self { what, rest }),
            other => Err(ValueError::Version {
                what,
                seen: shown(other.unwrap_or("")),
            }),
        }
    }

    fn next<T>(
        &mut self,
        field: &'static str,
        expected: &'static str,
        parse: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<T, ValueError> {
        let text = self.rest.next();
        text.and_then(parse).ok_or_else(|| ValueError::Field {
            what: self.what,
            field,
            seen: shown(text.unwrap_or("")),
            expected,
        })
    }
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

/// A decimal number as `to_string` writes it: one spelling, so that equal values are equal texts.
fn number<T: FromStr + fmt::Display>(text: &str) -> Option<T> {
    text.parse::<T>().ok().filter(|number| number.to_string() == text)
}

fn optional<T: FromStr + fmt::Display>(text: &str) -> Option<Option<T>> {
    if text.is_empty() {
        Some(None)
    } else {
        number(text).map(Some)
    }
}

fn list<T>(text: &str, limit: usize, parse: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let items: Vec<T> = text
        .split(',')
        .take(limit + 1)
        .map(parse)
        .collect::<Option<_>>()?;
    (items.len() <= limit).then_some(items)
}

fn joined<T: fmt::Display>(items: &[T]) -> String {
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

fn shown_optional<T: fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// A name inside a key or a value: 1 to 64 of letters, digits, `.`, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(Box<str>);

impl Label {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Label {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let fine = (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        if fine {
            Ok(Self(text.into()))
        } else {
            let expected = "1 to 64 letters, digits, `.`, `_`, `-`";
            Err(ValueError::Field {
                what: "label",
                field: "name",
                seen: shown(text),
                expected,
            })
        }
    }
}

fn letter<T: Copy + PartialEq>(all: &[(T, &'static str)], value: T) -> &'static str {
    all.iter()
        .find(|(one, _)| *one == value)
        .map_or("", |(_, letter)| letter)
}

fn by_letter<T: Copy>(all: &[(T, &'static str)], text: &str) -> Option<T> {
    all.iter()
        .find(|(_, letter)| *letter == text)
        .map(|(value, _)| *value)
}

/// Something too large for gossip, to be pulled over mTLS by who has not this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bulk {
    /// Grows with every change.
    pub version: u64,
    /// How many bytes to expect.
    pub length: u64,
    /// Their SHA-256.
    pub digest: [u8; 32],
}

impl fmt::Display for Bulk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            version,
            length,
            digest,
        } = self;
        write!(
            f,
            "{VERSION}|{version}|{length}|{}",
            BASE64URL_NOPAD.encode(digest)
        )
    }
}

impl FromStr for Bulk {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut fields = Fields::of("bulk", text)?;
        Ok(Self {
            version: fields.next("version", "a number", number)?,
            length: fields.next("length", "a number", number)?,
            digest: fields.next("digest", "43 characters of base 64 (URL)", |text| {
                BASE64URL_NOPAD.decode(text.as_bytes()).ok()?.try_into().ok()
            })?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn metadata() -> Metadata {
        Metadata {
            standing: Standing::Cordoned,
            priority: 100,
            region: Some("eu-1".parse().unwrap()),
            mesh: Some("100.64.0.7".parse().unwrap()),
            public: vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()],
            release: "0.1.0".parse().unwrap(),
            capabilities: vec!["docker".parse().unwrap(), "ebpf".parse().unwrap()],
        }
    }

    #[test]
    fn as_they_are_written() {
        let text = metadata().to_string();
        assert_eq!(
            text,
            "1|c|100|eu-1|100.64.0.7|192.0.2.7,2001:db8::7|0.1.0|docker,ebpf"
        );
        assert_eq!(text.parse(), Ok(metadata()));
        let plain = Metadata {
            region: None,
            mesh: None,
            public: vec![],
            capabilities: vec![],
            ..metadata()
        };
        assert_eq!(plain.to_string().parse(), Ok(plain));
        let load = Load {
            cpu_permille: 1000,
            memory_permille: 2,
            connections: 3,
            requests: 4,
        };
        assert_eq!(load.to_string(), "1|1000|2|3|4");
        assert_eq!(load.to_string().parse(), Ok(load));
        let bulk = Bulk {
            version: 3,
            length: 70_000,
            digest: [0xff; 32],
        };
        assert_eq!(bulk.to_string().parse(), Ok(bulk));
        let counts = Counts {
            healthy: 3,
            starting: 1,
            unhealthy: 2,
            stopped: 0,
            draining: u32::MAX,
        };
        assert_eq!(counts.to_string(), "1|3|1|2|0|4294967295");
        assert_eq!(counts.to_string().parse(), Ok(counts));
    }

    #[test]
    fn services_are_known_by_a_digest_of_their_names() {
        let id = ServiceId::of("web@docker");
        assert_eq!(id, ServiceId::of("web@docker"));
        assert_ne!(id, ServiceId::of("tcp/web@docker"));
        assert_eq!(id.to_string().len(), 11);
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in [
            "",
            "AAAAAAAAAA",
            "AAAAAAAAAAAA",
            "AAAAAAAAAA/",
            "AAAAAAAAAAB",
            "\u{e9}AAAAAAAAA",
        ] {
            assert!(bad.parse::<ServiceId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_later_release_may_append() {
        assert_eq!(
            "1|1|2|3|4|later|5".parse(),
            Ok(Load {
                cpu_permille: 1,
                memory_permille: 2,
                connections: 3,
                requests: 4
            })
        );
        let error = "2|1|2|3|4".parse::<Load>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "load is of version \"2\", this release reads version 1"
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let table = [
            ("", "version"),
            ("1", "healthy"),
            ("1|1", "starting"),
            ("1|1|1|x|1|1", "unhealthy"),
            ("1|01|1|1|1|1", "healthy"),
            ("1|+1|1|1|1|1", "healthy"),
            ("1|1|1|1|-1|1", "stopped"),
            ("1|1|1|1|1|4294967296", "draining"),
        ];
        for (text, expected) in table {
            let error = text.parse::<Counts>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
        let large = format!("1|1|1|1|1|1|{}", "x".repeat(VALUE_LIMIT));
        assert!(matches!(large.parse::<Counts>(), Err(ValueError::Large { .. })));
    }

    proptest! {
        /// One spelling: what is read is written as it was, but for what a later release appended.
        #[test]
        fn read_and_written_again(text in "1(\\|([a-z0-9.:,]{0,12}|[shuxdcl]|1\\.1\\.1\\.1:80)){0,8}") {
            if let Ok(value) = text.parse::<Metadata>() { prop_assert!(text.starts_with(&value.to_string())); }
            if let Ok(value) = text.parse::<Counts>() { prop_assert!(text.starts_with(&value.to_string())); }
            if let Ok(value) = text.parse::<Load>() { prop_assert!(text.starts_with(&value.to_string())); }
        }
    }
}
