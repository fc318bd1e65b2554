//! Names: of a cluster, of a node, and the URI that a certificate carries for both.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::rand;
use data_encoding::{Encoding, Specification};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Not the name of a node.
    #[error(
        "{0:?} is no node name: expected 1 to 63 characters of a-z, 0-9 and `-`, neither first nor last a `-` (it \
         becomes the host name NODE.DOMAIN)"
    )]
    Node(String),
    /// Not the id of a cluster.
    #[error("{0:?} is no cluster id: expected the 26 characters that `constellation init` printed")]
    Cluster(String),
    /// Not the URI of a node.
    #[error("{0:?} is not the URI of a node: expected spiffe://CLUSTER/node/NAME")]
    Uri(String),
}

/// What error messages show of a text from outside: its beginning, so that nobody fills a log with it.
pub(crate) fn shown(text: &str) -> String {
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Lower-case base 32 without padding: no 0/O and 1/l to mistake, one word to a double click.
pub(crate) fn base32() -> Encoding {
    let mut spec = Specification::new();
    spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    spec.translate.from.push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    spec.translate.to.push_str("abcdefghijklmnopqrstuvwxyz");
    spec.ignore.push_str(" -\t\r\n");
    #[expect(clippy::expect_used, reason = "a constant specification, used by every test")]
    spec.encoding().expect("a valid alphabet")
}

/// Which cluster: 128 random bits, made once by `constellation init`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterId([u8; 16]);

impl ClusterId {
    /// A new one. None if the operating system has no randomness to give.
    pub fn generate() -> Option<Self> {
        let mut bytes = [0; 16];
        rand::fill(&mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// From its bytes, as a token carries them.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// `spiffe://CLUSTER`, which the certificate of an authority carries.
    pub(crate) fn uri(&self) -> String {
        format!("spiffe://{self}")
    }

    /// The URI that the certificate of `node` carries.
    pub fn node_uri(&self, node: &NodeName) -> String {
        format!("spiffe://{self}/node/{node}")
    }

    /// Cluster and node out of such a URI.
    pub fn parse_node_uri(uri: &str) -> Result<(Self, NodeName), NameError> {
        let (cluster, node) = uri
            .strip_prefix("spiffe://")
            .and_then(|rest| rest.split_once("/node/"))
            .ok_or_else(|| NameError::Uri(shown(uri)))?;
        Ok((cluster.parse()?, node.parse()?))
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32().encode(&self.0))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}

impl FromStr for ClusterId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bytes = base32().decode(text.as_bytes()).ok();
        let id = bytes.and_then(|bytes| bytes.try_into().ok()).map(Self);
        // One way to write it: ids are compared as text in certificates.
        id.filter(|id| id.to_string() == text)
            .ok_or_else(|| NameError::Cluster(shown(text)))
    }
}

impl TryFrom<String> for ClusterId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ClusterId> for String {
    fn from(id: ClusterId) -> Self {
        id.to_string()
    }
}

/// Which node: a DNS label in lower case, unique in its cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

impl NodeName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for NodeName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let label = (1..=63).contains(&text.len())
            && text
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && !text.starts_with('-')
            && !text.ends_with('-');
        if label {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Node(shown(text)))
        }
    }
}

impl TryFrom<String> for NodeName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_node_name() {
        for good in ["a", "node-1", "0", &"x".repeat(63)] {
            assert_eq!(good.parse::<NodeName>().map(String::from), Ok(good.to_owned()));
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a/b", "ä", "a b", &"x".repeat(64)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_uri_names_both_and_nothing_else() {
        let cluster = ClusterId::from_bytes([7; 16]);
        let node: NodeName = "node-1".parse().unwrap();
        let uri = cluster.node_uri(&node);
        assert_eq!(ClusterId::parse_node_uri(&uri), Ok((cluster, node)));
        for bad in [
            "",
            "spiffe://",
            "https://x/node/y",
            &uri.replace("/node/", "/"),
            &format!("{uri}/x"),
            &uri.to_uppercase(),
            &uri.replace("node-1", ""),
        ] {
            assert!(ClusterId::parse_node_uri(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id = ClusterId::from_bytes([0xa5; 16]);
        let text = id.to_string();
        assert_eq!(text.len(), 26);
        assert_eq!(text.parse(), Ok(id));
        assert!(text.to_uppercase().parse::<ClusterId>().is_err());
        assert!(format!(" {text}").parse::<ClusterId>().is_err());
    }

    #[test]
    fn long_texts_are_cut_in_errors() {
        let error = "ü".repeat(10_000).parse::<NodeName>().unwrap_err().to_string();
        assert!(error.len() < 400, "{error}");
    }
}
