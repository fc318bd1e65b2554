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
    /// As it came or was written, never empty; `None` when escaping the decoded one gives the same.
    raw: Option<String>,
}

/// The path that a middleware has made, which the target of a request can't hold in full: it begins with `/`, and has nothing
/// in it that is to be escaped.
#[derive(Clone, Debug)]
struct Made {
    path: Path,
    /// As it is in the target. Once the target has another one, this says nothing any more.
    target: String,
}

impl Path {
    /// The path of a request.
    pub(crate) fn of(request: &RequestHeader) -> Result<Self, Unfit> {
        let target = target::path(request);
        let made = request.extensions.get::<Made>();
        if let Some(made) = made.filter(|made| made.target == target) {
            return Ok(made.path.clone());
        }
        let decoded = decode(target).map_err(|BadEscape(escape)| {
            Unfit::new(format!("the path has {escape:?}, which is no escape"))
        })?;
        let raw = (encode(&decoded, Place::Path) != target).then(|| target.to_owned());
        Ok(Self { decoded, raw })
    }

    /// The path that is written like this.
    pub(crate) fn written(escaped: String) -> Result<Self, BadEscape> {
        let decoded = decode(&escaped)?;
        let raw = (!escaped.is_empty()).then_some(escaped);
        Ok(Self { decoded, raw })
    }

    /// Decoded.
    pub(crate) fn decoded(&self) -> &[u8] {
        &self.decoded
    }

    /// As it was written, which may be no path that can go to the next hop.
    pub(crate) fn raw(&self) -> String {
        self.raw
            .clone()
            .unwrap_or_else(|| encode(&self.decoded, Place::Path))
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
        if !decoded.is_empty() && !decoded.starts_with(b"/") {
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
        // Where a slash went that was escaped, it no longer means the same.
        let raw = raw.filter(|raw| decode(raw).is_ok_and(|meant| meant == decoded));
        Self {
            raw: raw.filter(|raw| !raw.is_empty()),
            decoded,
        }
    }

    /// Makes nothing `/`.
    pub(crate) fn root(&mut self) {
        if self.decoded.is_empty() {
            self.decoded.push(b'/');
        }
    }

    /// Whether a decoded path can mean no other one: no empty segments, no dots to resolve.
    pub(crate) fn is_clean(&self) -> bool {
        is_clean(&self.decoded)
    }

    /// Gives the request this path. A `/` at its begin is added, without which it would be no target.
    pub(crate) fn put(self, request: &mut RequestHeader) -> Result<(), Unfit> {
        target::set_path(request, &self.escaped())?;
        let target = target::path(request).to_owned();
        request.extensions_mut().insert(Made { path: self, target });
        Ok(())
    }
}

fn rooted(path: String) -> String {
    if path.is_empty() || path.starts_with('/') {
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

    fn request(target: &str) -> RequestHeader {
        RequestHeader::build("GET", target.as_bytes(), None).unwrap()
    }

    #[test]
    fn what_came_goes_on_as_long_as_it_means_the_same() {
        // path, escaped again
        for same in ["/", "/a%20b", "/a%2Fb", "/a(b", "/%28", "/%E9", "/a;b,c"] {
            assert_eq!(Path::of(&request(same)).unwrap().escaped(), same);
        }
        // path, bytes to strip, left
        let cases = [
            ("/a%20b/c%2Fd", 4, "/c%2Fd"),
            ("/a%20b%2Fc", 4, "/c"),
            ("/a%20b/(c)%2F", 4, "/(c)%2F"),
            ("/api", 4, ""),
            ("/apix", 4, "/x"),
        ];
        for (path, length, left) in cases {
            assert_eq!(
                Path::of(&request(path)).unwrap().stripped(length).escaped(),
                left,
                "{path}"
            );
        }
    }

    #[test]
    fn the_next_middleware_gets_the_path_that_was_made() {
        // what is put, as the target has it, what the next one gets
        let cases = [
            ("x", "/x?q", "x"),
            ("", "/?q", ""),
            ("/a b%2Fc", "/a%20b/c?q", "/a b%2Fc"),
            ("/é", "/%C3%A9?q", "/é"),
        ];
        for (path, target, raw) in cases {
            let mut request = request("/before?q");
            let made = Path::written(path.to_owned()).unwrap();
            made.clone().put(&mut request).unwrap();
            assert_eq!(request.raw_path(), target.as_bytes());
            let got = Path::of(&request).unwrap();
            assert_eq!((&got, got.raw()), (&made, raw.to_owned()));
        }
        // Whoever changes the target in another way makes that forgotten.
        let mut request = request("/before");
        Path::written("x".to_owned()).unwrap().put(&mut request).unwrap();
        request.set_raw_path(b"/y").unwrap();
        assert_eq!(Path::of(&request).unwrap().decoded(), b"/y");
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
