//! `contentType`: a type for responses that have none, guessed from the first bytes as the WHATWG's MIME sniffing standard
//! describes and Go does it. A response of unknown length stays without: its head does not wait for its body.

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use pingora_http::ResponseHeader;

use crate::Unfit;

/// Most bytes that are looked at.
const LOOKED_AT: usize = 512;

/// Guesses the type of one response.
#[derive(Debug)]
pub struct DetectType;

impl DetectType {
    /// Whether the begin of the body is needed.
    pub(crate) fn looks_at_body(&self, response: &ResponseHeader) -> bool {
        let headers = &response.headers;
        let encoding = headers.get(CONTENT_ENCODING);
        headers.contains_key(CONTENT_LENGTH)
            && !headers.contains_key(CONTENT_TYPE)
            && encoding.is_none_or(|encoding| encoding.is_empty())
    }

    /// `first`: the begin of the body.
    pub(crate) fn leave(&self, response: &mut ResponseHeader, first: &[u8]) -> Result<(), Unfit> {
        if first.is_empty() || !self.looks_at_body(response) {
            return Ok(());
        }
        Ok(response.insert_header("Content-Type", detect(first))?)
    }
}

const HTML: &str = "text/html; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// Begins of HTML documents; a blank or `>` follows each.
const TAGS: [&[u8]; 17] = [
    b"<!DOCTYPE HTML",
    b"<HTML",
    b"<HEAD",
    b"<SCRIPT",
    b"<IFRAME",
    b"<H1",
    b"<DIV",
    b"<FONT",
    b"<TABLE",
    b"<A",
    b"<STYLE",
    b"<TITLE",
    b"<B",
    b"<BODY",
    b"<BR",
    b"<P",
    b"<!--",
];

/// Begins that say it all.
const BEGINS: [(&[u8], &str); 27] = [
    (b"%PDF-", "application/pdf"),
    (b"%!PS-Adobe-", "application/postscript"),
    (b"\x00\x00\x01\x00", "image/x-icon"),
    (b"\x00\x00\x02\x00", "image/x-icon"),
    (b"BM", "image/bmp"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"ID3", "audio/mpeg"),
    (b"OggS\x00", "application/ogg"),
    (b"MThd\x00\x00\x00\x06", "audio/midi"),
    (b"\x1a\x45\xdf\xa3", "video/webm"),
    (b"\x00\x01\x00\x00", "font/ttf"),
    (b"OTTO", "font/otf"),
    (b"ttcf", "font/collection"),
    (b"wOFF", "font/woff"),
    (b"wOF2", "font/woff2"),
    (b"\x1f\x8b\x08", "application/x-gzip"),
    (b"PK\x03\x04", "application/zip"),
    (b"Rar!\x1a\x07\x00", "application/x-rar-compressed"),
    (b"Rar!\x1a\x07\x01\x00", "application/x-rar-compressed"),
    (b"\x00asm", "application/wasm"),
    (b"\xfe\xff", "text/plain; charset=utf-16be"),
    (b"\xff\xfe", "text/plain; charset=utf-16le"),
    (b"\xef\xbb\xbf", PLAIN),
    (b"<?xml", "text/xml; charset=utf-8"),
];

/// Containers: their begin, and what stands at byte 8.
const CONTAINERS: [(&[u8], &[u8], &str); 4] = [
    (b"RIFF", b"WEBPVP", "image/webp"),
    (b"FORM", b"AIFF", "audio/aiff"),
    (b"RIFF", b"AVI ", "video/avi"),
    (b"RIFF", b"WAVE", "audio/wave"),
];

/// The type of what begins like this.
fn detect(data: &[u8]) -> &'static str {
    let data = data.get(..LOOKED_AT).unwrap_or(data);
    let blank = |byte: &u8| matches!(byte, b'\t' | b'\n' | 0x0c | b'\r' | b' ');
    let begin = data.iter().position(|byte| !blank(byte)).unwrap_or(data.len());
    let text = data.get(begin..).unwrap_or_default();
    if TAGS.iter().any(|tag| is_tag(text, tag)) {
        return HTML;
    }
    if text.starts_with(b"<?xml") {
        return "text/xml; charset=utf-8";
    }
    // A byte order mark counts from four bytes on.
    let mark = |begin: &[u8]| matches!(begin, b"\xfe\xff" | b"\xff\xfe" | b"\xef\xbb\xbf");
    let found = BEGINS
        .iter()
        .find(|(begin, _)| data.starts_with(begin) && (!mark(begin) || data.len() >= 4));
    if let Some((_, kind)) = found {
        return kind;
    }
    let holds = |at: usize, expected: &[u8]| data.get(at..at + expected.len()) == Some(expected);
    let found = CONTAINERS
        .iter()
        .find(|(begin, inner, _)| data.starts_with(begin) && holds(8, inner));
    if let Some((.., kind)) = found {
        return kind;
    }
    if holds(34, b"LP") {
        return "application/vnd.ms-fontobject";
    }
    if is_mp4(data) {
        return "video/mp4";
    }
    let binary = |byte: &u8| matches!(*byte, 0..=0x08 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f);
    if text.iter().any(binary) {
        return "application/octet-stream";
    }
    PLAIN
}

fn is_tag(text: &[u8], tag: &[u8]) -> bool {
    let Some((begin, rest)) = text.split_at_checked(tag.len()) else {
        return false;
    };
    begin.eq_ignore_ascii_case(tag) && matches!(rest.first(), Some(b' ' | b'>'))
}

/// Whether the first box is a file type that names MP4.
fn is_mp4(data: &[u8]) -> bool {
    let Some(size) = data.first_chunk::<4>().map(|size| u32::from_be_bytes(*size)) else {
        return false;
    };
    let Some(inner) = usize::try_from(size).ok().and_then(|size| data.get(..size)) else {
        return false;
    };
    if data.len() < 12 || size % 4 != 0 || inner.get(4..8) != Some(b"ftyp") {
        return false;
    }
    // The second word is a version.
    let brands = inner.get(8..).unwrap_or_default().chunks(4).enumerate();
    brands
        .filter(|(number, _)| *number != 1)
        .any(|(_, brand)| brand.starts_with(b"mp4"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_as_go_guesses_them() {
        let mut font = vec![1; 36];
        font[34..].copy_from_slice(b"LP");
        let cases: &[(&[u8], &str)] = &[
            (b"hi", PLAIN),
            (b"<html>", HTML),
            (b"<htmlx>", PLAIN),
            (b"  <!DOCTYPE html>x", HTML),
            (b"<!-- x", HTML),
            (b"<a", PLAIN),
            (b"\x89PNG\r\n\x1a\n", "image/png"),
            (b"{}", PLAIN),
            (b"\x00\x01", "application/octet-stream"),
            (b"%PDF-1", "application/pdf"),
            (b" <?xml", "text/xml; charset=utf-8"),
            (b"\xef\xbb\xbfx", PLAIN),
            (b"\xfe\xff\x00\x01", "text/plain; charset=utf-16be"),
            (b"\xff\xfe\x00\x01", "text/plain; charset=utf-16le"),
            (b"GIF89a", "image/gif"),
            (b"\x1f\x8b\x08", "application/x-gzip"),
            (b"RIFF\x01\x02\x03\x04WEBPVP8", "image/webp"),
            (b"RIFF\x01\x02\x03\x04WAVE", "audio/wave"),
            (b"\x00\x00\x00\x14ftypisom\x00\x00\x00\x00mp41", "video/mp4"),
            (b"\x00\x00\x00\x10ftypisommp41", "application/octet-stream"),
            (b"\x00asm", "application/wasm"),
            (&font, "application/vnd.ms-fontobject"),
            (b"text with \x1b escape", PLAIN),
        ];
        for (data, expected) in cases {
            assert_eq!(detect(data), *expected, "{}", String::from_utf8_lossy(data));
        }
    }

    #[test]
    fn only_what_has_no_type_gets_one() {
        const LENGTH: (&str, &str) = ("Content-Length", "2");
        // headers, first bytes, type after
        type Case = (
            &'static [(&'static str, &'static str)],
            &'static [u8],
            Option<&'static str>,
        );
        let cases: &[Case] = &[
            (&[LENGTH], b"hi", Some(PLAIN)),
            (&[LENGTH], b"", None),
            (&[], b"hi", None),
            (&[LENGTH, ("Content-Type", "")], b"hi", Some("")),
            (&[LENGTH, ("Content-Type", "a/b")], b"hi", Some("a/b")),
            (&[LENGTH, ("Content-Encoding", "gzip")], b"hi", None),
            (&[LENGTH, ("Content-Encoding", "")], b"hi", Some(PLAIN)),
        ];
        for (headers, first, expected) in cases {
            let mut response = ResponseHeader::build(200, None).unwrap();
            for (name, value) in *headers {
                response.append_header(*name, *value).unwrap();
            }
            DetectType.leave(&mut response, first).unwrap();
            let got = response
                .headers
                .get(CONTENT_TYPE)
                .map(|value| value.to_str().unwrap());
            assert_eq!(got, *expected, "{headers:?}");
        }
    }
}
