//! The server names that an HTTPS router claims against the TCP routers of its entry point.
//!
//! A connection has to be given to HTTPS or to a TCP router before there is any request, by its server name alone. As
//! in Traefik a rule claims the names of its `Host` matchers that are not negated, whatever else it asks for; one that
//! has none, or says `Host("*")`, claims every connection that nobody names.

use super::Rule;
use super::http::Matcher;
use super::keys::HostKeys;

/// What a rule claims.
pub(crate) struct Claims {
    /// The keys of the names, exact ones and wildcards; `None`: it names none.
    pub(crate) names: Option<HostKeys>,
    /// It claims what nobody names.
    pub(crate) rest: bool,
}

impl Rule {
    /// What the rule claims as that of an HTTPS router.
    pub(crate) fn claims(&self) -> Claims {
        let mut names = Vec::new();
        let mut any_host = false;
        self.expression.each_positive(&mut |matcher| {
            names.extend(matcher.key());
            any_host |= matches!(matcher, Matcher::AnyHost);
        });
        Claims {
            rest: any_host || names.is_empty(),
            names: (!names.is_empty()).then(|| HostKeys::from_keys(names)),
        }
    }

    /// Whether it claims this server name by name.
    pub(crate) fn claims_name(&self, server_name: &str) -> bool {
        self.expression
            .any_signed(&mut |matcher, positive| positive && matcher.names(server_name))
    }
}
