//! Traefik v3 rules: text to tree, tree to verdict.

use crate::RequestMeta;

/// A compiled rule.
#[derive(Debug)]
pub struct Rule {
    text: Box<str>,
}

/// Why a rule is refused; positions are byte offsets in the rule's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (at byte {offset} of the rule)")]
pub struct RuleError {
    /// What was expected, and what to write instead.
    pub message: String,
    /// Byte offset, from 0.
    pub offset: usize,
}

impl Rule {
    /// Parses and compiles an HTTP rule.
    pub fn parse_http(text: &str) -> Result<Self, RuleError> {
        Ok(Self { text: text.into() })
    }

    /// The text as written; its byte length is the default priority.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the request satisfies the rule.
    pub fn matches(&self, _request: &RequestMeta<'_>) -> bool {
        false
    }
}
