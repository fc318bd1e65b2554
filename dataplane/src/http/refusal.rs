//! Requests that are refused on the wire: why, with which status, in which words.
//!
//! A refusal is decided before anything reaches a back end, is written by the connection itself and ends it.

use crate::metrics::Refusal as Label;

/// Why the bytes of a client are not a request that may be forwarded.
///
/// Source of the rules: RFC 9112 sections 2.2 (lines), 3 (request line), 5 (fields), 6 and 7 (framing); where the RFC
/// leaves a choice between repairing and refusing, a proxy that repairs is half of every smuggling attack, so we refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// A line that ends in LF without CR.
    BareLf,
    /// CR without LF after it.
    BareCr,
    /// NUL or another control character.
    Control,
    /// A byte beyond ASCII where the grammar has none.
    NonAscii,
    /// Not `METHOD SP TARGET SP VERSION`; also HTTP/0.9 and spaces in the target.
    RequestLine,
    /// A method that is not a token.
    Method,
    /// A method longer than any that exists.
    MethodUnknown,
    /// CONNECT: this is not a forward proxy.
    Connect,
    /// A version that is not `HTTP/` digit `.` digit.
    Version,
    /// A well-formed version other than 1.0 and 1.1.
    VersionUnsupported,
    /// Neither `/path`, nor `http(s)://authority/path`, nor `OPTIONS *`.
    Target,
    /// `#` in the target.
    Fragment,
    /// The request line exceeds the limit.
    TargetTooLong,
    /// The header section exceeds the limit of bytes.
    HeadTooLarge,
    /// The header section exceeds the limit of lines.
    TooManyHeaders,
    /// A header line without a colon or with an empty or illegal name.
    HeaderName,
    /// White space between name and colon, which parsers read in different ways.
    SpaceBeforeColon,
    /// A header line that continues the previous one (obsolete folding).
    Folding,
    /// HTTP/1.1 without `Host`.
    HostMissing,
    /// More than one `Host`.
    HostRepeated,
    /// A `Host` that can't name a host.
    HostInvalid,
    /// `Host` differs from the authority of an absolute target, or `:authority`.
    HostMismatch,
    /// `Content-Length` that is not one unsigned decimal number, or is repeated.
    ContentLength,
    /// `Content-Length` beside `Transfer-Encoding`.
    ContentLengthAndTransferEncoding,
    /// `Transfer-Encoding` that does not end the message, is repeated, or comes with HTTP/1.0.
    TransferEncoding,
    /// A transfer coding before the final `chunked`, which we do not implement.
    TransferCoding,
    /// `Expect` other than `100-continue`.
    Expectation,
    /// A chunk-size line that is not a hexadecimal number, or one with too long extensions.
    ChunkSize,
    /// Chunk data that is not followed by CRLF.
    ChunkEnd,
    /// The declared or received body exceeds the limit.
    BodyTooLarge,
    /// The header section did not arrive in time.
    HeaderTimeout,
    /// The connection's TLS options are not those of the requested host.
    Misdirected,
    /// A percent sign that starts no escape, or another path that can't be normalised.
    Path,
    /// The body came too slowly.
    BodyTooSlow,
    /// The client does more of something than any client needs. There are no words for it: HTTP/2 has GOAWAY, and a
    /// client that does not read can't be told.
    Calm(Label),
    /// More options in `Connection` than any client sends, or one that is not a token.
    ConnectionOptions,
}

impl Refusal {
    /// The status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Self::Connect => 405,
            Self::HeaderTimeout | Self::BodyTooSlow => 408,
            Self::BodyTooLarge => 413,
            Self::TargetTooLong => 414,
            Self::Expectation => 417,
            Self::Misdirected => 421,
            Self::HeadTooLarge | Self::TooManyHeaders => 431,
            Self::MethodUnknown | Self::TransferCoding => 501,
            Self::VersionUnsupported => 505,
            _ => 400,
        }
    }

    /// The reason phrase of [`Self::status`].
    pub fn reason(self) -> &'static str {
        match self.status() {
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            413 => "Content Too Large",
            414 => "URI Too Long",
            417 => "Expectation Failed",
            421 => "Misdirected Request",
            431 => "Request Header Fields Too Large",
            501 => "Not Implemented",
            505 => "HTTP Version Not Supported",
            _ => "Bad Request",
        }
    }

    /// What the client is told.
    pub fn text(self) -> &'static str {
        match self {
            Self::BareLf => "a line ends without a carriage return",
            Self::BareCr => "a carriage return without a line feed",
            Self::Control => "a control character in the request",
            Self::NonAscii => "a byte outside of ASCII in the request line or a header name",
            Self::RequestLine => "malformed request line",
            Self::Method => "malformed method",
            Self::MethodUnknown => "unknown method",
            Self::Connect => "CONNECT is not offered",
            Self::Version => "malformed HTTP version",
            Self::VersionUnsupported => "unsupported HTTP version",
            Self::Target => "malformed request target",
            Self::Fragment => "a fragment in the request target",
            Self::TargetTooLong => "the request target is too long",
            Self::HeadTooLarge => "the request headers are too large",
            Self::TooManyHeaders => "too many request headers",
            Self::HeaderName => "malformed header line",
            Self::SpaceBeforeColon => "white space before the colon of a header",
            Self::Folding => "a folded header line",
            Self::HostMissing => "missing Host header",
            Self::HostRepeated => "more than one Host header",
            Self::HostInvalid => "malformed Host header",
            Self::HostMismatch => "the Host header differs from the request target",
            Self::ContentLength => "malformed Content-Length header",
            Self::ContentLengthAndTransferEncoding => "both Content-Length and Transfer-Encoding",
            Self::TransferEncoding => "malformed Transfer-Encoding header",
            Self::TransferCoding => "unsupported transfer coding",
            Self::Expectation => "unsupported expectation",
            Self::ChunkSize => "malformed chunk size",
            Self::ChunkEnd => "malformed chunk",
            Self::BodyTooLarge => "the request body is too large",
            Self::HeaderTimeout => "the request headers did not arrive in time",
            Self::BodyTooSlow => "the request body came too slowly",
            Self::Calm(_) => "too much of it",
            Self::Misdirected => "the requested host needs a connection of its own",
            Self::Path => "malformed path",
            Self::ConnectionOptions => "malformed Connection header",
        }
    }

    /// The reason in metrics.
    pub fn label(self) -> Label {
        match self {
            Self::Connect | Self::Method | Self::MethodUnknown => Label::Method,
            Self::VersionUnsupported | Self::Version => Label::Version,
            Self::TargetTooLong => Label::UriTooLong,
            Self::HeadTooLarge => Label::HeaderTooLarge,
            Self::TooManyHeaders => Label::TooManyHeaders,
            Self::HostMissing | Self::HostRepeated | Self::HostInvalid | Self::HostMismatch => Label::Host,
            Self::ContentLength
            | Self::ContentLengthAndTransferEncoding
            | Self::TransferEncoding
            | Self::ChunkSize
            | Self::ChunkEnd => Label::Framing,
            Self::TransferCoding | Self::Expectation => Label::Unsupported,
            Self::BodyTooLarge => Label::BodyTooLarge,
            Self::HeaderTimeout => Label::HeaderTimeout,
            Self::BodyTooSlow => Label::SlowBody,
            Self::Calm(label) => label,
            Self::Misdirected => Label::Misdirected,
            Self::Path | Self::Fragment => Label::Path,
            _ => Label::Malformed,
        }
    }

    /// The whole answer as it goes on the wire.
    pub fn to_wire(self) -> Vec<u8> {
        let body = self.text();
        let status = self.status();
        let allow = if status == 405 {
            "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE\r\n"
        } else {
            ""
        };
        format!(
            "HTTP/1.1 {status} {}\r\n{allow}Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}\n",
            self.reason(),
            body.len() + 1,
        )
        .into_bytes()
    }
}
