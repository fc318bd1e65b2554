//! `replacePath` and `replacePathRegex`: another path.

use bytes::Bytes;
use constellation_table::regexp::{Regexp, Template};
use http::HeaderValue;
use pingora_http::RequestHeader;

use crate::escape::{BadEscape, decode};
use crate::path::{Path, is_clean, refused};
use crate::{Answer, Flow, Unfit};

/// Gives every request the same path.
#[derive(Debug)]
pub struct ReplacePath(Box<str>);

impl ReplacePath {
    /// The path, with escapes where it needs them.
    pub fn new(path: &str) -> Result<Self, String> {
        Path::written(path.to_owned()).map_err(|BadEscape(escape)| {
            format!("path {path:?} has {escape:?}, which is no escape: write % as %25")
        })?;
        Ok(Self(path.into()))
    }

    pub(crate) fn enter(&self, request: &mut RequestHeader) -> Result<Flow<'static>, Unfit> {
        let before = Path::of(request)?.raw();
        put(request, &before, self.0.to_string())
    }
}

/// Gives requests whose path a pattern matches another path.
#[derive(Debug)]
pub struct ReplacePathRegex {
    pattern: Regexp,
    replacement: Template,
}

impl ReplacePathRegex {
    /// What the pattern matches is replaced, everywhere in the path.
    pub fn new(pattern: &str, replacement: &str) -> Result<Self, String> {
        let pattern = Regexp::new(pattern.trim())?;
        let replacement = pattern.template(replacement.trim());
        Ok(Self { pattern, replacement })
    }

    pub(crate) fn enter(&self, request: &mut RequestHeader) -> Result<Flow<'static>, Unfit> {
        let before = Path::of(request)?.raw();
        let replaced = self
            .pattern
            .replace_all(&before, &self.replacement)
            .map_err(|error| Unfit::new(error.to_string()))?;
        match replaced {
            None => Ok(Flow::Next),
            // An escape that is none is told before anything else of the path.
            Some(path) if !is_clean(path.as_bytes()) && decode(&path).is_ok() => {
                // An error page gets to know of it.
                tell(request, &before)?;
                Ok(refused())
            }
            Some(path) => put(request, &before, path),
        }
    }
}

/// Puts an escaped path in the place of another one.
fn put(request: &mut RequestHeader, before: &str, path: String) -> Result<Flow<'static>, Unfit> {
    match Path::written(path) {
        Ok(path) => path.put(request)?,
        Err(BadEscape(escape)) => {
            let mut answer = Answer::error(500, "");
            answer.body = Bytes::from(format!("invalid URL escape {escape:?}\n"));
            return Ok(Flow::Answer(Box::new(answer)));
        }
    }
    tell(request, before)?;
    Ok(Flow::Next)
}

/// Says which path was replaced.
fn tell(request: &mut RequestHeader, before: &str) -> Result<(), Unfit> {
    let before = HeaderValue::from_bytes(before.as_bytes())
        .map_err(|_| Unfit::new(format!("the path {before:?} is no value of a header")))?;
    Ok(request.append_header("X-Replaced-Path", before).map(drop)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AddPrefix;

    fn after(
        target: &str,
        enter: impl FnOnce(&mut RequestHeader) -> Result<Flow<'static>, Unfit>,
    ) -> (String, Option<String>) {
        let mut request = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
        if let Flow::Answer(answer) = enter(&mut request).unwrap() {
            let body = String::from_utf8_lossy(&answer.body).trim_end().to_owned();
            return (format!("{} {body}", answer.status), None);
        }
        let replaced = request.headers.get("x-replaced-path");
        (
            String::from_utf8_lossy(request.raw_path()).into_owned(),
            replaced.map(|value| value.to_str().unwrap().to_owned()),
        )
    }

    #[test]
    fn another_path() {
        // path, target, target after, what was there
        let cases = [
            ("/new", "/a%20b?q=%20", "/new?q=%20", "/a%20b"),
            ("/new?x=1", "/", "/new%3Fx=1", "/"),
            ("", "/a", "/", "/a"),
            ("/a b", "/", "/a%20b", "/"),
            ("/a/../b", "/", "/a/../b", "/"),
            ("/é?x#y", "/q/r%2Fs", "/%C3%A9%3Fx%23y", "/q/r%2Fs"),
            ("new%2Fx", "/", "/new%2Fx", "/"),
        ];
        for (path, target, expected, before) in cases {
            let middleware = ReplacePath::new(path).unwrap();
            let got = after(target, |request| middleware.enter(request));
            assert_eq!(
                got,
                (expected.to_owned(), Some(before.to_owned())),
                "{path} {target}"
            );
        }
        assert!(ReplacePath::new("/a%").unwrap_err().contains("%25"));
    }

    #[test]
    fn another_path_where_a_pattern_matches() {
        // pattern, replacement, target, target after, whether it was replaced
        let cases = [
            (
                "^/foo/(.*)",
                "/bar/$1",
                "/foo/a%20b%2Fc?x=1",
                "/bar/a%20b%2Fc?x=1",
                true,
            ),
            ("^/foo/(.*)", "/bar/$1", "/nope", "/nope", false),
            ("^/foo/(.*)", "/bar/$1", "/foo/a?", "/bar/a?", true),
            ("o", "0?q=1", "/foo/a%20b%2Fc", "/f0%3Fq=10%3Fq=1/a%20b/c", true),
            ("^/foo(.*)", "  /bar $1  ", "/foo/a", "/bar%20/a", true),
            (
                " ^/api ",
                "/x%zz",
                "/api",
                "500 invalid URL escape \"%zz\"",
                false,
            ),
            ("", "/x", "/%3B", "500 invalid URL escape \"%/x\"", false),
            ("foo", "", "/foo/a", "400 Bad Request", false),
            ("^/q", "/a/../b", "/q", "400 Bad Request", false),
            ("^/q", "/a/", "/q", "/a/", true),
            ("^/q", "/a/", "/q/r", "400 Bad Request", false),
            ("^/api(.*)", "$1", "/api...", "/...", true),
            ("^/api(.*)", "$1", "/api", "/", true),
            ("^/api(.*)", "$1", "/api./x", "400 Bad Request", false),
        ];
        for (pattern, replacement, target, expected, replaced) in cases {
            let middleware = ReplacePathRegex::new(pattern, replacement).unwrap();
            let (got, before) = after(target, |request| middleware.enter(request));
            assert_eq!(got, expected, "{pattern} {replacement} {target}");
            let path = target.split('?').next().map(str::to_owned);
            assert_eq!(before, path.filter(|_| replaced), "{pattern} {target}");
        }
    }

    #[test]
    fn also_a_refusal_tells_of_the_path() {
        let mut request = RequestHeader::build("GET", b"/api./x", None).unwrap();
        let middleware = ReplacePathRegex::new("^/api", "").unwrap();
        let flow = middleware.enter(&mut request).unwrap();
        assert!(matches!(flow, Flow::Answer(answer) if answer.status == 400));
        assert_eq!(request.headers["x-replaced-path"], "/api./x");
    }

    #[test]
    fn what_is_replaced_is_told_as_it_was_written() {
        let mut request = RequestHeader::build("GET", b"/api%2Fv1", None).unwrap();
        AddPrefix::new("/a b").unwrap().enter(&mut request).unwrap();
        assert_eq!(request.raw_path(), b"/a%20b/api/v1");
        let next = [
            ReplacePath::new("/\u{e9}#(x)").unwrap(),
            ReplacePath::new("").unwrap(),
            ReplacePath::new("x").unwrap(),
            ReplacePath::new("/end").unwrap(),
        ];
        for middleware in next {
            middleware.enter(&mut request).unwrap();
        }
        assert_eq!(request.raw_path(), b"/end");
        let told: Vec<_> = request.headers.get_all("x-replaced-path").iter().collect();
        assert_eq!(told, ["/a b/api%2Fv1", "/\u{e9}#(x)", "", "x"]);
    }
}
