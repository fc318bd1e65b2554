//! Reads one cookie out of a request's `Cookie` headers, as strictly as Go's `net/http` does for Traefik.
//!
//! Nothing is copied. What is not a cookie is skipped, and so is everything beyond [`MAX_BYTES`] and [`MAX_COOKIES`].

use http::{HeaderMap, header};

/// Most bytes of `Cookie` headers that are looked at.
pub const MAX_BYTES: usize = 64 * 1024;

/// Most cookies that are looked at; browsers keep about 180 for a site.
pub const MAX_COOKIES: usize = 512;

/// The value of the first cookie of this name, without quotes around it. `None` when there is none that is well-formed.
pub fn value<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let mut bytes = 0usize;
    headers
        .get_all(header::COOKIE)
        .iter()
        .map(http::HeaderValue::as_bytes)
        .take_while(|line| {
            bytes = bytes.saturating_add(line.len());
            bytes <= MAX_BYTES
        })
        .flat_map(|line| line.split(|byte| *byte == b';'))
        .take(MAX_COOKIES)
        .find_map(|pair| well_formed(pair, name.as_bytes()))
}

/// The value of `NAME=VALUE`, when it has that name and nothing in the value is forbidden.
fn well_formed<'h>(pair: &'h [u8], name: &[u8]) -> Option<&'h [u8]> {
    let rest = pair.trim_ascii().strip_prefix(name)?;
    let value = rest.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    let value = value
        .strip_prefix(b"\"")
        .and_then(|value| value.strip_suffix(b"\""))
        .unwrap_or(value);
    value.iter().all(|byte| is_allowed(*byte)).then_some(value)
}

/// What a value may contain: printable ASCII but the characters that delimit it.
fn is_allowed(byte: u8) -> bool {
    matches!(byte, 0x20..0x7f) && !matches!(byte, b'"' | b';' | b'\\')
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::COOKIE, HeaderValue::from_bytes(line).unwrap());
        }
        headers
    }

    #[test]
    fn cases() {
        type Case = (&'static [&'static [u8]], Option<&'static [u8]>);
        let cases: &[Case] = &[
            (&[], None),
            (&[b""], None),
            (&[b"n=1"], Some(b"1")),
            (&[b"a=2; n=1; b=3"], Some(b"1")),
            (&[b"a=2;n=1"], Some(b"1")),
            (&[b"a=2", b"b=3; n=1"], Some(b"1")),
            (&[b"n=1; n=2"], Some(b"1")),
            (&[b"n=1", b"n=2"], Some(b"1")),
            (&[b"n=\"1\""], Some(b"1")),
            (&[b"n=\""], None),
            (&[b"n=\"\""], Some(b"")),
            (&[b"n="], Some(b"")),
            (&[b"n"], None),
            (&[b"nn=1; xn=2"], None),
            (&[b"N=1"], None),
            (&[b"n=1=2"], Some(b"1=2")),
            (&[b"\t n =  1 "], Some(b"1")),
            (&[b";;; ; n=1"], Some(b"1")),
            (&[b"a=\"x;n=1\""], None),
            (&[b"n=a\\b; n=2"], Some(b"2")),
            (&[b"n=\xff; n=2"], Some(b"2")),
            (&[b"n=a\tb"], None),
        ];
        for (lines, want) in cases {
            assert_eq!(value(&headers(lines), "n"), *want, "{lines:?}");
        }
    }

    #[test]
    fn limits() {
        let many = |count: usize| format!("{}n=1", "a=b;".repeat(count));
        assert_eq!(
            value(&headers(&[many(MAX_COOKIES - 1).as_bytes()]), "n"),
            Some(b"1".as_slice())
        );
        assert_eq!(value(&headers(&[many(MAX_COOKIES).as_bytes()]), "n"), None);
        let long = |bytes: usize| format!("a={}", "x".repeat(bytes - 2));
        assert_eq!(
            value(&headers(&[long(MAX_BYTES - 3).as_bytes(), b"n=1"]), "n"),
            Some(b"1".as_slice())
        );
        assert_eq!(
            value(&headers(&[long(MAX_BYTES - 2).as_bytes(), b"n=1"]), "n"),
            None
        );
    }

    proptest! {
        #[test]
        fn a_cookie_is_found_among_any_others(
            before in "[a-m]{1,5}=[!-:<-~]{0,9}(; [a-m]{1,5}=[!-:<-~]{0,9}){0,4}",
            name in "[n-z_]{1,6}",
            wanted in "[!#-:<-\\[\\]-~]{0,20}",
            quoted in any::<bool>(),
            split in any::<bool>(),
        ) {
            let pair = if quoted { format!("{name}=\"{wanted}\"") } else { format!("{name}={wanted}") };
            let found = if split {
                headers(&[before.as_bytes(), pair.as_bytes()])
            } else {
                headers(&[format!("{before}; {pair}").as_bytes()])
            };
            prop_assert_eq!(value(&found, &name), Some(wanted.as_bytes()));
        }

        #[test]
        fn whatever_comes_the_value_is_clean(
            lines in prop::collection::vec(prop::collection::vec(
                prop_oneof![Just(b'n'), Just(b'='), Just(b';'), Just(b'"'), Just(b' '), Just(b'\t'), 0x20u8..=0xff]
                    .prop_filter("no DEL in headers", |byte| *byte != 0x7f),
                0..40), 0..4),
        ) {
            let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
            if let Some(value) = value(&headers(&lines), "n") {
                prop_assert!(value.iter().all(|byte| is_allowed(*byte)));
                prop_assert!(lines.iter().any(|line| line.windows(value.len().max(1)).any(|part| part.starts_with(value))));
            }
        }
    }
}
