//! A document as it is sent: bytes, the same packed, and a tag by which both are known.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderValue;

use super::document::Document;

/// A document with its bytes.
#[derive(Clone, Debug)]
pub(super) struct Rendered {
    pub(super) document: Document,
    pub(super) bytes: Bytes,
    /// The same, as gzip.
    pub(super) packed: Bytes,
    /// Strong: the same bytes, the same tag.
    pub(super) tag: HeaderValue,
}

impl Rendered {
    pub(super) fn of(document: Document) -> Self {
        let text = document.text();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        // Writing to memory does not fail; what could not be packed is sent as it is.
        let packed = encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish());
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        let short: String = digest
            .as_ref()
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let tag = HeaderValue::try_from(format!("\"{short}\"")).unwrap_or(HeaderValue::from_static("\"\""));
        Self {
            document,
            packed: packed.unwrap_or_default().into(),
            bytes: text.into_bytes().into(),
            tag,
        }
    }

    pub(super) fn tag(&self) -> &str {
        self.tag.to_str().unwrap_or_default()
    }
}
