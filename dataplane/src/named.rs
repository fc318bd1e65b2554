//! Requests that name their service: what a proxy in front of this node sends, once it has done for the client what is to be
//! done ([`crate::settings::EntryPoint::by_service`]).
//!
//! The name is the first part of the path, in a form that no proxy rewrites: `/.constellation/web@docker/the/path`. What
//! follows is the path of the request.

use std::fmt::Write as _;

/// What a path begins with that names a service.
const PREFIX: &str = "/.constellation/";
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
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|d| u8::try_from(d).ok());
            let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
            service.push(high << 4 | low);
        } else {
            service.push(byte);
        }
    }
    let service = String::from_utf8(service)
        .ok()
        .filter(|service| service.len() <= MAX_NAME)?;
    Some((service, rest))
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
