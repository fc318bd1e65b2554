//! Rules: a tree of matchers, its text in one of many spellings, and requests that fit it.

use fastrand::Rng;

use super::pattern::{Pattern, pattern};
use super::vocabulary::{
    ARGUMENTS, HEADERS, HOSTS, KEYS, METHODS, NETWORKS, ODD_ARGUMENTS, ODD_HEADERS, ODD_HOSTS, ODD_KEYS,
    ODD_METHODS, ODD_NETWORKS, ODD_PATHS, ODD_VALUES, PATHS, VALUES, chance, either, pick,
};
use crate::differential::site;

/// A rule.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Matcher(Matcher),
    Not(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
}

/// A matcher with its arguments, and what a request has to have for it.
#[derive(Clone, Debug)]
pub(super) struct Matcher {
    name: &'static str,
    arguments: Vec<String>,
    wish: Wish,
}

/// What a matcher asks of a request.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    Host(String),
    Path(String),
    Method(String),
    Header(String, String),
    Query(String, String),
    Client(u8),
}

/// Makes rules from some words only, so that rules of one case meet in the same requests.
#[derive(Clone, Debug)]
pub(super) struct Maker {
    hosts: Vec<&'static str>,
    paths: Vec<&'static str>,
    /// Third byte of the addresses of this run.
    site: u8,
}

impl Maker {
    /// Chooses the words of a case.
    pub(super) fn new(rng: &mut Rng, site: u8) -> Self {
        Self {
            hosts: (0..3).map(|_| either(rng, 15, HOSTS, ODD_HOSTS)).collect(),
            paths: (0..4).map(|_| either(rng, 30, PATHS, ODD_PATHS)).collect(),
            site,
        }
    }

    /// A rule of at most so many levels.
    pub(super) fn rule(&self, rng: &mut Rng, depth: usize) -> Node {
        if depth == 0 || chance(rng, 40) {
            return Node::Matcher(self.matcher(rng));
        }
        match rng.u8(..10) {
            0 => Node::Not(Box::new(self.rule(rng, depth - 1))),
            1..=6 => Node::And(
                Box::new(self.rule(rng, depth - 1)),
                Box::new(self.rule(rng, depth - 1)),
            ),
            _ => Node::Or(
                Box::new(self.rule(rng, depth - 1)),
                Box::new(self.rule(rng, depth - 1)),
            ),
        }
    }

    fn matcher(&self, rng: &mut Rng) -> Matcher {
        let matcher = |name, arguments: &[&str], wish| Matcher {
            name,
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            wish,
        };
        match rng.u8(..20) {
            0..=4 => {
                let host = pick(rng, &self.hosts);
                matcher("Host", &[host], Wish::Host(named(rng, host)))
            }
            5 => {
                let Pattern { expression, sample } = pattern(rng, &self.hosts);
                matcher("HostRegexp", &[&expression], Wish::Host(sample))
            }
            6..=8 => {
                let path = pick(rng, &self.paths);
                matcher("PathPrefix", &[path], Wish::Path(path.to_owned()))
            }
            9..=10 => {
                let path = pick(rng, &self.paths);
                matcher("Path", &[path], Wish::Path(path.to_owned()))
            }
            11 => {
                let Pattern { expression, sample } = pattern(rng, &self.paths);
                matcher("PathRegexp", &[&expression], Wish::Path(sample))
            }
            12 => {
                let method = either(rng, 20, METHODS, ODD_METHODS);
                matcher("Method", &[method], Wish::Method(method.to_ascii_uppercase()))
            }
            13..=14 => {
                let name = either(rng, 20, HEADERS, ODD_HEADERS);
                let value = either(rng, 25, VALUES, ODD_VALUES);
                matcher("Header", &[name, value], Wish::Header(name.into(), value.into()))
            }
            15 => {
                let name = either(rng, 20, HEADERS, ODD_HEADERS);
                let Pattern { expression, sample } = pattern(rng, VALUES);
                matcher(
                    "HeaderRegexp",
                    &[name, &expression],
                    Wish::Header(name.into(), sample),
                )
            }
            16 => {
                let key = either(rng, 20, KEYS, ODD_KEYS);
                let value = either(rng, 25, ARGUMENTS, ODD_ARGUMENTS);
                if chance(rng, 20) {
                    matcher("Query", &[key], Wish::Query(key.into(), String::new()))
                } else {
                    matcher("Query", &[key, value], Wish::Query(key.into(), value.into()))
                }
            }
            17 => {
                let key = either(rng, 20, KEYS, ODD_KEYS);
                if chance(rng, 10) {
                    return matcher("QueryRegexp", &[key], Wish::Query(key.into(), String::new()));
                }
                let Pattern { expression, sample } = pattern(rng, ARGUMENTS);
                matcher(
                    "QueryRegexp",
                    &[key, &expression],
                    Wish::Query(key.into(), sample),
                )
            }
            _ => {
                let which = rng.u8(..2);
                let client = site::client(self.site, which).to_string();
                let network = match rng.u8(..4) {
                    0 => client,
                    1 => format!("{client}/32"),
                    2 => format!("{client}/31"),
                    _ => either(rng, 30, NETWORKS, ODD_NETWORKS).to_owned(),
                };
                matcher("ClientIP", &[&network], Wish::Client(which))
            }
        }
    }
}

/// A name that this argument of `Host` may stand for.
fn named(rng: &mut Rng, host: &str) -> String {
    let host = host.strip_prefix("*.").map_or_else(
        || host.to_owned(),
        |rest| format!("{}.{rest}", pick(rng, &["a", "x", "a.b", ""])),
    );
    match &*host {
        "*" => pick(rng, HOSTS).to_owned(),
        address if address.contains("::") && !address.starts_with('[') => format!("[{address}]"),
        _ => host,
    }
}

impl Node {
    /// What makes a request fit this rule, as far as anything does; with `want` false, what keeps it from fitting.
    pub(super) fn wishes<'n>(&'n self, rng: &mut Rng, want: bool, out: &mut Vec<&'n Wish>) {
        match self {
            Self::Matcher(matcher) if want => out.push(&matcher.wish),
            // What nobody asks for is not there, mostly.
            Self::Matcher(_) => {}
            Self::Not(inner) => inner.wishes(rng, !want, out),
            Self::And(left, right) if want => {
                left.wishes(rng, want, out);
                right.wishes(rng, want, out);
            }
            Self::Or(left, right) if !want => {
                left.wishes(rng, want, out);
                right.wishes(rng, want, out);
            }
            Self::And(left, right) | Self::Or(left, right) => {
                let one = if rng.bool() { left } else { right };
                one.wishes(rng, want, out);
            }
        }
    }

    /// The text in one spelling of many.
    pub(super) fn text(&self, rng: &mut Rng) -> String {
        self.spelled(rng, 0)
    }

    /// `binding`: how tightly what is around it binds.
    fn spelled(&self, rng: &mut Rng, binding: u8) -> String {
        let (own, text) = match self {
            Self::Matcher(matcher) => (3, matcher.text(rng)),
            Self::Not(inner) => {
                let inner = inner.spelled(rng, 2);
                (2, format!("!{}{inner}", space(rng, 5)))
            }
            Self::And(left, right) => {
                let (left, right) = (left.spelled(rng, 1), right.spelled(rng, 1));
                (1, format!("{left}{}&&{}{right}", before(rng), space(rng, 85)))
            }
            Self::Or(left, right) => {
                let (left, right) = (left.spelled(rng, 0), right.spelled(rng, 0));
                (0, format!("{left}{}||{}{right}", before(rng), space(rng, 85)))
            }
        };
        if own < binding || chance(rng, 8) {
            format!("({}{text})", space(rng, 10))
        } else {
            text
        }
    }
}

/// White space, this often.
fn space(rng: &mut Rng, percent: u8) -> &'static str {
    if !chance(rng, percent) {
        ""
    } else if chance(rng, 4) {
        pick(rng, &["  ", "\t", "\n", " \n "])
    } else {
        " "
    }
}

/// Before an operator no line may end in Traefik.
fn before(rng: &mut Rng) -> &'static str {
    let space = space(rng, 85);
    if space.contains('\n') { "" } else { space }
}

impl Matcher {
    fn text(&self, rng: &mut Rng) -> String {
        let name = match rng.u8(..60) {
            0 => self.name.to_ascii_lowercase(),
            1 => self.name.to_ascii_uppercase(),
            2 => {
                let lower = self.name[1..].to_ascii_lowercase();
                format!("{}{lower}", &self.name[..1])
            }
            3 if chance(rng, 30) => {
                let lower = self.name[..1].to_ascii_lowercase();
                format!("{lower}{}", &self.name[1..])
            }
            _ => self.name.to_owned(),
        };
        let mut arguments: Vec<String> = self
            .arguments
            .iter()
            .map(|argument| quoted(rng, argument))
            .collect();
        if chance(rng, 1) {
            arguments.push("`more`".to_owned());
        }
        if chance(rng, 1) {
            arguments.pop();
        }
        let comma = if chance(rng, 50) { ", " } else { "," };
        format!("{name}({})", arguments.join(comma))
    }
}

/// In backticks, or in double quotes with Go's escapes.
fn quoted(rng: &mut Rng, argument: &str) -> String {
    if !argument.contains('`') && chance(rng, 80) {
        return format!("`{argument}`");
    }
    let mut out = String::from("\"");
    for letter in argument.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '\t' => out += "\\t",
            '\u{7}' => out += "\\a",
            letter if chance(rng, 5) => match rng.u8(..3) {
                0 if letter.is_ascii() => out += &format!("\\x{:02x}", u32::from(letter)),
                1 if letter.is_ascii() => out += &format!("\\{:03o}", u32::from(letter)),
                _ if u32::from(letter) <= 0xFFFF => out += &format!("\\u{:04x}", u32::from(letter)),
                _ => out += &format!("\\U{:08X}", u32::from(letter)),
            },
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

/// Rules that are none, or look as if.
const ODD_RULES: &[&str] = &[
    "",
    " ",
    "Host(a.test)",
    "Host('a.test')",
    "Host('a')",
    "Host(`a.test`) and Path(`/`)",
    "Host(`a.test`) & Path(`/`)",
    "Host(`a.test`, `b.test`)",
    "Host()",
    "Host",
    "()",
    "!",
    "Host(`a.test`) ||",
    "&& Host(`a.test`)",
    "Foo(`a.test`)",
    "Host(\"a.test\\q\")",
    "!!Host(`a.test`)",
    "! ! PathPrefix(`/`)",
    "(Host(`a.test`))",
    "((PathPrefix(`/`)))",
    "Host (`a.test`)",
    "Host(`a.test`,)",
    "Host(`a.test`...)",
    "PathPrefix(`/`...,)",
    "Header(`X-A`..., `one`)",
    "Host( `a.test` )",
    "true",
    "Host(`a.test`) == true",
    "-Host(`a.test`)",
    "Host(`a.test`) // comment",
    "/* x */ PathPrefix(`/`)",
    "PathPrefix(`/`) /* x */",
    "Host(`a.test`) Path(`/`)",
    "Host(\"a\" + \".test\")",
    "x.Host(`a.test`)",
    "Host(`a.test`)(`b`)",
    "Host[`a.test`]",
    "Host(0x41)",
    "PathPrefix(`/`);",
    "PathPrefix(`/`); PathPrefix(`/`)",
    "Host:a.test",
    "PathPrefix:/",
    "Host(`a.test`) && (Path(`/`) || Path(`/api`)",
    "Host(`a.test`) && Path(`/`))",
    "Host(`{name:[a-z]+}.test`)",
    "HostRegexp(`{name:[a-z]+}.test`)",
    "Headers(`X-A`, `1`)",
    "Query(`q=1`)",
    "ClientIP(`127.0.0.0/8`, `10.0.0.0/8`)",
    "Method(`GET`, `POST`)",
    "PathPrefix(`/`, `/api`)",
    "HostSNI(`*`)",
    "ALPN(`h2`)",
    "PathPrefix(`/`) && true",
    "Host(`a.test`) ^ Host(`b.test`)",
    "PathPrefix(\n`/`)",
    "PathPrefix(`/`,\n)",
    "\n PathPrefix(`/`) \n",
    "PathPrefix(`/\n`)",
    "PathPrefix(\"/\n\")",
    "PathPrefix(`/`) &&\n Host(`a.test`)",
    "Host(`a.test`)...",
    "Host(`a.test`...)",
    "*PathPrefix(`/`)",
    "&PathPrefix(`/`)",
    "(PathPrefix)(`/`)",
    "PathPrefix(`/`) || Foo(`x`)",
    "PathPrefix((`/`))",
    "func() { PathPrefix(`/`) }",
    "PathPrefix(`/`)\u{a0}",
    "\u{feff}PathPrefix(`/`)",
    "pathprefix(`/`)",
    "PATHPREFIX(`/`)",
    "Pathprefix(`/`)",
    "pathPrefix(`/`)",
    "clientip(`127.0.0.0/8`)",
    "Clientip(`127.0.0.0/8`)",
    "ClientIp(`127.0.0.0/8`)",
    "HeaderRegexp(`X-A`)",
    "Header(`X-A`)",
    "QueryRegexp(`q`, `1`, `2`)",
    "Query()",
    "PathRegexp(``)",
    "HostRegexp(``)",
    "HeaderRegexp(`X-A`, ``)",
    "Query(`q`, ``)",
    "Path(`/`) && !Path(`/`)",
    "!Host(`a.test`)",
    "!PathPrefix(`/api`) && !Method(`POST`)",
];

/// A rule that is none, or looks as if.
pub(super) fn odd(rng: &mut Rng) -> &'static str {
    pick(rng, ODD_RULES)
}
