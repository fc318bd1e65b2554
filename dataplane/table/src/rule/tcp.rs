//! Rules of TCP routers: what each matcher accepts as argument, and what it says of a connection.

use std::net::IpAddr;

use ipnet::IpNet;

use super::http::{Refusal, network};
use super::keys::{self, HostKey, HostKeys, exact_key, wildcard_key};
use super::parser::{self, Argument, Call};
use super::regexp::{self, Pattern};
use super::tree::Expression;
use super::{RuleError, hint};
use crate::ConnectionMeta;

/// A compiled rule of a TCP router.
#[derive(Debug)]
pub struct TcpRule {
    text: Box<str>,
    pub(super) expression: Expression<Matcher>,
    keys: HostKeys,
    names_its_hosts: bool,
    catch_all: bool,
}

impl TcpRule {
    /// Parses and compiles a TCP rule.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let expression = parser::parse(text, compile)?;
        Ok(Self {
            text: text.into(),
            keys: HostKeys::of(&expression, &Matcher::key),
            names_its_hosts: keys::names_its_hosts(&expression, &|matcher| {
                matches!(matcher, Matcher::HostSni(_))
            }),
            catch_all: is_any(&expression),
            expression,
        })
    }

    /// The text as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The priority where none is given: the byte length of the rule, and -1 for `HostSNI("*")` alone, as in Traefik.
    pub fn default_priority(&self) -> i64 {
        if self.is_catch_all() {
            -1
        } else {
            i64::try_from(self.text.len()).unwrap_or(i64::MAX)
        }
    }

    /// Whether it is `HostSNI("*")` and nothing else. Such a router leaves connections to HTTPS routers for any name,
    /// whatever its priority.
    pub fn is_catch_all(&self) -> bool {
        self.catch_all
    }

    /// The exact names in the rule's `HostSNI` matchers, in the order written, without repetition; those under a `!` are
    /// left out. For these names certificates and TLS options are looked up.
    pub fn hosts(&self) -> Vec<&str> {
        let mut hosts: Vec<&str> = Vec::new();
        self.expression.each_positive(&mut |matcher| {
            if let Matcher::HostSni(name) = matcher
                && !hosts.contains(&&**name)
            {
                hosts.push(name);
            }
        });
        hosts
    }

    /// Whether its router can't do without `tls`: the first `HostSNI` that is not negated asks for a name. As in Traefik
    /// patterns and `ALPN` don't count; see [`TcpRule::remarks`] for what they come to without TLS.
    pub fn needs_tls(&self) -> bool {
        let mut first = None;
        self.expression.each_positive(&mut |matcher| {
            let asks = match matcher {
                Matcher::Any => Some(false),
                Matcher::HostSni(_) | Matcher::WildcardSni(_) => Some(true),
                _ => None,
            };
            first = first.or(asks);
        });
        first.unwrap_or(false)
    }

    /// Whether the connection satisfies the rule.
    pub fn matches(&self, connection: &ConnectionMeta<'_>) -> bool {
        self.expression
            .eval(&|matcher: &Matcher| matcher.matches(connection))
    }

    /// Why the rule refuses the connection: the matchers that would have to change their verdict. Empty when it matches.
    pub(crate) fn refusals(&self, connection: &ConnectionMeta<'_>) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        self.expression
            .blame(&|matcher| matcher.matches(connection), &mut |matcher, wanted| {
                refusals.push(matcher.refusal(connection, wanted));
            });
        refusals
    }

    /// Whether the rule can match only under names that it gives in full.
    pub(crate) fn names_its_hosts(&self) -> bool {
        self.names_its_hosts
    }

    /// Where the index files this rule.
    pub(crate) fn keys(&self) -> &HostKeys {
        &self.keys
    }
}

fn is_any(expression: &Expression<Matcher>) -> bool {
    let mut count = 0;
    let mut any = false;
    expression.each_positive(&mut |matcher| any = matches!(matcher, Matcher::Any));
    expression.each(&mut |_| count += 1);
    count == 1 && any
}

/// One compiled matcher.
#[derive(Debug)]
pub(crate) enum Matcher {
    /// `HostSNI("*")`: any connection, with TLS or without.
    Any,
    /// The name, lower case, without a trailing dot.
    HostSni(Box<str>),
    /// What follows the first label of the name, without the dot.
    WildcardSni(Box<str>),
    HostSniRegexp(Pattern),
    Alpn(Box<str>),
    ClientIp(Box<IpNet>),
}

/// What is odd about a name (RFC 6066, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OddName {
    Address,
    Port,
    EmptyLabel,
}

const NAMES: [&str; 4] = ["ALPN", "ClientIP", "HostSNI", "HostSNIRegexp"];

/// The protocol of certificate challenges, which is never routed.
const ACME: &str = "acme-tls/1";

/// Compiles one call.
fn compile(call: &Call<'_>) -> Result<Matcher, RuleError> {
    let name =
        hint::resolve_tcp(call.name, &NAMES).map_err(|message| RuleError::new(call.offset, message))?;
    let [argument] = call.args.as_slice() else {
        return Err(RuleError::new(call.offset, hint::arity(name, &(1..=1), call)));
    };
    if argument.value.is_empty() {
        return Err(RuleError::new(
            argument.offset,
            format!("an argument of `{name}` is empty; every argument needs a value"),
        ));
    }
    match name {
        "HostSNI" => host_sni(argument),
        "HostSNIRegexp" => {
            super::http::ascii(name, argument)?;
            hint::braces(name, argument)?;
            regexp::compile(argument).map(Matcher::HostSniRegexp)
        }
        "ALPN" if argument.value == ACME => Err(RuleError::new(
            argument.offset,
            format!("{ACME:?} belongs to certificate challenges and can't be routed"),
        )),
        "ALPN" => Ok(Matcher::Alpn(argument.value.as_str().into())),
        _ => network(argument).map(|network| Matcher::ClientIp(Box::new(network))),
    }
}

fn host_sni(argument: &Argument) -> Result<Matcher, RuleError> {
    super::http::ascii("HostSNI", argument)?;
    hint::braces("HostSNIRegexp", argument)?;
    if argument.value == "*" {
        return Ok(Matcher::Any);
    }
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    let wildcard = argument.value.strip_prefix("*.");
    let name = wildcard.unwrap_or(&argument.value);
    if name.is_empty() || !name.bytes().all(is_name_byte) {
        let advice = if name.contains('*') || name.is_empty() {
            "`*` stands alone, or for the whole first label as in HostSNI(`*.example.com`)"
        } else {
            "write one as in HostSNI(`example.com`)"
        };
        return Err(RuleError::new(
            argument.offset,
            format!("{:?} in `HostSNI` is not a server name; {advice}", argument.value),
        ));
    }
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    Ok(match wildcard {
        Some(_) => Matcher::WildcardSni(name.into()),
        None => Matcher::HostSni(name.into()),
    })
}

impl Matcher {
    /// What the matcher says of the connection.
    fn matches(&self, connection: &ConnectionMeta<'_>) -> bool {
        let server_name = connection.server_name;
        match self {
            Self::Any => true,
            // A connection without a name is none of any name, not even of the empty one (`HostSNI(".")`).
            Self::HostSni(name) => **name == *server_name && !server_name.is_empty(),
            Self::WildcardSni(parent) => server_name
                .split_once('.')
                .is_some_and(|(_, rest)| rest == &**parent),
            Self::HostSniRegexp(pattern) => pattern.is_match(server_name),
            Self::Alpn(protocol) => connection.alpn.contains(&protocol.as_bytes()),
            Self::ClientIp(network) => network.contains(&connection.client.to_canonical()),
        }
    }

    /// Where the index files it; `None`: it may hold under any name.
    fn key(&self) -> Option<HostKey> {
        match self {
            Self::HostSni(name) => Some(exact_key(name)),
            Self::WildcardSni(parent) => Some(wildcard_key(parent)),
            _ => None,
        }
    }

    /// Whether it can hold where there is no ClientHello, so no name and no protocols, whoever the client is.
    pub(super) fn holds_without_tls(&self) -> bool {
        match self {
            Self::Any | Self::ClientIp(_) => true,
            Self::HostSniRegexp(pattern) => pattern.is_match(""),
            Self::HostSni(_) | Self::WildcardSni(_) | Self::Alpn(_) => false,
        }
    }

    /// Why the name it asks for is none that clients send.
    pub(super) fn odd_name(&self) -> Option<OddName> {
        let (Self::HostSni(name) | Self::WildcardSni(name)) = self else {
            return None;
        };
        if name.parse::<IpAddr>().is_ok() {
            Some(OddName::Address)
        } else if name.contains(':') {
            Some(OddName::Port)
        } else {
            name.split('.').any(str::is_empty).then_some(OddName::EmptyLabel)
        }
    }

    /// Why the matcher did not say `wanted`.
    fn refusal(&self, connection: &ConnectionMeta<'_>, wanted: bool) -> Refusal {
        let seen = match self {
            Self::Any | Self::HostSni(_) | Self::WildcardSni(_) | Self::HostSniRegexp(_) => {
                match (connection.tls, connection.server_name) {
                    (false, _) => "no TLS, so no server name".to_owned(),
                    (true, "") => "no server name".to_owned(),
                    (true, name) => format!("server name {name:?}"),
                }
            }
            Self::Alpn(_) => match protocols(connection.alpn) {
                offered if offered.is_empty() => "no protocols".to_owned(),
                offered => format!("protocols {offered:?}"),
            },
            Self::ClientIp(_) => format!("client {}", connection.client),
        };
        Refusal {
            matcher: format!("{}{self}", if wanted { "" } else { "!" }),
            seen,
        }
    }
}

/// The protocols of a ClientHello as text.
pub(crate) fn protocols(alpn: &[&[u8]]) -> Vec<String> {
    alpn.iter()
        .map(|protocol| crate::text::lossy(protocol).into_owned())
        .collect()
}

impl std::fmt::Display for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("HostSNI(`*`)"),
            Self::HostSni(name) => write!(f, "HostSNI(`{name}`)"),
            Self::WildcardSni(parent) => write!(f, "HostSNI(`*.{parent}`)"),
            Self::HostSniRegexp(pattern) => write!(f, "HostSNIRegexp(`{pattern}`)"),
            Self::Alpn(protocol) => write!(f, "ALPN(`{protocol}`)"),
            Self::ClientIp(network) => write!(f, "ClientIP(`{network}`)"),
        }
    }
}
