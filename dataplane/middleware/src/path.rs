//! The path of a request as Go's URLs keep it: decoded, and as it came where that says more.
//!
//! A middleware changes both; the one that came goes on only as long as it means the decoded one. That decides what
//! becomes of escapes such as `%2F`, so it follows the original in every case.

use pingora_http::RequestHeader;

use crate::escape::{BadEscape, Place, decode, encode, is_fit};
use crate::{Answer, Flow, Unfit, target};

/// A path, decoded and as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    decoded: Vec<u8>,
    /// As it came; `None` when escaping the decoded one gives the same.
    raw: Option<String>,
}

impl Path {
    /// The path of a request.
    pub(crate) fn of(request: &RequestHeader) -> Result<Self, Unfit> {
        Self::parse(target::path(request))
            .map_err(|BadEscape(escape)| Unfit::new(format!("the path has {escape:?}, which is no escape")))
    }

    /// The path that is written like this.
    pub(crate) fn parse(escaped: &str) -> Result<Self, BadEscape> {
        let decoded = decode(escaped)?;
        let raw = (encode(&decoded, Place::Path) != escaped).then(|| escaped.to_owned());
        Ok(Self { decoded, raw })
    }

    /// Decoded.
    pub(crate) fn decoded(&self) -> &[u8] {
        &self.decoded
    }

    /// As it goes to the next hop.
    pub(crate) fn escaped(&self) -> String {
        match &self.raw {
            Some(raw) if is_fit(raw, Place::Path) && decode(raw).is_ok_and(|meant| meant == self.decoded) => {
                raw.clone()
            }
            _ => encode(&self.decoded, Place::Path),
        }
    }

    /// With something in front.
    pub(crate) fn prefixed(&self, prefix: &str) -> Self {
        let mut decoded = prefix.as_bytes().to_vec();
        decoded.extend_from_slice(&self.decoded);
        if !decoded.starts_with(b"/") {
            decoded.insert(0, b'/');
        }
        let raw = self.raw.as_ref().map(|raw| rooted(format!("{prefix}{raw}")));
        Self { decoded, raw }
    }

    /// Without the first bytes of the decoded path, which are whole characters of it.
    pub(crate) fn stripped(&self, length: usize) -> Self {
        let mut decoded = self.decoded.get(length..).unwrap_or_default().to_vec();
        if !decoded.starts_with(b"/") {
            decoded.insert(0, b'/');
        }
        let raw = self.raw.as_ref().map(|raw| {
            let (mut at, mut left) = (0, length);
            while left > 0 && at < raw.len() {
                at += if raw.as_bytes().get(at) == Some(&b'%') {
                    3
                } else {
                    1
                };
                left -= 1;
            }
            rooted(raw.get(at..).unwrap_or_default().to_owned())
        });
        Self { decoded, raw }
    }

    /// Whether a decoded path can mean no other one: no empty segments, no dots to resolve.
    pub(crate) fn is_clean(&self) -> bool {
        is_clean(&self.decoded)
    }

    /// Gives the request this path.
    pub(crate) fn put(&self, request: &mut RequestHeader) -> Result<(), Unfit> {
        target::set_path(request, &self.escaped())
    }
}

fn rooted(path: String) -> String {
    if path.starts_with('/') {
        path
    } else {
        format!("/{path}")
    }
}

/// Whether a path has no empty segments but at its ends, and no dots to resolve.
pub(crate) fn is_clean(path: &[u8]) -> bool {
    let inner = path.strip_prefix(b"/").unwrap_or(path);
    let inner = inner.strip_suffix(b"/").unwrap_or(inner);
    if inner.is_empty() {
        return path.len() < 2;
    }
    inner
        .split(|byte| *byte == b'/')
        .all(|segment| !matches!(segment, b"" | b"." | b".."))
}

/// What is answered where a changed path could be taken for another one.
pub(crate) fn refused() -> Flow<'static> {
    Flow::Answer(Box::new(Answer::error(400, "Bad Request\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_goes_on_as_long_as_it_means_the_same() {
        // path, escaped again
        for same in ["/", "/a%20b", "/a%2Fb", "/a(b", "/%28", "/%E9", "/a;b,c"] {
            assert_eq!(Path::parse(same).unwrap().escaped(), same);
        }
        // path, bytes to strip, left
        let cases = [
            ("/a%20b/c%2Fd", 4, "/c%2Fd"),
            ("/a%20b%2Fc", 4, "/c"),
            ("/a%20b/(c)%2F", 4, "/(c)%2F"),
            ("/api", 4, "/"),
            ("/apix", 4, "/x"),
        ];
        for (path, length, left) in cases {
            assert_eq!(
                Path::parse(path).unwrap().stripped(length).escaped(),
                left,
                "{path}"
            );
        }
    }

    #[test]
    fn clean_paths() {
        for clean in ["", "/", "/a", "/a/", "/...", "/a./b", "a"] {
            assert!(is_clean(clean.as_bytes()), "{clean}");
        }
        for unclean in ["//", "/./", "/.", "/..", "/a//b", "/a/../b", "//a", "/a//", "./x"] {
            assert!(!is_clean(unclean.as_bytes()), "{unclean}");
        }
    }
}
