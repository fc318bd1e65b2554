//! Names of headers as they are written over HTTP/1, which some back ends and clients look at.

use bytes::Bytes;
use http::HeaderName;

/// The name of a header with capitals at the begin of its words, as Go writes names.
#[derive(Clone, Debug)]
pub(crate) struct FieldName {
    pub(crate) name: HeaderName,
    pub(crate) written: Bytes,
}

impl FieldName {
    /// `None` when it is no name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        HeaderName::from_bytes(text.as_bytes()).ok().map(Self::of)
    }

    pub(crate) fn of(name: HeaderName) -> Self {
        let mut written = name.as_str().to_owned().into_bytes();
        let mut begin = true;
        for byte in &mut written {
            if begin {
                byte.make_ascii_uppercase();
            }
            begin = *byte == b'-';
        }
        Self {
            name,
            written: written.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_go_writes_them() {
        for (text, written) in [
            ("x-lower-case", "X-Lower-Case"),
            ("X-UPPER", "X-Upper"),
            ("etag", "Etag"),
        ] {
            assert_eq!(FieldName::parse(text).unwrap().written, written.as_bytes());
        }
        assert!(FieldName::parse("X Y").is_none());
    }
}
