//! What a lease is for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest name of a service in a key, in bytes.
pub const MAX_SERVICE_NAME: usize = 128;

/// What a lease is for. Written as `lb_leader`, `dns_writer`, `service:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum LeaseKey {
    /// Who answers at the addresses of the edge.
    LbLeader,
    /// Who writes DNS records.
    DnsWriter,
    /// Who runs the only instance of this service.
    Service(ServiceName),
}

/// The name of a service that runs once: letters, digits, `_`, `-` and `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(String);

/// Why a text is no key of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// None of the three forms.
    #[error("`{0}` is no lease: expected `lb_leader`, `dns_writer` or `service:NAME`")]
    Unknown(String),
    /// A name that is empty, too long, or has another character.
    #[error(
        "`{0}` is no name for the lease of a service: expected 1 to {MAX_SERVICE_NAME} letters, digits, `_`, `-` or `.`"
    )]
    Name(String),
}

impl LeaseKey {
    /// The lease of a service that runs once.
    ///
    /// # Errors
    /// If it is no such name.
    pub fn service(name: &str) -> Result<Self, KeyError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || name.len() > MAX_SERVICE_NAME || !name.chars().all(allowed) {
            return Err(KeyError::Name(name.chars().take(MAX_SERVICE_NAME).collect()));
        }
        Ok(Self::Service(ServiceName(name.to_owned())))
    }
}

impl fmt::Display for LeaseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LbLeader => f.write_str("lb_leader"),
            Self::DnsWriter => f.write_str("dns_writer"),
            Self::Service(name) => write!(f, "service:{}", name.0),
        }
    }
}

impl FromStr for LeaseKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        match (text, text.strip_prefix("service:")) {
            ("lb_leader", _) => Ok(Self::LbLeader),
            ("dns_writer", _) => Ok(Self::DnsWriter),
            (_, Some(name)) => Self::service(name),
            (_, None) => Err(KeyError::Unknown(text.chars().take(MAX_SERVICE_NAME).collect())),
        }
    }
}

impl TryFrom<String> for LeaseKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<LeaseKey> for String {
    fn from(key: LeaseKey) -> Self {
        key.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::{KeyError, LeaseKey, MAX_SERVICE_NAME};

    #[test]
    fn keys_are_written_and_read_alike_and_others_refused() {
        for text in ["lb_leader", "dns_writer", "service:web-1.blue"] {
            assert_eq!(text.parse::<LeaseKey>().unwrap().to_string(), text);
        }
        for text in ["", "lb", "LB_LEADER", "services:a"] {
            assert!(
                matches!(text.parse::<LeaseKey>(), Err(KeyError::Unknown(seen)) if seen == text),
                "{text}"
            );
        }
        let long = format!("service:{}", "a".repeat(MAX_SERVICE_NAME + 1));
        for text in ["service:", "service:a b", "service:ä", "service:a:b", &long] {
            assert!(
                matches!(text.parse::<LeaseKey>(), Err(KeyError::Name(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn a_key_from_the_log_is_checked_like_one_from_an_operator() {
        let bad = postcard::to_stdvec("service:a b").unwrap();
        assert!(postcard::from_bytes::<LeaseKey>(&bad).is_err());
        let good = postcard::to_stdvec("dns_writer").unwrap();
        assert_eq!(
            postcard::from_bytes::<LeaseKey>(&good).unwrap(),
            LeaseKey::DnsWriter
        );
    }
}
