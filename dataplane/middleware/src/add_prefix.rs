//! `addPrefix`: something in front of the path.

use pingora_http::RequestHeader;

use crate::{Flow, Unfit, target};

/// Puts something in front of the path.
#[derive(Debug)]
pub struct AddPrefix(Box<str>);

impl AddPrefix {
    /// The prefix, not empty. A missing `/` at its begin is added.
    pub fn new(prefix: &str) -> Result<Self, String> {
        if prefix.is_empty() {
            return Err("prefix is empty: write a path such as /api".to_owned());
        }
        Ok(Self(prefix.into()))
    }

    pub(crate) fn enter(&self, request: &mut RequestHeader) -> Result<Flow<'static>, Unfit> {
        let path = format!("{}{}", self.0, target::path(request));
        target::set_path(request, &path)?;
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
            ("/a%2Fb", "/c%20d", "/a%2Fb/c%20d"),
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
