//! The HTTP matchers: what each one accepts as argument and what it says of a request.

use std::net::IpAddr;

use http::header::{HOST, HeaderName, TRANSFER_ENCODING};
use ipnet::IpNet;

use super::RuleError;
use super::keys::{HostKey, exact_key, wildcard_key};
use super::parser::{Argument, Call};
use super::regexp::{self, Pattern};
use crate::RequestMeta;
use crate::query;
use crate::text::lossy;

/// One compiled matcher.
#[derive(Debug)]
pub(crate) enum Matcher {
    /// `Host("*")`.
    AnyHost,
    /// The name, lower case, as written (with or without a trailing dot).
    Host(Box<str>),
    /// What follows the first label of the name, without the dot.
    WildcardHost(Box<str>),
    /// A name that begins with `*` and goes on as none does (`*foo.test`, `**.test`): no host has it, not even one of
    /// these very letters.
    NoHost(Box<str>),
    HostRegexp(Pattern),
    Path(Box<str>),
    PathPrefix(Box<str>),
    PathRegexp(Pattern),
    /// Upper case.
    Method(Box<str>),
    Header(Box<HeaderTest<Box<str>>>),
    HeaderRegexp(Box<HeaderTest<Pattern>>),
    /// Key and value.
    Query(Box<(Box<str>, Box<str>)>),
    QueryRegexp(Box<(Box<str>, Pattern)>),
    ClientIp(Box<IpNet>),
}

/// A header's name and what is asked of one of its lines.
#[derive(Debug)]
pub(crate) struct HeaderTest<T> {
    /// As written.
    written: Box<str>,
    /// `None` when no request can carry such a header among its fields (`Host`, a name with a space).
    name: Option<HeaderName>,
    test: T,
}

/// Why a matcher said no (or yes under a `!`), for `explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The matcher in v3 syntax, with `!` in front when its match is what hurt.
    pub(crate) matcher: String,
    /// What the request had there.
    pub(crate) seen: String,
}

const NAMES: [&str; 11] = [
    "ClientIP",
    "Header",
    "HeaderRegexp",
    "Host",
    "HostRegexp",
    "Method",
    "Path",
    "PathPrefix",
    "PathRegexp",
    "Query",
    "QueryRegexp",
];

/// Compiles one call.
pub(super) fn compile(call: &Call<'_>) -> Result<Matcher, RuleError> {
    let name =
        super::hint::resolve(call.name, &NAMES).map_err(|message| RuleError::new(call.offset, message))?;
    let arity = match name {
        "Header" | "HeaderRegexp" => 2..=2,
        "Query" | "QueryRegexp" => 1..=2,
        _ => 1..=1,
    };
    if !arity.contains(&call.args.len()) {
        return Err(RuleError::new(
            call.offset,
            super::hint::arity(name, &arity, call),
        ));
    }
    if let Some(empty) = call.args.iter().find(|argument| argument.value.is_empty()) {
        return Err(RuleError::new(
            empty.offset,
            format!("an argument of `{name}` is empty; every argument needs a value"),
        ));
    }
    let (Some(first), second) = (call.args.first(), call.args.get(1)) else {
        return Err(RuleError::new(call.offset, format!("`{name}` has no argument")));
    };
    Ok(match (name, second) {
        ("Host", _) => host(first)?,
        ("HostRegexp", _) => {
            ascii(name, first)?;
            super::hint::braces("HostRegexp", first)?;
            Matcher::HostRegexp(regexp::compile(first)?)
        }
        ("Path", _) => Matcher::Path(absolute(name, first)?),
        ("PathPrefix", _) => Matcher::PathPrefix(absolute(name, first)?),
        ("PathRegexp", _) => Matcher::PathRegexp(regexp::compile(first)?),
        ("Method", _) => Matcher::Method(first.value.to_uppercase().into()),
        ("Header", Some(value)) => Matcher::Header(Box::new(header(first, value.value.as_str().into()))),
        ("HeaderRegexp", Some(pattern)) => {
            Matcher::HeaderRegexp(Box::new(header(first, regexp::compile(pattern)?)))
        }
        ("QueryRegexp", Some(pattern)) => {
            Matcher::QueryRegexp(Box::new((first.value.as_str().into(), regexp::compile(pattern)?)))
        }
        ("Query" | "QueryRegexp", value) => {
            let value = value.map(|argument| argument.value.as_str()).unwrap_or_default();
            Matcher::Query(Box::new((first.value.as_str().into(), value.into())))
        }
        ("ClientIP", _) => Matcher::ClientIp(Box::new(network(first)?)),
        _ => {
            return Err(RuleError::new(
                call.offset,
                format!("`{name}` is not usable in an HTTP rule"),
            ));
        }
    })
}

pub(super) fn ascii(name: &str, argument: &Argument) -> Result<(), RuleError> {
    if argument.value.is_ascii() {
        return Ok(());
    }
    Err(RuleError::new(
        argument.offset,
        format!(
            "{:?} in `{name}` is not ASCII; write an international name in its punycode form (xn--...)",
            argument.value
        ),
    ))
}

fn host(argument: &Argument) -> Result<Matcher, RuleError> {
    ascii("Host", argument)?;
    super::hint::braces("HostRegexp", argument)?;
    let name = argument.value.to_ascii_lowercase();
    Ok(match name.strip_prefix('*') {
        None => Matcher::Host(name.into()),
        Some("") => Matcher::AnyHost,
        Some(rest) => match rest.strip_prefix('.') {
            Some(parent) => Matcher::WildcardHost(parent.into()),
            None => Matcher::NoHost(name.into()),
        },
    })
}

fn absolute(name: &str, argument: &Argument) -> Result<Box<str>, RuleError> {
    if argument.value.starts_with('/') {
        return Ok(argument.value.as_str().into());
    }
    Err(RuleError::new(
        argument.offset,
        format!(
            "the path {:?} in `{name}` does not start with `/`",
            argument.value
        ),
    ))
}

fn header<T>(name: &Argument, test: T) -> HeaderTest<T> {
    // Go keeps these two out of the header map, so no rule ever sees them there.
    let parsed = name
        .value
        .parse()
        .ok()
        .filter(|name| *name != HOST && *name != TRANSFER_ENCODING);
    HeaderTest {
        written: name.value.as_str().into(),
        name: parsed,
        test,
    }
}

pub(super) fn network(argument: &Argument) -> Result<IpNet, RuleError> {
    let text = argument.value.as_str();
    let parsed = match text.parse::<IpAddr>() {
        Ok(address) => Some(IpNet::from(address.to_canonical())),
        Err(_) => text.parse::<IpNet>().ok().map(canonical_network),
    };
    parsed.ok_or_else(|| {
        RuleError::new(
            argument.offset,
            format!("{text:?} in `ClientIP` is neither an IP address nor a network such as 10.0.0.0/8"),
        )
    })
}

/// An IPv4-mapped IPv6 network is the IPv4 network inside of it.
fn canonical_network(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    match (v6.network().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) {
        (Some(address), Some(bits)) => ipnet::Ipv4Net::new(address, bits).map_or(network, IpNet::V4),
        _ => network,
    }
}

impl Matcher {
    /// What the matcher says of the request.
    pub(super) fn matches(&self, request: &RequestMeta<'_>) -> bool {
        match self {
            Self::AnyHost => true,
            Self::Host(name) => same_host(name, request.host),
            Self::WildcardHost(parent) => is_below(parent, request.host),
            Self::NoHost(_) => false,
            Self::HostRegexp(pattern) => pattern.is_match(request.host),
            Self::Path(path) => **path == *request.path,
            Self::PathPrefix(prefix) => request.path.starts_with(&**prefix),
            Self::PathRegexp(pattern) => pattern.is_match(request.path),
            Self::Method(method) => **method == *request.method,
            Self::Header(header) => header.any_line(request, |line| line == header.test.as_bytes()),
            Self::HeaderRegexp(header) => header.any_line(request, |line| header.test.is_match(&lossy(line))),
            Self::Query(query) => {
                query::any_value(request.query, &query.0, |value| value == query.1.as_bytes())
            }
            Self::QueryRegexp(query) => {
                query::any_value(request.query, &query.0, |value| query.1.is_match(&lossy(value)))
            }
            Self::ClientIp(network) => network.contains(&request.client.to_canonical()),
        }
    }

    /// Whether it is a `Host` that names this host, exactly or by its first label being any.
    pub(super) fn names(&self, host: &str) -> bool {
        match self {
            Self::Host(name) => same_host(name, host),
            Self::WildcardHost(parent) => is_below(parent, host),
            _ => false,
        }
    }

    /// Where the index files it; `None`: it may hold under any host.
    pub(super) fn key(&self) -> Option<HostKey> {
        match self {
            Self::Host(name) => Some(exact_key(name)),
            // The index looks for those by what is behind the first dot, which these names don't have.
            Self::WildcardHost(parent) if parent.trim_end_matches('.').is_empty() => None,
            Self::WildcardHost(parent) => Some(wildcard_key(parent)),
            _ => None,
        }
    }

    /// The name of an exact `Host`, without a trailing dot.
    pub(super) fn exact_host(&self) -> Option<&str> {
        match self {
            Self::Host(name) => Some(name.strip_suffix('.').unwrap_or(name)),
            _ => None,
        }
    }

    /// The name of a `Host` for one label below a parent, without a trailing dot.
    pub(super) fn wildcard_host(&self) -> Option<String> {
        match self {
            Self::WildcardHost(parent) => Some(format!("*.{}", parent.strip_suffix('.').unwrap_or(parent))),
            _ => None,
        }
    }

    /// Why the matcher did not say `wanted`.
    pub(super) fn refusal(&self, request: &RequestMeta<'_>, wanted: bool) -> Refusal {
        let seen = match self {
            Self::AnyHost | Self::Host(_) | Self::WildcardHost(_) | Self::NoHost(_) | Self::HostRegexp(_) => {
                format!("host {:?}", request.host)
            }
            Self::Path(_) | Self::PathPrefix(_) | Self::PathRegexp(_) => format!("path {:?}", request.path),
            Self::Method(_) => format!("method {:?}", request.method),
            Self::Header(header) => header.seen(request),
            Self::HeaderRegexp(header) => header.seen(request),
            Self::Query(query) => seen_in_query(request, &query.0),
            Self::QueryRegexp(query) => seen_in_query(request, &query.0),
            Self::ClientIp(_) => format!("client {}", request.client),
        };
        Refusal {
            matcher: format!("{}{self}", if wanted { "" } else { "!" }),
            seen,
        }
    }
}

/// Equal but for one trailing dot on either side. Both are lower case.
fn same_host(written: &str, seen: &str) -> bool {
    written == seen || written.strip_suffix('.') == Some(seen) || seen.strip_suffix('.') == Some(written)
}

/// Whether `host` is one label and then `parent`.
fn is_below(parent: &str, host: &str) -> bool {
    // A name without a dot is one label, with nothing behind it.
    let (_, rest) = host.split_once('.').unwrap_or((host, ""));
    same_host(parent, rest)
}

impl<T> HeaderTest<T> {
    /// Whether no request can have such a header.
    pub(super) fn never_there(&self) -> bool {
        self.name.is_none()
    }

    fn any_line(&self, request: &RequestMeta<'_>, test: impl Fn(&[u8]) -> bool) -> bool {
        let Some(name) = &self.name else { return false };
        request
            .headers
            .get_all(name)
            .iter()
            .any(|line| test(line.as_bytes()))
    }

    fn seen(&self, request: &RequestMeta<'_>) -> String {
        let lines: Vec<_> = self
            .name
            .iter()
            .flat_map(|name| request.headers.get_all(name))
            .collect();
        match lines.as_slice() {
            [] => format!("no header {}", self.written),
            lines => format!("header {} {lines:?}", self.written),
        }
    }
}

fn seen_in_query(request: &RequestMeta<'_>, key: &str) -> String {
    let mut values = Vec::new();
    query::any_value(request.query, key, |value| {
        values.push(lossy(value).into_owned());
        false
    });
    match values.as_slice() {
        [] => format!("no query parameter {key:?}"),
        values => format!("query parameter {key:?} {values:?}"),
    }
}

impl std::fmt::Display for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AnyHost => f.write_str("Host(`*`)"),
            Self::Host(name) | Self::NoHost(name) => write!(f, "Host(`{name}`)"),
            Self::WildcardHost(parent) => write!(f, "Host(`*.{parent}`)"),
            Self::HostRegexp(pattern) => write!(f, "HostRegexp(`{pattern}`)"),
            Self::Path(path) => write!(f, "Path(`{path}`)"),
            Self::PathPrefix(prefix) => write!(f, "PathPrefix(`{prefix}`)"),
            Self::PathRegexp(pattern) => write!(f, "PathRegexp(`{pattern}`)"),
            Self::Method(method) => write!(f, "Method(`{method}`)"),
            Self::Header(header) => write!(f, "Header(`{}`, `{}`)", header.written, header.test),
            Self::HeaderRegexp(header) => write!(f, "HeaderRegexp(`{}`, `{}`)", header.written, header.test),
            Self::Query(query) if query.1.is_empty() => write!(f, "Query(`{}`)", query.0),
            Self::Query(query) => write!(f, "Query(`{}`, `{}`)", query.0, query.1),
            Self::QueryRegexp(query) => write!(f, "QueryRegexp(`{}`, `{}`)", query.0, query.1),
            Self::ClientIp(network) => write!(f, "ClientIP(`{network}`)"),
        }
    }
}
