//! Paths as the back end gets them and as rules compare them.
//!
//! Normalising comes before matching, so that no spelling of a path slips past a rule: what a rule refused as
//! `/admin` must not reach the back end as `/%61dmin` or `/public/../admin`.

use std::borrow::Cow;

use crate::text::push_lossy;

/// A request path in its two forms. Both borrow when nothing had to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normalised<'p> {
    /// What the back end gets: unreserved escapes decoded, the others upper-cased, characters that may not stand
    /// bare in a path escaped, dot segments and double slashes cleaned.
    pub clean: Cow<'p, str>,
    /// What rules see: like `clean`, with non-reserved escapes decoded as well (`/foo%20bar` is `/foo bar`).
    /// Bytes that are not UTF-8 once decoded appear as U+FFFD, one per byte.
    pub routing: Cow<'p, str>,
}

/// Why a path is answered with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// `%` without two hexadecimal digits after it.
    #[error("a percent sign in the path is not followed by two hexadecimal digits")]
    Percent,
    /// `#` in a request target.
    #[error("the request target contains a fragment")]
    Fragment,
    /// Neither `/...` nor `*`.
    #[error("the request target is relative")]
    Relative,
}

/// Normalises the path of a request target (without the query).
///
/// `*` stays `*` in both forms and matches no `Path` rule. Only `OPTIONS` may ask for it (RFC 9110 section 9.3.7);
/// that belongs to the caller, which answers it without a route.
pub fn normalise(path: &str) -> Result<Normalised<'_>, PathError> {
    if path == "*" {
        return Ok(Normalised {
            clean: Cow::Borrowed(path),
            routing: Cow::Borrowed(path),
        });
    }
    if !path.starts_with('/') {
        return Err(PathError::Relative);
    }
    let scan = Scan::of(path.as_bytes())?;
    let mut clean = if scan.recode {
        Cow::Owned(recode(path))
    } else {
        Cow::Borrowed(path)
    };
    // A decoded `%2E` may be what makes a dot segment, so the question is put to the recoded text.
    if scan.segments || (scan.recode && needs_cleaning(&clean)) {
        clean = Cow::Owned(clean_segments(&clean));
    }
    let routing = if scan.decode {
        Cow::Owned(decode_for_rules(&clean))
    } else {
        clean.clone()
    };
    Ok(Normalised { clean, routing })
}

/// What one pass over the raw path finds out.
#[derive(Default)]
struct Scan {
    /// An escape to decode or upper-case, or a byte to escape.
    recode: bool,
    /// `//`, or a dot segment.
    segments: bool,
    /// Something that rules see decoded: an escape of what is neither reserved nor unreserved, or a byte that `recode`
    /// escapes.
    decode: bool,
}

impl Scan {
    fn of(path: &[u8]) -> Result<Self, PathError> {
        let mut scan = Self::default();
        let mut rest = path;
        let mut after_slash = false;
        while let Some((&byte, tail)) = rest.split_first() {
            rest = tail;
            match byte {
                b'/' => scan.segments |= after_slash,
                b'.' => scan.segments |= after_slash && ends_dot_segment(tail),
                b'#' => return Err(PathError::Fragment),
                b'%' => {
                    let [high, low, ..] = *rest else {
                        return Err(PathError::Percent);
                    };
                    let value = hex_pair(high, low).ok_or(PathError::Percent)?;
                    scan.decode |= !is_reserved(value) && !is_unreserved(value);
                    scan.recode |=
                        is_unreserved(value) || high.is_ascii_lowercase() || low.is_ascii_lowercase();
                }
                byte if !stands_bare(byte) => (scan.recode, scan.decode) = (true, true),
                _ => {}
            }
            after_slash = byte == b'/';
        }
        Ok(scan)
    }
}

/// Whether a segment that starts with a dot is `.` or `..`, by what follows that dot.
fn ends_dot_segment(rest: &[u8]) -> bool {
    matches!(rest, [] | [b'/', ..] | [b'.'] | [b'.', b'/', ..])
}

fn needs_cleaning(path: &str) -> bool {
    let mut rest = path.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'/'
            && match tail {
                [b'/', ..] => true,
                [b'.', after @ ..] => ends_dot_segment(after),
                _ => false,
            }
        {
            return true;
        }
    }
    false
}

/// Decodes unreserved escapes, upper-cases the others, escapes what may not stand bare.
fn recode(path: &str) -> String {
    let mut out = String::with_capacity(path.len() + 8);
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            push_bare_or_escaped(&mut out, byte);
            continue;
        }
        // Scan::of has seen two hexadecimal digits after every percent sign.
        let (Some(high), Some(low)) = (bytes.next(), bytes.next()) else {
            break;
        };
        match hex_pair(high, low) {
            Some(value) if is_unreserved(value) => out.push(char::from(value)),
            _ => {
                out.push('%');
                out.push(char::from(high.to_ascii_uppercase()));
                out.push(char::from(low.to_ascii_uppercase()));
            }
        }
    }
    out
}

fn push_bare_or_escaped(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    if stands_bare(byte) {
        out.push(char::from(byte));
    } else {
        out.push('%');
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// Removes empty, `.` and `..` segments. A slash at the very end stays; one that a trailing dot segment would leave
/// does not appear (`/a/.` is `/a`, `/a/b/..` is `/a`).
fn clean_segments(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => out.truncate(out.rfind('/').unwrap_or(0)),
            segment => {
                out.push('/');
                out.push_str(segment);
            }
        }
    }
    if out.is_empty() || path.ends_with('/') {
        out.push('/');
    }
    out
}

/// Decodes the escapes of characters that are not reserved.
fn decode_for_rules(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        let value = match *after.as_bytes() {
            [high, low, ..] => hex_pair(high, low).filter(|value| !is_reserved(*value)),
            _ => None,
        };
        match value {
            Some(value) => {
                bytes.push(value);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(b'%');
                rest = after;
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).unwrap_or_else(|error| {
        let mut out = String::new();
        push_lossy(&mut out, error.as_bytes());
        out
    })
}

fn hex_pair(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

/// RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// RFC 3986 section 2.2, and the percent sign itself: decoding one of these would change what the path means.
fn is_reserved(byte: u8) -> bool {
    matches!(byte, b':' | b'/' | b'?' | b'#' | b'[' | b']' | b'@' | b'%') || is_sub_delimiter(byte)
}

fn is_sub_delimiter(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
    )
}

/// What may stand in a path without an escape: `pchar` and `/` of RFC 3986 section 3.3, and brackets, which Go and
/// browsers leave bare.
fn stands_bare(byte: u8) -> bool {
    is_unreserved(byte) || is_sub_delimiter(byte) || matches!(byte, b'/' | b':' | b'@' | b'[' | b']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        // (as received, as the back end gets it, as rules see it)
        let cases: &[(&str, &str, &str)] = &[
            ("/", "/", "/"),
            ("/a", "/a", "/a"),
            ("/a/", "/a/", "/a/"),
            ("//", "/", "/"),
            ("//a//b", "/a/b", "/a/b"),
            ("/a//", "/a/", "/a/"),
            ("/a/./b", "/a/b", "/a/b"),
            ("/a/.", "/a", "/a"),
            ("/a/./", "/a/", "/a/"),
            ("/a/b/..", "/a", "/a"),
            ("/a/b/../", "/a/", "/a/"),
            ("/..", "/", "/"),
            ("/../../a", "/a", "/a"),
            ("/.hidden/..x/...", "/.hidden/..x/...", "/.hidden/..x/..."),
            ("/public/%2e%2e/admin", "/admin", "/admin"),
            ("/public/%2E./admin", "/admin", "/admin"),
            ("/public/..%2Fadmin", "/public/..%2Fadmin", "/public/..%2Fadmin"),
            ("/public/..%2fadmin", "/public/..%2Fadmin", "/public/..%2Fadmin"),
            ("/%61%7E%2d", "/a~-", "/a~-"),
            ("/foo%20bar", "/foo%20bar", "/foo bar"),
            ("/%C3%BC", "/%C3%BC", "/ü"),
            ("/%c3%bc", "/%C3%BC", "/ü"),
            ("/ü", "/%C3%BC", "/ü"),
            ("/%FF", "/%FF", "/\u{FFFD}"),
            ("/%00", "/%00", "/\0"),
            ("/a%3bb", "/a%3Bb", "/a%3Bb"),
            ("/a%25b", "/a%25b", "/a%25b"),
            ("/a%2525", "/a%2525", "/a%2525"),
            ("/a%5cb", "/a%5Cb", "/a\\b"),
            ("/a%7Bb", "/a%7Bb", "/a{b"),
            ("/a{b}", "/a%7Bb%7D", "/a{b}"),
            ("/a%2Fb{", "/a%2Fb%7B", "/a%2Fb{"),
            ("/a b", "/a%20b", "/a b"),
            ("/a;b=c,d:e@f[g]", "/a;b=c,d:e@f[g]", "/a;b=c,d:e@f[g]"),
            ("/%3a%40%5b", "/%3A%40%5B", "/%3A%40%5B"),
            ("*", "*", "*"),
        ];
        for (path, clean, routing) in cases {
            let got = normalise(path).unwrap();
            assert_eq!((&*got.clean, &*got.routing), (*clean, *routing), "{path:?}");
            let again = normalise(clean).unwrap();
            assert_eq!(
                (&*again.clean, &*again.routing),
                (*clean, *routing),
                "{clean:?} is final"
            );
        }
    }

    #[test]
    fn refused() {
        for (path, want) in [
            ("", PathError::Relative),
            ("a", PathError::Relative),
            ("**", PathError::Relative),
            ("/%", PathError::Percent),
            ("/%2", PathError::Percent),
            ("/%zz", PathError::Percent),
            ("/%+1", PathError::Percent),
            ("/a#b", PathError::Fragment),
        ] {
            assert_eq!(normalise(path), Err(want), "{path:?}");
        }
    }

    #[test]
    fn borrows_when_nothing_changes() {
        for path in ["/", "/a/b.html", "/a/b%2Fc", "/a;b"] {
            let got = normalise(path).unwrap();
            assert!(
                matches!((got.clean, got.routing), (Cow::Borrowed(_), Cow::Borrowed(_))),
                "{path}"
            );
        }
        let got = normalise("/foo%20bar").unwrap();
        assert!(matches!(
            (got.clean, got.routing),
            (Cow::Borrowed(_), Cow::Owned(_))
        ));
    }
}
