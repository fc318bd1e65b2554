//! What is accepted, as Traefik accepts it, but can't mean what its author wants: matchers that match nothing.

use super::http::Matcher;
use super::{Rule, TcpRule, tcp};

impl Rule {
    /// Words for the operator about matchers that no request can satisfy, or that v3 reads differently from v2.
    /// Computed on each call.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        self.expression.each(&mut |matcher| {
            if let Some(remark) = remark(matcher) {
                remarks.push(format!("{matcher}: {remark}"));
            }
        });
        remarks
    }
}

impl TcpRule {
    /// The same for the rule of a TCP router, which has `tls` or not. That a rule needs it is
    /// [`TcpRule::needs_tls`]'s to say.
    pub fn remarks(&self, tls: bool) -> Vec<String> {
        let mut remarks = Vec::new();
        self.expression.any_signed(&mut |matcher, positive| {
            if let Some(remark) = stream_remark(matcher, positive, tls) {
                let not = if positive { "" } else { "!" };
                remarks.push(format!("{not}{matcher}: {remark}"));
            }
            false
        });
        remarks
    }
}

fn stream_remark(matcher: &tcp::Matcher, positive: bool, tls: bool) -> Option<&'static str> {
    if !tls && !matcher.holds_without_tls() {
        return Some(if positive {
            "only a ClientHello has this, and a router without `tls` never sees one: it never matches; add `tls`, \
             with `passthrough: true` where the back end has the certificate"
        } else {
            "only a ClientHello has this, and a router without `tls` never sees one: it always matches"
        });
    }
    match matcher {
        tcp::Matcher::Any if !positive => Some("no connection satisfies this"),
        tcp::Matcher::HostSniRegexp(pattern) if asks_for_upper_case(&pattern.to_string()) => Some(
            "server names are compared in lower case; write the pattern in lower case, or start it with (?i)",
        ),
        tcp::Matcher::Alpn(protocol)
            if ["h2", "http/1.1"]
                .iter()
                .any(|known| **known != **protocol && known.eq_ignore_ascii_case(protocol)) =>
        {
            Some("protocols are compared as they are written, and this one is in lower case")
        }
        _ => matcher.odd_name().map(|odd| match odd {
            tcp::OddName::Address => "clients send no server name for an address",
            tcp::OddName::Port => "no server name has a port; leave it out",
            tcp::OddName::EmptyLabel => "no server name has an empty label",
        }),
    }
}

fn remark(matcher: &Matcher) -> Option<&'static str> {
    match matcher {
        Matcher::Host(name) if name.starts_with('[') => {
            Some("an IPv6 address stands without brackets, as in Host(`::1`)")
        }
        Matcher::Host(name) if name.contains(':') && name.parse::<std::net::Ipv6Addr>().is_err() => {
            Some("the port of a request is not compared, so a name with a port never matches; leave it out")
        }
        Matcher::Host(name) if name.contains(char::is_whitespace) => Some("no host contains a blank"),
        Matcher::Host(name) | Matcher::NoHost(name) if name.contains('*') => {
            Some("`*` stands for a name only as the whole first label, as in Host(`*.example.com`)")
        }
        Matcher::HostRegexp(pattern) if asks_for_upper_case(&pattern.to_string()) => {
            Some("hosts are compared in lower case; write the pattern in lower case, or start it with (?i)")
        }
        Matcher::Path(path) => path_remark(path, path),
        // Whatever follows the prefix: a dot at its end may begin a longer name.
        Matcher::PathPrefix(prefix) => path_remark(prefix, &format!("{prefix}x")),
        Matcher::Header(header) if header.never_there() => Some(
            "rules see no header of this name (`Host` and `Transfer-Encoding` are not among them); for the host write Host",
        ),
        Matcher::HeaderRegexp(header) if header.never_there() => Some(
            "rules see no header of this name (`Host` and `Transfer-Encoding` are not among them); for the host write HostRegexp",
        ),
        _ => None,
    }
}

/// `sample` is a path that the matcher should accept.
fn path_remark(path: &str, sample: &str) -> Option<&'static str> {
    let named = path
        .split('{')
        .skip(1)
        .any(|rest| rest.contains('}') && rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'));
    if named {
        return Some("v3 reads braces literally; for a pattern write PathRegexp");
    }
    if path.contains('?') {
        return Some("the query is not part of the path; match it with Query");
    }
    let normal = crate::path::normalise(sample).ok()?;
    if *normal.routing == *sample {
        return None;
    }
    Some(if path.contains('%') {
        "paths are compared with escapes decoded, and upper case where they are kept, as in `/a b` and `%2F`"
    } else {
        "paths are compared without empty and dot segments, so this never matches"
    })
}

/// A literal upper-case letter in a pattern simple enough to be sure: no flags, names, classes or quoting that could
/// give the letter another meaning.
fn asks_for_upper_case(pattern: &str) -> bool {
    let mut escaped = false;
    let mut found = false;
    for c in pattern.chars() {
        found |= !escaped && c.is_ascii_uppercase();
        escaped = c == '\\' && !escaped;
    }
    found
        && !["(?", "[", "\\Q", "\\p", "\\P"]
            .iter()
            .any(|special| pattern.contains(special))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remarkable() {
        for (text, part) in [
            ("Host(`a.test:80`)", "port"),
            ("Host(`[::1]`)", "brackets"),
            ("Host(` a.test`)", "blank"),
            ("Host(`a.*.test`)", "first label"),
            ("Host(`*a.test`)", "first label"),
            ("HostRegexp(`^A\\.test$`)", "lower case"),
            ("Path(`/users/{id}`)", "PathRegexp"),
            ("PathPrefix(`/a?b`)", "Query"),
            ("Path(`/a%20b`)", "decoded"),
            ("Path(`/a%2fb`)", "upper case"),
            ("Path(`/a//b`)", "never matches"),
            ("Path(`/a/.`)", "never matches"),
            ("PathPrefix(`/a//`)", "never matches"),
            ("Path(`/a/../b`)", "never matches"),
            ("Header(`Host`, `a`)", "write Host"),
            (
                "Header(`Transfer-Encoding`, `chunked`)",
                "`Transfer-Encoding` are not among them",
            ),
            ("HeaderRegexp(`Host`, `a`)", "write HostRegexp"),
            (
                "Path(`/`) && !(Method(`GET`) || Host(`a:1`))",
                "Host(`a:1`): the port",
            ),
        ] {
            let remarks = Rule::parse_http(text).unwrap().remarks();
            assert!(
                remarks.iter().any(|remark| remark.contains(part)),
                "{text}: {remarks:?}"
            );
        }
    }

    #[test]
    fn unremarkable() {
        for text in [
            "Host(`a.test`)",
            "Host(`*.a.test`)",
            "Host(`*`)",
            "Host(`::1`)",
            r"HostRegexp(`^\D+\.test$`)",
            "HostRegexp(`(?i)^A`)",
            "Path(`/a b`)",
            "Path(`/ü`)",
            "Path(`/a%2Fb`)",
            "PathPrefix(`/a/`)",
            "PathPrefix(`/.well-known/`)",
            "PathPrefix(`/a/.`)",
            "Path(`/a.b/c..d`)",
            "Header(`X-A`, `b`)",
        ] {
            assert_eq!(
                Rule::parse_http(text).unwrap().remarks(),
                Vec::<String>::new(),
                "{text}"
            );
        }
    }

    #[test]
    fn remarkable_streams() {
        for (text, tls, part) in [
            ("HostSNI(`a.test:443`)", true, "a port"),
            ("HostSNI(`127.0.0.1`)", true, "for an address"),
            ("HostSNI(`::1`)", true, "for an address"),
            ("HostSNI(`a..test`)", true, "empty label"),
            ("HostSNI(`.`)", true, "empty label"),
            ("HostSNI(`*.a.test..`)", true, "empty label"),
            ("HostSNIRegexp(`^A`)", true, "lower case"),
            ("ALPN(`H2`)", true, "lower case"),
            ("!HostSNI(`*`)", true, "!HostSNI(`*`): no connection"),
            ("!(HostSNI(`*`) && ALPN(`h2`))", false, "no connection"),
            (
                "HostSNI(`*`) || HostSNI(`a`)",
                false,
                "HostSNI(`a`): only a ClientHello has this",
            ),
            ("HostSNI(`*`) && ALPN(`h2`)", false, "it never matches; add `tls`"),
            ("HostSNI(`*`) && !ALPN(`h2`)", false, "it always matches"),
            ("HostSNIRegexp(`^a`)", false, "it never matches"),
        ] {
            let remarks = TcpRule::parse(text).unwrap().remarks(tls);
            assert!(
                remarks.iter().any(|remark| remark.contains(part)),
                "{text}: {remarks:?}"
            );
        }
    }

    #[test]
    fn unremarkable_streams() {
        for (text, tls) in [
            ("HostSNI(`*`)", false),
            ("HostSNI(`*`)", true),
            ("ClientIP(`10.0.0.0/8`)", false),
            ("HostSNIRegexp(`.*`)", false),
            ("HostSNI(`a.test.`)", true),
            ("HostSNI(`*.a.test`)", true),
            ("HostSNI(`a_b.test`) && ALPN(`h2`, )", true),
            ("!HostSNI(`a.test`)", true),
            ("HostSNIRegexp(`(?i)^A`)", true),
        ] {
            assert_eq!(
                TcpRule::parse(text).unwrap().remarks(tls),
                Vec::<String>::new(),
                "{text}"
            );
        }
    }
}
