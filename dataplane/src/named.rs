//! Requests that name their service: what a proxy in front of this node sends, once it has done for the client what is to be
//! done ([`crate::settings::EntryPoint::by_service`]).
//!
//! The name is the first part of the path, in a form that no proxy rewrites: `/.constellation/web@docker/the/path`. What
//! follows is the path of the request.
//!
//! Streams name it as the server's name in TLS, which ends here: `db_40docker.tcp.constellation.internal`.

use std::fmt::Write as _;

/// What a path begins with that names a service.
const PREFIX: &str = "/.constellation/";
/// What a server's name ends with that names a service of streams.
const DOMAIN: &str = ".tcp.constellation.internal";
/// The names of all such services, as TLS options and certificates have it.
pub const WILDCARD: &str = "*.tcp.constellation.internal";
/// Longest label of a name (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;
/// Longest name of a service, bytes.
const MAX_NAME: usize = 1024;

/// The path that names a service.
pub fn path(service: &str) -> String {
    let mut path = String::with_capacity(PREFIX.len() + service.len());
    path.push_str(PREFIX);
    for byte in service.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte) {
            path.push(char::from(byte));
        } else {
            // Writing to a string can't fail.
            write!(path, "~{byte:02x}").unwrap_or_default();
        }
    }
    path
}

/// The service that a path names, and the rest, which begins with a slash unless it is empty. `None`: it names none.
pub fn split(path: &str) -> Option<(String, &str)> {
    let named = path.strip_prefix(PREFIX)?;
    let (name, rest) = named.find('/').map_or((named, ""), |end| named.split_at(end));
    if name.is_empty() || name.len() > 3 * MAX_NAME {
        return None;
    }
    let mut service = Vec::with_capacity(name.len());
    let mut bytes = name.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'~' {
            service.push(escaped(&mut bytes)?);
        } else {
            service.push(byte);
        }
    }
    let service = String::from_utf8(service)
        .ok()
        .filter(|service| service.len() <= MAX_NAME)?;
    Some((service, rest))
}

/// The byte of two hexadecimal digits.
fn escaped(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    let mut digit = || {
        char::from(bytes.next()?)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    Some(digit()? << 4 | digit()?)
}

/// The server's name that names a service of the section `tcp`, as in `db@docker`. `None`: it is too long for one.
pub fn host(service: &str) -> Option<String> {
    let mut host = String::with_capacity(MAX_LABEL + DOMAIN.len());
    for byte in service.bytes() {
        // Names are compared without their case.
        if byte.is_ascii_lowercase() || byte.is_ascii_digit() {
            host.push(char::from(byte));
        } else {
            // Writing to a string can't fail.
            write!(host, "_{byte:02x}").unwrap_or_default();
        }
    }
    (1..=MAX_LABEL).contains(&host.len()).then(|| host + DOMAIN)
}

/// The service that a server's name names. `None`: it names none.
pub fn from_host(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase();
    let label = name.strip_suffix(DOMAIN)?;
    if !(1..=MAX_LABEL).contains(&label.len()) {
        return None;
    }
    let mut service = Vec::with_capacity(label.len());
    let mut bytes = label.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'_' => service.push(escaped(&mut bytes)?),
            b'.' => return None,
            byte => service.push(byte),
        }
    }
    String::from_utf8(service).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_named_is_read_again() {
        for service in ["web@docker", "a b/c%~@file", "größe@docker", "."] {
            let path = path(service);
            assert!(path.is_ascii(), "{path}");
            assert_eq!(split(&path), Some((service.to_owned(), "")));
            let longer = format!("{path}/a//b");
            assert_eq!(split(&longer), Some((service.to_owned(), "/a//b")));
        }
    }

    #[test]
    fn what_was_named_to_tls_is_read_again() {
        for service in ["db@docker", "My-Stack_db@file", "größe@docker", "."] {
            let host = host(service).unwrap();
            assert!(
                rustls::pki_types::DnsName::try_from(host.as_str()).is_ok(),
                "{host}"
            );
            assert_eq!(from_host(&host), Some(service.to_owned()));
            assert_eq!(from_host(&host.to_ascii_uppercase()), Some(service.to_owned()));
        }
        assert_eq!(
            host("db@docker").unwrap(),
            "db_40docker.tcp.constellation.internal"
        );
        assert_eq!((host(""), host(&"a".repeat(64))), (None, None));
    }

    #[test]
    fn what_names_nothing_to_tls_is_told() {
        for name in [
            "db.test",
            ".tcp.constellation.internal",
            "tcp.constellation.internal",
            "a.b.tcp.constellation.internal",
            "a_4.tcp.constellation.internal",
            "a_zz.tcp.constellation.internal",
            "_ff.tcp.constellation.internal",
        ] {
            assert_eq!(from_host(name), None, "{name}");
        }
    }

    #[test]
    fn what_names_nothing_is_told() {
        let long = format!("/.constellation/{}", "a".repeat(1025));
        for path in [
            "/",
            "/web@docker",
            "/.constellation",
            "/.constellation/",
            "/.constellation//a",
            "/.constellation/a~",
            "/.constellation/a~4",
            "/.constellation/a~zz",
            "/.constellation/~ff",
            &long,
        ] {
            assert_eq!(split(path), None, "{path}");
        }
    }
}
