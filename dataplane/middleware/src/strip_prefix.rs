//! `stripPrefix` and `stripPrefixRegex`: something less in front of the path.

use constellation_table::regexp::Regexp;
use http::HeaderValue;
use pingora_http::RequestHeader;

use crate::path::{Path, refused};
use crate::{Flow, Unfit};

/// Takes the first prefix of a list that the path has from it.
#[derive(Debug)]
pub struct StripPrefix {
    prefixes: Box<[Box<str>]>,
    force_slash: bool,
}

impl StripPrefix {
    /// The prefixes, without escapes; the first one that fits counts, not the longest. `force_slash`: where nothing is left,
    /// the path is `/` for the middlewares after this one, too.
    pub fn new(prefixes: &[String], force_slash: bool) -> Self {
        Self {
            prefixes: prefixes.iter().map(|prefix| prefix.as_str().into()).collect(),
            force_slash,
        }
    }

    pub(crate) fn enter(&self, request: &mut RequestHeader) -> Result<Flow<'static>, Unfit> {
        let path = Path::of(request)?;
        let mut prefixes = self.prefixes.iter();
        match prefixes.find(|prefix| path.decoded().starts_with(prefix.as_bytes())) {
            Some(prefix) => strip(request, &path, prefix, self.force_slash),
            None => Ok(Flow::Next),
        }
    }
}

/// Takes from the path what the first of a list of patterns matches at its begin.
#[derive(Debug)]
pub struct StripPrefixRegex {
    patterns: Box<[Regexp]>,
}

impl StripPrefixRegex {
    /// The patterns; the error names the one that can't be read.
    pub fn new(patterns: &[String]) -> Result<Self, String> {
        let compile = |pattern: &String| Regexp::new(pattern.trim());
        let patterns = patterns.iter().map(compile).collect::<Result<_, _>>()?;
        Ok(Self { patterns })
    }

    pub(crate) fn enter(&self, request: &mut RequestHeader) -> Result<Flow<'static>, Unfit> {
        let path = Path::of(request)?;
        let text = String::from_utf8_lossy(path.decoded());
        for pattern in &self.patterns {
            match pattern.find(&text) {
                Some(prefix) if !prefix.is_empty() && path.decoded().starts_with(prefix.as_bytes()) => {
                    return strip(request, &path, prefix, false);
                }
                _ => {}
            }
        }
        Ok(Flow::Next)
    }
}

fn strip(
    request: &mut RequestHeader,
    path: &Path,
    prefix: &str,
    force_slash: bool,
) -> Result<Flow<'static>, Unfit> {
    let mut left = path.stripped(prefix.len());
    if force_slash {
        left.root();
    }
    if !left.is_clean() {
        return Ok(refused());
    }
    let value = HeaderValue::from_bytes(prefix.as_bytes())
        .map_err(|_| Unfit::new(format!("the prefix {prefix:?} is no value of a header")))?;
    left.put(request)?;
    request.append_header("X-Forwarded-Prefix", value)?;
    Ok(Flow::Next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AddPrefix, ReplacePath};

    /// The target and the prefixes after the middleware; `None` when it refuses.
    fn after(
        target: &str,
        enter: impl FnOnce(&mut RequestHeader) -> Result<Flow<'static>, Unfit>,
    ) -> Option<(String, Vec<String>)> {
        let mut request = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
        if let Flow::Answer(answer) = enter(&mut request).unwrap() {
            assert_eq!((answer.status, &*answer.body), (400, b"Bad Request\n".as_slice()));
            return None;
        }
        let prefixes = request.headers.get_all("x-forwarded-prefix").iter();
        let prefixes = prefixes
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect();
        Some((String::from_utf8_lossy(request.raw_path()).into_owned(), prefixes))
    }

    #[test]
    fn the_first_prefix_that_fits_goes() {
        let prefixes = ["/foo", "/foo/bar", "/a b", "/é"].map(str::to_owned);
        // target, target after and the prefix
        let cases = [
            ("/foo", Some(("/", Some("/foo")))),
            ("/foo/", Some(("/", Some("/foo")))),
            ("/foobar", Some(("/bar", Some("/foo")))),
            ("/foo/bar/x?q=1", Some(("/bar/x?q=1", Some("/foo")))),
            ("/other", Some(("/other", None))),
            ("/foo%2Fbar", Some(("/bar", Some("/foo")))),
            ("/a%20b/c%2Fd", Some(("/c%2Fd", Some("/a b")))),
            ("/%C3%A9/a%2Fb", Some(("/a%2Fb", Some("/é")))),
            ("/foo?x", Some(("/?x", Some("/foo")))),
            ("/foo...", Some(("/...", Some("/foo")))),
            ("/foo%5C..%5Cx", Some(("/%5C..%5Cx", Some("/foo")))),
            ("/foo./x", None),
            ("/foo..", None),
            ("/foo../", None),
            ("/foo%2F..%2Fx", None),
            ("/foo%2F%2Fx", None),
        ];
        for (target, expected) in cases {
            let middleware = StripPrefix::new(&prefixes, false);
            let got = after(target, |request| middleware.enter(request));
            let expected = expected.map(|(target, prefix)| {
                (
                    target.to_owned(),
                    prefix.map(str::to_owned).into_iter().collect::<Vec<_>>(),
                )
            });
            assert_eq!(got, expected, "{target}");
        }
    }

    #[test]
    fn a_path_that_another_middleware_has_made_is_stripped_as_it_is() {
        let strip = |request: &mut RequestHeader, prefix: &str| {
            StripPrefix::new(&[prefix.to_owned()], false)
                .enter(request)
                .unwrap();
            String::from_utf8_lossy(request.raw_path()).into_owned()
        };
        let mut request = RequestHeader::build("GET", b"/api%2Fv1?q", None).unwrap();
        AddPrefix::new("/a b").unwrap().enter(&mut request).unwrap();
        // What was escaped in another way stays so.
        assert_eq!(strip(&mut request, "/a b"), "/api%2Fv1?q");
        ReplacePath::new("x").unwrap().enter(&mut request).unwrap();
        assert_eq!(strip(&mut request, "/"), "/x?q");
        assert_eq!(request.headers.get_all("x-forwarded-prefix").iter().count(), 1);
        // Nothing is left, not even a slash.
        assert_eq!(strip(&mut request, "x"), "/?q");
        AddPrefix::new("/end").unwrap().enter(&mut request).unwrap();
        assert_eq!(request.raw_path(), b"/end?q");
    }

    #[test]
    fn what_is_left_as_the_next_middleware_sees_it() {
        // target, force_slash, path
        let cases = [
            ("/api", false, ""),
            ("/api", true, "/"),
            ("/api/", false, "/"),
            // The slash that was escaped is the one that a path begins with.
            ("/api%2Fv1", false, "/v1"),
            ("/api%2Fv1/%20", false, "/v1/%20"),
        ];
        for (target, force_slash, expected) in cases {
            let mut request = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
            StripPrefix::new(&["/api".to_owned()], force_slash)
                .enter(&mut request)
                .unwrap();
            ReplacePath::new("/new").unwrap().enter(&mut request).unwrap();
            assert_eq!(
                request.headers["x-replaced-path"], expected,
                "{target} {force_slash}"
            );
        }
    }

    #[test]
    fn what_a_pattern_matches_at_the_begin_goes() {
        // pattern, target, target after and the prefix
        let cases = [
            ("/foo/[a-z]+/", "/foo/abc/def", Some(("/def", Some("/foo/abc/")))),
            ("/foo/[a-z]+/", "/foo/abc", Some(("/foo/abc", None))),
            ("/foo/[a-z]+/", "/q/foo/abc/d", Some(("/q/foo/abc/d", None))),
            ("/x(.)y", "/x%2Fy/foo", Some(("/foo", Some("/x/y")))),
            ("/x(.)y", "/x%20y/z%20z", Some(("/z%20z", Some("/x y")))),
            ("^/x.y", "/x%2Fy/z%2Fw", Some(("/z%2Fw", Some("/x/y")))),
            (" ^/api ", "/api/a", Some(("/a", Some("/api")))),
            ("^/api", "/api../x", None),
            ("bar", "/z/bar/y", Some(("/z/bar/y", None))),
            ("x*", "/xx", Some(("/xx", None))),
        ];
        for (pattern, target, expected) in cases {
            let middleware = StripPrefixRegex::new(&[pattern.to_owned()]).unwrap();
            let got = after(target, |request| middleware.enter(request));
            let expected = expected.map(|(target, prefix)| {
                (
                    target.to_owned(),
                    prefix.map(str::to_owned).into_iter().collect::<Vec<_>>(),
                )
            });
            assert_eq!(got, expected, "{pattern} {target}");
        }
        assert!(StripPrefixRegex::new(&["(".to_owned()]).is_err());
    }
}
