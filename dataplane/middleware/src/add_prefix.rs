//! `addPrefix`: something in front of the path.

use pingora_http::RequestHeader;

use crate::path::Path;
use crate::{Flow, Unfit};

/// Puts something in front of the path.
#[derive(Debug)]
pub struct AddPrefix(Box<str>);

impl AddPrefix {
    /// The prefix, not empty, without escapes. A missing `/` at its begin is added.
    pub fn new(prefix: &str) -> Result<Self, String> {
        if prefix.is_empty() {
            return Err("prefix is empty: write a path such as /api".to_owned());
        }
        Ok(Self(prefix.into()))
    }

    pub(crate) fn enter(&self, request: &mut RequestHeader) -> Result<Flow<'static>, Unfit> {
        Path::of(request)?.prefixed(&self.0).put(request)?;
        Ok(Flow::Next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_comes_first_and_the_query_stays() {
        // prefix, target, target after
        let cases = [
            ("/api", "/x?y=1", "/api/x?y=1"),
            ("api", "/x", "/api/x"),
            ("/api/", "/", "/api//"),
            ("/p%20q", "/a%20b/c%2Fd?q=%20", "/p%2520q/a%20b/c/d?q=%20"),
            ("/p q", "/", "/p%20q/"),
            ("/pre", "/a%20b/c%2Fd", "/pre/a%20b/c%2Fd"),
            ("/é", "/q/r%2Fs", "/%C3%A9/q/r/s"),
            ("/(x)'!*[]", "/q/r%2Fs", "/(x)'!*[]/q/r%2Fs"),
            ("/(x)'!*[]", "/q", "/%28x%29%27%21%2A%5B%5D/q"),
        ];
        for (prefix, before, after) in cases {
            let mut request = RequestHeader::build("GET", before.as_bytes(), None).unwrap();
            AddPrefix::new(prefix).unwrap().enter(&mut request).unwrap();
            assert_eq!(
                String::from_utf8_lossy(request.raw_path()),
                after,
                "{prefix} {before}"
            );
        }
        assert!(AddPrefix::new("").is_err());
    }
}
