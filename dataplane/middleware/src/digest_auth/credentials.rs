//! The parameters of `Authorization: Digest`.

use std::borrow::Cow;

/// Longest header that is looked at.
const MAX_HEADER: usize = 8192;
/// Most parameters.
const MAX_PARAMETERS: usize = 32;

/// What a client sends.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Credentials<'h> {
    pub(super) username: Cow<'h, str>,
    pub(super) nonce: Cow<'h, str>,
    pub(super) uri: Cow<'h, str>,
    pub(super) response: Cow<'h, str>,
    pub(super) opaque: Cow<'h, str>,
    pub(super) qop: Cow<'h, str>,
    pub(super) nc: Cow<'h, str>,
    pub(super) cnonce: Cow<'h, str>,
    pub(super) algorithm: Option<Cow<'h, str>>,
}

impl<'h> Credentials<'h> {
    /// Reads the header; `None` when it is of another scheme or broken.
    pub(super) fn read(header: &'h [u8]) -> Option<Self> {
        let mut rest = std::str::from_utf8(header).ok()?.strip_prefix("Digest ")?;
        if rest.len() > MAX_HEADER {
            return None;
        }
        let mut found = Self::default();
        for _ in 0..MAX_PARAMETERS {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                return Some(found);
            }
            let (name, after) = rest.split_once('=')?;
            let (value, after) = value(after.trim_start())?;
            rest = after;
            match name.trim() {
                "username" => found.username = value,
                "nonce" => found.nonce = value,
                "uri" => found.uri = value,
                "response" => found.response = value,
                "opaque" => found.opaque = value,
                "qop" => found.qop = value,
                "nc" => found.nc = value,
                "cnonce" => found.cnonce = value,
                "algorithm" => found.algorithm = Some(value),
                _ => {}
            }
        }
        None
    }
}

/// A value in quotes or without, and what follows it.
fn value(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(',').unwrap_or(text.len());
        let (value, after) = text.split_at(end);
        return Some((value.trim().into(), after));
    };
    let mut out = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => {
                let after = &quoted[at + 1..];
                // Most have nothing escaped.
                return Some(match out.len() == at {
                    true => (quoted[..at].into(), after),
                    false => (out.into(), after),
                });
            }
            '\\' => out.push(letters.next()?.1),
            letter => out.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_with_and_without_quotes() {
        let read = |text: &str| Credentials::read(text.as_bytes()).map(|found| format!("{found:?}"));
        let expected = Credentials {
            username: "a\"b".into(),
            uri: "/x,y".into(),
            nc: "00000001".into(),
            algorithm: Some("MD5".into()),
            ..Credentials::default()
        };
        let text = r#"Digest username="a\"b", uri="/x,y",nc=00000001 , algorithm=MD5, other="z""#;
        assert_eq!(read(text), Some(format!("{expected:?}")));
        for broken in [
            "Basic x",
            "digest username=a",
            "Digest username",
            "Digest username=\"a",
            "Digest a=\"\\",
        ] {
            assert_eq!(read(broken), None, "{broken}");
        }
        assert_eq!(read(&format!("Digest {}", "a=b,".repeat(33))), None);
        assert_eq!(read(&format!("Digest a=\"{}\"", "b".repeat(9000))), None);
    }

    proptest::proptest! {
        #[test]
        fn no_header_panics(text in "(Digest )?[ -~é]{0,80}") {
            if let Some(found) = Credentials::read(text.as_bytes()) {
                proptest::prop_assert!(found.username.len() <= text.len());
            }
        }
    }
}
