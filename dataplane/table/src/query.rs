//! Query parameters as rules read them.
//!
//! `&` and `;` separate (Traefik's entry points turn `;` into `&` before rules run, unless told to escape it); a part
//! with a broken escape is no parameter; `+` is a space; the first `=` ends the key, and a part without one has the
//! empty value.

use std::borrow::Cow;

/// Whether `test` accepts one of the values of `key`. Stops at the first that it accepts.
pub(crate) fn any_value(query: &str, key: &str, mut test: impl FnMut(&[u8]) -> bool) -> bool {
    query
        .split(['&', ';'])
        .filter(|part| !part.is_empty())
        .any(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            decode(name).is_some_and(|name| *name == *key.as_bytes())
                && decode(value).is_some_and(|value| test(&value))
        })
}

/// Decodes `+` and percent escapes; `None` for a broken escape. Borrows when there is nothing to decode.
fn decode(text: &str) -> Option<Cow<'_, [u8]>> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Some(Cow::Borrowed(bytes));
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(&byte) = rest.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(*rest.next()?).to_digit(16);
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            byte => byte,
        });
    }
    Some(Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let cases: &[(&str, &str, &[&str])] = &[
            ("", "q", &[]),
            ("q", "q", &[""]),
            ("q=", "q", &[""]),
            ("q=1", "q", &["1"]),
            ("q=1&q=2", "q", &["1", "2"]),
            ("a=1&&q=2", "q", &["2"]),
            ("q=a=b", "q", &["a=b"]),
            ("q=a+b%20c", "q", &["a b c"]),
            ("%71=1", "q", &["1"]),
            ("Q=1", "q", &[]),
            ("q=1;r=2", "q", &["1"]),
            ("r=2;q=1&q=3", "q", &["1", "3"]),
            ("q=2%3Br", "q", &["2;r"]),
            ("q=%zz&q=3", "q", &["3"]),
            ("q=%2", "q", &[]),
            ("=1", "", &["1"]),
        ];
        for (query, key, want) in cases {
            let mut got = Vec::new();
            any_value(query, key, |value| {
                got.push(String::from_utf8(value.to_vec()).unwrap());
                false
            });
            assert_eq!(got, *want, "{query:?}");
        }
    }
}
