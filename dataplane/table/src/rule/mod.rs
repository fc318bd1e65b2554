//! Traefik v3 rules: text to tree, tree to verdict.
//!
//! Data moves one way: [`lexer`] cuts the text into tokens, [`parser`] builds a [`tree::Expression`] without
//! knowing any matcher, [`http`] or [`tcp`] turns each call into a matcher, [`keys`] derives the index keys of the whole
//! rule, and [`claims`] the names for which an HTTPS router comes before TCP routers.
//! What v2 syntax or a slip of the pen looks like, and what to write instead, is in [`hint`].

mod claims;
mod hint;
mod http;
mod keys;
mod lexer;
mod parser;
mod re2;
mod regexp;
mod remarks;
mod tcp;
mod tree;

use std::borrow::Cow;

use crate::RequestMeta;
use http::Matcher;
use tree::Expression;

pub(crate) use http::Refusal;
pub(crate) use keys::{HostKey, HostKeys, exact_key, wildcard_key};
pub(crate) use re2::translate_with_groups;
pub(crate) use regexp::build;
pub use tcp::TcpRule;
pub(crate) use tcp::protocols;

/// Longest rule, in bytes. Traefik has no limit; ours keeps a label from costing seconds of compiling.
pub const MAX_RULE_BYTES: usize = 64 * 1024;
/// Deepest nesting of parentheses and `!`.
pub const MAX_DEPTH: usize = 64;
/// Most matchers in one rule.
pub const MAX_MATCHERS: usize = 1024;

/// A compiled rule.
#[derive(Debug)]
pub struct Rule {
    text: Box<str>,
    expression: Expression<Matcher>,
    keys: HostKeys,
    names_its_hosts: bool,
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

impl RuleError {
    fn new(offset: usize, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            offset,
        }
    }
}

impl Rule {
    /// Parses and compiles an HTTP rule.
    pub fn parse_http(text: &str) -> Result<Self, RuleError> {
        let expression = parser::parse(text, http::compile)?;
        let keys = HostKeys::of(&expression, &Matcher::key);
        let names_its_hosts =
            keys::names_its_hosts(&expression, &|matcher| matches!(matcher, Matcher::Host(_)));
        Ok(Self {
            text: text.into(),
            expression,
            keys,
            names_its_hosts,
        })
    }

    /// The text as written; its byte length is the default priority.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the request satisfies the rule.
    pub fn matches(&self, request: &RequestMeta<'_>) -> bool {
        self.expression
            .eval(&|matcher: &Matcher| matcher.matches(request))
    }

    /// The exact names in the rule's `Host` matchers, lower case, in the order written, without repetition; those
    /// under a `!` are left out. These are the names certificates and TLS options are looked up for, as in Traefik;
    /// wildcards and patterns are not among them.
    pub fn hosts(&self) -> Vec<&str> {
        let mut hosts: Vec<&str> = Vec::new();
        self.expression.each_positive(&mut |matcher| {
            if let Some(name) = matcher.exact_host().filter(|name| !hosts.contains(name)) {
                hosts.push(name);
            }
        });
        hosts
    }

    /// The same, and after them names such as `*.a.test`: for all of these TLS options are looked up.
    pub fn tls_names(&self) -> Vec<Cow<'_, str>> {
        let mut names: Vec<Cow<'_, str>> = self.hosts().into_iter().map(Cow::Borrowed).collect();
        self.expression.each_positive(&mut |matcher| {
            if let Some(name) = matcher
                .wildcard_host()
                .filter(|name| !names.contains(&Cow::Borrowed(name)))
            {
                names.push(Cow::Owned(name));
            }
        });
        names
    }

    /// Why the rule refuses the request: the matchers that would have to change their verdict. Empty when it matches.
    pub(crate) fn refusals(&self, request: &RequestMeta<'_>) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        self.expression
            .blame(&|matcher| matcher.matches(request), &mut |matcher, wanted| {
                refusals.push(matcher.refusal(request, wanted));
            });
        refusals
    }

    /// Whether the rule can match only under hosts that it names exactly: neither wildcard nor pattern, nor any host.
    pub fn names_its_hosts(&self) -> bool {
        self.names_its_hosts
    }

    /// Where the index files this rule.
    pub(crate) fn keys(&self) -> &HostKeys {
        &self.keys
    }
}
