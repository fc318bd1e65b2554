//! Host names as rules compare them: the authority of a request, reduced to a lower-case name without a port.
//!
//! Owns what may stand in an authority. Whether a host is *required*, and which of several wins, is HTTP's business.

use std::borrow::Cow;
use std::net::Ipv6Addr;

/// Why an authority can't name a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing before the port.
    #[error("the host is empty")]
    Empty,
    /// Bytes outside of what RFC 3986 allows in an authority, or bytes beyond ASCII.
    #[error("the host contains a character that no host name may contain")]
    Character,
    /// The port is not a number from 0 to 65535, or a bracket is missing.
    #[error("the port after the host is not a number from 0 to 65535")]
    Port,
}

/// Lower-cases an authority and strips its port; `[::1]:8080` gives `::1`. One trailing dot is kept.
/// Borrows when there is nothing to change.
///
/// User information (`user@host`) is refused, as RFC 9110 section 4.2.4 recommends. An empty port (`a.test:`) is
/// allowed by RFC 3986 section 3.2.3.
pub fn canonical(authority: &str) -> Result<Cow<'_, str>, HostError> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (literal, after) = rest.split_once(']').ok_or(HostError::Port)?;
            if literal.is_empty() {
                return Err(HostError::Empty);
            }
            if literal.parse::<Ipv6Addr>().is_err() {
                return Err(HostError::Character);
            }
            let port = match after.strip_prefix(':') {
                Some(port) => port,
                None if after.is_empty() => "",
                None => return Err(HostError::Port),
            };
            (literal, port)
        }
        None => {
            let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
            if !host.bytes().all(is_name_byte) {
                return Err(HostError::Character);
            }
            (host, port)
        }
    };
    if host.is_empty() {
        return Err(HostError::Empty);
    }
    if !port.is_empty() && (!port.bytes().all(|b| b.is_ascii_digit()) || port.parse::<u16>().is_err()) {
        return Err(HostError::Port);
    }
    Ok(if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    })
}

/// `reg-name` of RFC 3986 section 3.2.2: unreserved, percent sign, sub-delimiters.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'%'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        use HostError::*;
        let cases: &[(&str, Result<&str, HostError>)] = &[
            ("a.test", Ok("a.test")),
            ("A.Test", Ok("a.test")),
            ("a.test.", Ok("a.test.")),
            ("a.test:80", Ok("a.test")),
            ("A.TEST:65535", Ok("a.test")),
            ("a.test:", Ok("a.test")),
            ("a.test:0", Ok("a.test")),
            ("127.0.0.1:80", Ok("127.0.0.1")),
            ("[::1]", Ok("::1")),
            ("[::1]:8080", Ok("::1")),
            ("[2001:DB8::A]:1", Ok("2001:db8::a")),
            ("_x-1.test", Ok("_x-1.test")),
            ("", Err(Empty)),
            (":80", Err(Empty)),
            ("[]", Err(Empty)),
            ("a.test:65536", Err(Port)),
            ("a.test:x", Err(Port)),
            ("a.test:+80", Err(Port)),
            ("a.test:-1", Err(Port)),
            ("a.test:80:80", Err(Port)),
            ("::1", Err(Empty)),
            ("1::1", Err(Port)),
            ("[::1", Err(Port)),
            ("[::1]8080", Err(Port)),
            ("[::1]:x", Err(Port)),
            ("[a.test]", Err(Character)),
            ("a b.test", Err(Character)),
            ("a\tb", Err(Character)),
            ("user@a.test", Err(Character)),
            ("a/b", Err(Character)),
            ("a#b", Err(Character)),
            ("a?b", Err(Character)),
            ("bücher.test", Err(Character)),
            ("{x}.test", Err(Character)),
        ];
        for (authority, want) in cases {
            let got = canonical(authority);
            assert_eq!(got.as_deref(), want.as_deref(), "{authority:?}");
        }
    }

    #[test]
    fn borrows_when_nothing_changes() {
        assert!(matches!(canonical("a.test:80"), Ok(Cow::Borrowed("a.test"))));
    }
}
