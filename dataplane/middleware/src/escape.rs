//! Percent-escapes, as Go's URLs have them.

use std::fmt::Write;

/// An escape that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadEscape(pub(crate) String);

/// Where a text stands, which says what need not be escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Path,
    Query,
    Host,
    Fragment,
}

/// The bytes that a text stands for.
pub(crate) fn decode(text: &str) -> Result<Vec<u8>, BadEscape> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        match rest {
            [] => return Ok(out),
            [b'%', high, low, after @ ..] => {
                let (Some(high), Some(low)) = (nibble(*high), nibble(*low)) else {
                    return Err(bad(rest));
                };
                out.push(high << 4 | low);
                rest = after;
            }
            [b'%', ..] => return Err(bad(rest)),
            [byte, after @ ..] => {
                out.push(*byte);
                rest = after;
            }
        }
    }
}

fn bad(rest: &[u8]) -> BadEscape {
    let shown = rest.get(..3).unwrap_or(rest);
    BadEscape(String::from_utf8_lossy(shown).into_owned())
}

fn nibble(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

/// Escapes what may not stand there as it is.
pub(crate) fn encode(bytes: &[u8], place: Place) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b' ' if place == Place::Query => out.push('+'),
            byte if is_plain(byte, place) => out.push(char::from(byte)),
            // Writing to a String can't fail.
            byte => write!(out, "%{byte:02X}").unwrap_or_default(),
        }
    }
    out
}

/// Whether a byte stands for itself when we choose.
fn is_plain(byte: u8, place: Place) -> bool {
    let reserved = match place {
        Place::Path => b"-_.~$&+,/:;=@".as_slice(),
        Place::Query => b"-_.~",
        Place::Host => b"-_.~!$&'()*+,;=:[]<>\"",
        Place::Fragment => b"-_.~$&+,/:;=?@!()*",
    };
    byte.is_ascii_alphanumeric() || reserved.contains(&byte)
}

/// Whether a text that came escaped may stay as it came.
pub(crate) fn is_fit(text: &str, place: Place) -> bool {
    text.bytes()
        .all(|byte| is_plain(byte, place) || b"!$&'()*+,;=:@[]%".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        assert_eq!(decode("/a%20b%2fc").unwrap(), b"/a b/c");
        assert_eq!(encode(b"/a b?(x)", Place::Path), "/a%20b%3F%28x%29");
        assert_eq!(
            encode(b"http://a/b c?d", Place::Query),
            "http%3A%2F%2Fa%2Fb+c%3Fd"
        );
        for (text, shown) in [("/x%zz", "%zz"), ("/x%", "%"), ("/x%4", "%4"), ("/%é", "%é")] {
            assert_eq!(decode(text), Err(BadEscape(shown.to_owned())), "{text}");
        }
    }
}
