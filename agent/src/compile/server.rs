//! Server URLs and what is known of a server, to endpoints.

use std::sync::Arc;

use constellation_config::dynamic::Server;
use constellation_table::{Condition, EndpointSpec, Scheme};

use crate::sources::ServerOrigin;

/// Heaviest weight that the balancer's schedule takes.
const MAX_WEIGHT: u32 = 1_000_000;

/// The endpoint that `server` describes.
pub(crate) fn endpoint(server: &Server, origin: Option<&ServerOrigin>) -> Result<EndpointSpec, String> {
    let url = parse(&server.url)?;
    let weight = server.weight.unwrap_or(1);
    if weight > MAX_WEIGHT {
        return Err(format!(
            "server {:?}: weight {weight} is out of range: write 0 to {MAX_WEIGHT}",
            server.url
        ));
    }
    Ok(EndpointSpec {
        name: origin.map_or_else(|| Arc::from(server.url.as_str()), |o| o.name.clone()),
        scheme: url.scheme,
        host: url.host.into(),
        port: url.port,
        base_path: if server.preserve_path {
            url.path.trim_end_matches('/').into()
        } else {
            "".into()
        },
        weight,
        condition: origin.map_or(Condition::Ready, |o| o.condition.clone()),
        url_as_written: server.url.as_str().into(),
        locality: Default::default(),
        peer: None,
    })
}

struct Url<'a> {
    scheme: Scheme,
    host: &'a str,
    port: u16,
    path: &'a str,
}

/// `scheme://host[:port][/path]`; nothing else means anything for a server.
fn parse(text: &str) -> Result<Url<'_>, String> {
    let refuse = |what: &str| {
        Err(format!(
            "server url {text:?}: {what}; expected http://HOST:PORT, https://HOST:PORT or h2c://HOST:PORT"
        ))
    };
    let Some((scheme, rest)) = text.split_once("://") else {
        return refuse("it has no scheme");
    };
    let (scheme, default_port) = match scheme.to_ascii_lowercase().as_str() {
        "http" => (Scheme::Http, 80),
        "https" => (Scheme::Https, 443),
        "h2c" => (Scheme::H2c, 80),
        other => return refuse(&format!("the scheme {other:?} is not served")),
    };
    let (authority, path) = rest
        .find(['/', '?', '#'])
        .map_or((rest, ""), |end| rest.split_at(end));
    if path.contains(['?', '#']) {
        return refuse("a query or a fragment has no meaning here");
    }
    if authority.contains('@') {
        return refuse("a user name has no meaning here");
    }
    let (host, port) = if let Some(bracketed) = authority.strip_prefix('[') {
        let Some((address, port)) = bracketed.split_once(']') else {
            return refuse("the bracket of the IPv6 address is not closed");
        };
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return refuse("the brackets hold no IPv6 address");
        }
        match port.strip_prefix(':') {
            None if !port.is_empty() => return refuse("something other than a port follows the address"),
            port => (address, port),
        }
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    if host.is_empty() {
        return refuse("it has no host");
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':');
    if !host.bytes().all(allowed) {
        return refuse("the host holds a character that no host name has");
    }
    let port = match port {
        None | Some("") => default_port,
        Some(digits) => match digits.parse::<u16>() {
            Ok(port) if port > 0 && digits.bytes().all(|b| b.is_ascii_digit()) => port,
            _ => return refuse("the port is not a number from 1 to 65535"),
        },
    };
    Ok(Url {
        scheme,
        host,
        port,
        path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Server {
        Server {
            url: url.to_owned(),
            ..Server::default()
        }
    }

    #[test]
    fn urls_that_servers_may_have() {
        for (url, scheme, host, port) in [
            ("http://10.0.0.1:8080", Scheme::Http, "10.0.0.1", 8080),
            ("http://back.end", Scheme::Http, "back.end", 80),
            ("HTTPS://back.end/", Scheme::Https, "back.end", 443),
            ("h2c://my_service:50051", Scheme::H2c, "my_service", 50051),
            ("http://[::1]:81/x", Scheme::Http, "::1", 81),
            ("https://[fd00::2]", Scheme::Https, "fd00::2", 443),
            ("http://back.end:/", Scheme::Http, "back.end", 80),
        ] {
            let spec = endpoint(&server(url), None).unwrap();
            assert_eq!(
                (spec.scheme, &*spec.host, spec.port),
                (scheme, host, port),
                "{url}"
            );
            assert_eq!(&*spec.name, url);
            assert_eq!(&*spec.base_path, "", "{url}");
            assert_eq!(spec.condition, Condition::Ready);
        }
    }

    #[test]
    fn urls_that_are_refused_say_which_part_is_wrong() {
        for (url, part) in [
            ("", "no scheme"),
            ("127.0.0.1:80", "no scheme"),
            ("gopher://x", "\"gopher\""),
            ("http://", "no host"),
            ("http://:80", "no host"),
            ("http://a:0", "port"),
            ("http://a:65536", "port"),
            ("http://a:+80", "port"),
            ("http://a:x", "port"),
            ("http://u:p@a", "user name"),
            ("http://a/?q", "query"),
            ("http://a#f", "fragment"),
            ("http://[::1", "not closed"),
            ("http://[a]:80", "no IPv6"),
            ("http://[::1]80", "follows the address"),
            ("http://a b", "character"),
            ("http://fd00::2/", "port"),
        ] {
            let error = endpoint(&server(url), None).unwrap_err();
            assert!(error.contains(part), "{url}: {error}");
            assert!(error.contains("expected http://"), "{url}: {error}");
        }
    }

    #[test]
    fn a_path_stays_only_when_asked_for() {
        let mut preserving = server("http://a/base/");
        preserving.preserve_path = true;
        assert_eq!(&*endpoint(&preserving, None).unwrap().base_path, "/base");
        assert_eq!(&*endpoint(&server("http://a/base/"), None).unwrap().base_path, "");
    }

    #[test]
    fn weight_defaults_to_one_and_is_bounded() {
        assert_eq!(endpoint(&server("http://a"), None).unwrap().weight, 1);
        let weighted = |weight| {
            let mut server = server("http://a");
            server.weight = Some(weight);
            endpoint(&server, None)
        };
        assert_eq!(weighted(0).unwrap().weight, 0);
        assert!(weighted(MAX_WEIGHT).is_ok());
        assert!(weighted(MAX_WEIGHT + 1).unwrap_err().contains("out of range"));
    }

    #[test]
    fn an_origin_names_the_endpoint_and_says_whether_it_serves() {
        let origin = ServerOrigin {
            name: "web-1".into(),
            condition: Condition::Unavailable("container exited (137)".into()),
        };
        let spec = endpoint(&server("http://a"), Some(&origin)).unwrap();
        assert_eq!(&*spec.name, "web-1");
        assert_eq!(spec.condition, origin.condition);
    }
}
