//! `compress`: bodies of responses in fewer bytes.
//!
//! Which encoding is the client's to choose ([`negotiation`]); whether the response is worth it shows in its head. A body
//! of known length is compressed from `minResponseBodyBytes` on. One of unknown length always is, as it may be a stream
//! that goes on for hours: waiting for the first kilobyte of it could mean waiting for ever. What an [`Encoder`] holds back
//! goes on when the back end pauses.

mod encoder;
mod negotiation;

use std::sync::Arc;

use http::Method;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap,
    HeaderValue, VARY,
};
use pingora_http::{RequestHeader, ResponseHeader};

use crate::{After, Flow, Later, Unfit};
use encoder::Encoder;
use negotiation::{Choice, choose};

/// What is compressed from when no limit is given, bytes.
const MIN_BODY: u64 = 1024;

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// `br`.
    Brotli,
    /// `gzip`.
    Gzip,
    /// `zstd`.
    Zstd,
}

impl Encoding {
    fn parse(text: &str) -> Option<Self> {
        [Self::Brotli, Self::Gzip, Self::Zstd]
            .into_iter()
            .find(|encoding| encoding.name() == text)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// The options of [`Compress`], as written.
#[derive(Debug, Default)]
pub struct CompressOptions<'o> {
    /// Preferred first; empty: `gzip`, `br`, `zstd`.
    pub encodings: &'o [String],
    /// What clients get that send no `Accept-Encoding`; empty: nothing.
    pub default_encoding: &'o str,
    /// Types that stay as they are. Not together with `included`.
    pub excluded: &'o [String],
    /// The only types that are compressed.
    pub included: &'o [String],
    /// Shorter bodies stay as they are; 0 or below: 1024.
    pub min_body: i64,
}

/// Compresses responses.
#[derive(Debug)]
pub struct Compress(Arc<Options>);

#[derive(Debug)]
struct Options {
    encodings: Box<[Encoding]>,
    default: Option<Encoding>,
    excluded: Box<[Box<str>]>,
    included: Box<[Box<str>]>,
    min_body: u64,
}

impl Compress {
    /// Compiles the options.
    pub fn new(options: &CompressOptions<'_>) -> Result<Self, String> {
        let read = |option: &str, text: &str| {
            Encoding::parse(text).ok_or_else(|| format!("{option} has {text:?}: write gzip, br or zstd"))
        };
        let mut encodings = Vec::new();
        for text in options.encodings {
            encodings.push(read("encodings", text)?);
        }
        if encodings.is_empty() {
            encodings = vec![Encoding::Gzip, Encoding::Brotli, Encoding::Zstd];
        }
        let default = match options.default_encoding {
            "" => None,
            text => Some(read("defaultEncoding", text)?),
        };
        if let Some(default) = default.filter(|default| !encodings.contains(default)) {
            return Err(format!(
                "defaultEncoding {:?} is not one of encodings: add it there, or choose another",
                default.name()
            ));
        }
        if !options.excluded.is_empty() && !options.included.is_empty() {
            return Err(
                "excludedContentTypes and includedContentTypes exclude each other: keep one of them"
                    .to_owned(),
            );
        }
        let types = |option: &str, texts: &[String]| {
            let read = |text: &String| {
                listed_type(text)
                    .map(Into::into)
                    .ok_or_else(|| format!("{option} has {text:?}: write a media type such as text/html"))
            };
            texts.iter().map(read).collect::<Result<Box<[Box<str>]>, _>>()
        };
        Ok(Self(Arc::new(Options {
            encodings: encodings.into(),
            default,
            excluded: types("excludedContentTypes", options.excluded)?,
            included: types("includedContentTypes", options.included)?,
            min_body: u64::try_from(options.min_body)
                .ok()
                .filter(|min| *min > 0)
                .unwrap_or(MIN_BODY),
        })))
    }

    pub(crate) fn enter(&self, request: &RequestHeader) -> Flow<'static> {
        let options = &self.0;
        let of_request = request.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let skipped = |kind: String| is_grpc(&kind) || options.excluded.iter().any(|known| **known == *kind);
        if request.method == Method::HEAD || of_request.and_then(media_type).is_some_and(skipped) {
            return Flow::Next;
        }
        match choose(&request.headers, &options.encodings, options.default) {
            Choice::Identity => Flow::Next,
            Choice::Encoding(encoding) => {
                let named = encoding != Encoding::Gzip || negotiation::names_gzip(&request.headers);
                Flow::Later(Later::Compress(CompressResponse {
                    options: options.clone(),
                    // Whoever does not name gzip gets none, though another one could take its place.
                    encoding: named.then_some(encoding),
                }))
            }
        }
    }
}

/// Compresses one response.
#[derive(Debug)]
pub struct CompressResponse {
    options: Arc<Options>,
    /// `None`: the response only says that it differs by what clients accept.
    encoding: Option<Encoding>,
}

impl CompressResponse {
    /// Says that the response differs by `Accept-Encoding`, before others change what it says of that.
    pub(crate) fn announce(response: &mut ResponseHeader) -> Result<(), Unfit> {
        match response.status.as_u16() {
            101 => Ok(()),
            _ => say_vary(response),
        }
    }

    pub(crate) fn leave(&self, response: &mut ResponseHeader, bodiless: bool) -> Result<After, Unfit> {
        if response.status.as_u16() == 101 {
            return Ok(After::Next);
        }
        let Some(encoding) = self.encoding.filter(|_| !bodiless && self.is_worth_it(response)) else {
            return Ok(After::Next);
        };
        let Some(encoder) = Encoder::start(encoding)? else {
            // Too many at once.
            return Ok(After::Next);
        };
        response.insert_header("Content-Encoding", encoding.name())?;
        response.remove_header(&CONTENT_LENGTH);
        if encoding == Encoding::Gzip {
            response.remove_header("accept-ranges");
        }
        Ok(After::Transform(Box::new(encoder)))
    }

    fn is_worth_it(&self, response: &ResponseHeader) -> bool {
        let headers = &response.headers;
        let encoded = headers
            .get(CONTENT_ENCODING)
            .is_some_and(|value| !value.is_empty());
        if encoded
            || headers.contains_key(CONTENT_RANGE)
            || matches!(response.status.as_u16(), 204 | 206 | 304)
        {
            return false;
        }
        if is_not_to_be_changed(headers) {
            return false;
        }
        let length = headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length < self.options.min_body) {
            return false;
        }
        let kind = headers
            .get(CONTENT_TYPE)
            .map(HeaderValue::as_bytes)
            .filter(|kind| !kind.is_empty());
        let kind = match kind {
            None => return self.options.included.is_empty(),
            Some(kind) => match media_type(kind) {
                None => return false,
                Some(kind) => kind,
            },
        };
        let listed = |list: &[Box<str>]| list.iter().any(|known| **known == *kind);
        !is_grpc(&kind)
            && !listed(&self.options.excluded)
            && (self.options.included.is_empty() || listed(&self.options.included))
    }
}

/// Whether the back end says that nobody on the way may change the body (RFC 9111 section 5.2.2.6).
fn is_not_to_be_changed(headers: &HeaderMap) -> bool {
    let directives = headers.get_all(CACHE_CONTROL).iter();
    directives
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .any(|directive| directive.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
}

/// Says first of all that the response differs by `Accept-Encoding`.
fn say_vary(response: &mut ResponseHeader) -> Result<(), Unfit> {
    let before: Vec<HeaderValue> = response.headers.get_all(VARY).iter().cloned().collect();
    response.insert_header("Vary", "Accept-Encoding")?;
    for line in before {
        response.append_header("Vary", line)?;
    }
    Ok(())
}

/// The media type without parameters, in lower case; `None` when it is none.
fn media_type(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    let kind = text.split(';').next()?.trim().to_ascii_lowercase();
    let (kind_of, subtype) = kind.split_once('/')?;
    let plain =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    (plain(kind_of) && plain(subtype)).then_some(kind)
}

/// What stands in a list of types. A single word is no media type, and no response is of that type; but nothing is wrong
/// with the others.
fn listed_type(text: &str) -> Option<String> {
    media_type(text.as_bytes()).or_else(|| {
        let word = text.split(';').next()?.trim().to_ascii_lowercase();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        (!word.is_empty() && word.bytes().all(plain)).then_some(word)
    })
}

fn is_grpc(kind: &str) -> bool {
    kind == "application/grpc"
}

/// All values of `Accept-Encoding` as one list.
fn accepted(headers: &HeaderMap) -> Option<String> {
    let mut lines = headers.get_all(ACCEPT_ENCODING).iter().peekable();
    lines.peek()?;
    let texts: Vec<&str> = lines.map(|line| line.to_str().unwrap_or_default()).collect();
    Some(texts.join(","))
}

#[cfg(test)]
mod tests;
