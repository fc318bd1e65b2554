//! The request head on the wire: an incremental, strict validator that runs before any lenient parser sees a byte.
//!
//! Pure: bytes in, verdict out. The caller owns the buffer and hands in everything received since the head began;
//! [`HeadScanner`] remembers how far it has looked, so the verdict is the same wherever the bytes were cut.

use constellation_table::host;
use http::uri::Authority;

use super::refusal::Refusal;

/// Limits of one head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Request line and headers together, bytes.
    pub bytes: usize,
    /// Header lines.
    pub lines: usize,
    /// Longest declared body.
    pub body: Option<u64>,
}

/// Longest request target: what `http::Uri` can hold (it counts in 16 bits).
const MAX_TARGET: usize = 65_534;
/// Longest method; the longest registered one (`UPDATEREDIRECTREF`) has 17 letters.
const MAX_METHOD: usize = 32;
/// Empty lines tolerated before a request line (RFC 9112 section 2.2 asks for at least one).
const MAX_EMPTY_LINES: usize = 2;

/// How the body that follows a head is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// No body.
    None,
    /// That many bytes, at least one.
    Length(u64),
    /// Chunked coding.
    Chunked,
}

/// A head that may be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its length, including leading empty lines and the final one.
    pub len: usize,
    /// What follows.
    pub body: BodyFraming,
}

/// Looks at a growing head.
#[derive(Debug, Default)]
pub struct HeadScanner {
    /// Where the first unfinished line starts.
    line: usize,
    /// How far the unfinished line was searched for forbidden bytes.
    searched: usize,
    empty_lines: usize,
    lines: usize,
    request_line: Option<RequestLine>,
    host: Option<(usize, usize)>,
    content_length: Option<u64>,
    chunked: bool,
    transfer_encoding: bool,
}

#[derive(Clone, Copy, Debug)]
struct RequestLine {
    http_10: bool,
    /// The authority of an absolute target, as positions in the head.
    authority: Option<(usize, usize)>,
}

impl HeadScanner {
    /// Whether nothing but tolerated empty lines arrived so far.
    pub fn is_fresh(&self) -> bool {
        self.request_line.is_none() && self.line == self.searched
    }

    /// Looks at `head`, which starts where the head starts and only ever grows. `Ok(None)`: more bytes are needed.
    pub fn scan(&mut self, head: &[u8], limits: &HeadLimits) -> Result<Option<Head>, Refusal> {
        loop {
            let rest = head.get(self.searched..).unwrap_or_default();
            let Some(stop) = rest.iter().position(|b| is_stop(*b, self.request_line.is_none())) else {
                self.searched = head.len();
                return self.unfinished(head.len(), limits);
            };
            let at = self.searched + stop;
            // With the CRLF that ends there.
            if at + 1 >= limits.bytes {
                return Err(self.too_large());
            }
            match head.get(at) {
                Some(b'\r') => match head.get(at + 1) {
                    None => {
                        self.searched = at;
                        return self.unfinished(head.len(), limits);
                    }
                    Some(b'\n') => {
                        let line = head.get(self.line..at).unwrap_or_default();
                        let start = self.line;
                        self.line = at + 2;
                        self.searched = at + 2;
                        if self.take_line(head, line, start, limits)? {
                            return self.finish(head, at + 2, limits).map(Some);
                        }
                    }
                    Some(_) => return Err(Refusal::BareCr),
                },
                Some(b'\n') => return Err(Refusal::BareLf),
                Some(b) if *b >= 0x80 => return Err(Refusal::NonAscii),
                _ => return Err(Refusal::Control),
            }
        }
    }

    /// No verdict from the bytes so far, unless there are too many of them.
    fn unfinished(&self, len: usize, limits: &HeadLimits) -> Result<Option<Head>, Refusal> {
        if len > limits.bytes {
            Err(self.too_large())
        } else {
            Ok(None)
        }
    }

    fn too_large(&self) -> Refusal {
        if self.request_line.is_none() {
            Refusal::TargetTooLong
        } else {
            Refusal::HeadTooLarge
        }
    }

    /// Takes one line without its CRLF; true at the end of the head.
    fn take_line(
        &mut self,
        head: &[u8],
        line: &[u8],
        start: usize,
        limits: &HeadLimits,
    ) -> Result<bool, Refusal> {
        if self.request_line.is_none() {
            if line.is_empty() {
                self.empty_lines += 1;
                return if self.empty_lines > MAX_EMPTY_LINES {
                    Err(Refusal::RequestLine)
                } else {
                    Ok(false)
                };
            }
            self.request_line = Some(request_line(line, start)?);
            return Ok(false);
        }
        if line.is_empty() {
            return Ok(true);
        }
        self.lines += 1;
        if self.lines > limits.lines {
            return Err(Refusal::TooManyHeaders);
        }
        self.header(head, line, start)?;
        Ok(false)
    }

    fn header(&mut self, head: &[u8], line: &[u8], start: usize) -> Result<(), Refusal> {
        let (name, value) = split_header(line)?;
        let value_start = start + line.len() - value.len();
        let value = trim(value);
        // Only four names matter here; the length sorts out nearly every other one.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                if self.host.is_some() {
                    return Err(Refusal::HostRepeated);
                }
                let text = std::str::from_utf8(value).map_err(|_| Refusal::HostInvalid)?;
                host::canonical(text).map_err(|_| Refusal::HostInvalid)?;
                let lead = head
                    .get(value_start..)
                    .map_or(0, |v| v.iter().take_while(|b| matches!(b, b' ' | b'\t')).count());
                self.host = Some((value_start + lead, value_start + lead + value.len()));
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                let http_10 = self.request_line.is_some_and(|r| r.http_10);
                if !http_10 && !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Refusal::Expectation);
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if self.content_length.is_some() {
                    return Err(Refusal::ContentLength);
                }
                self.content_length = Some(decimal(value).ok_or(Refusal::ContentLength)?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.transfer_encoding {
                    return Err(Refusal::TransferEncoding);
                }
                self.transfer_encoding = true;
                self.chunked = transfer_encoding(value)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// What only the whole head can tell.
    fn finish(&self, head: &[u8], len: usize, limits: &HeadLimits) -> Result<Head, Refusal> {
        let line = self.request_line.ok_or(Refusal::RequestLine)?;
        match (self.host, line.authority) {
            (None, _) if !line.http_10 => return Err(Refusal::HostMissing),
            (Some(host), Some(authority)) => {
                let (host, authority) = (head.get(host.0..host.1), head.get(authority.0..authority.1));
                // To the letter: pingora refuses another spelling as well.
                if host != authority {
                    return Err(Refusal::HostMismatch);
                }
            }
            _ => {}
        }
        if self.transfer_encoding {
            if self.content_length.is_some() {
                return Err(Refusal::ContentLengthAndTransferEncoding);
            }
            if line.http_10 || !self.chunked {
                return Err(Refusal::TransferEncoding);
            }
            return Ok(Head {
                len,
                body: BodyFraming::Chunked,
            });
        }
        match self.content_length {
            Some(length) if limits.body.is_some_and(|max| length > max) => Err(Refusal::BodyTooLarge),
            None | Some(0) => Ok(Head {
                len,
                body: BodyFraming::None,
            }),
            Some(length) => Ok(Head {
                len,
                body: BodyFraming::Length(length),
            }),
        }
    }
}

/// Bytes at which the search of a line stops: every control character but HTAB, and beyond ASCII in the request line.
fn is_stop(byte: u8, in_request_line: bool) -> bool {
    if in_request_line {
        !(0x20..0x7f).contains(&byte)
    } else {
        (byte < 0x20 && byte != b'\t') || byte == 0x7f
    }
}

fn request_line(line: &[u8], start: usize) -> Result<RequestLine, Refusal> {
    let mut parts = line.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::RequestLine);
    };
    if method.is_empty() || !method.iter().all(|b| is_token(*b)) {
        return Err(Refusal::Method);
    }
    if method.len() > MAX_METHOD {
        return Err(Refusal::MethodUnknown);
    }
    let http_10 = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Refusal::VersionUnsupported);
        }
        _ => return Err(Refusal::Version),
    };
    if method == b"CONNECT" {
        return Err(Refusal::Connect);
    }
    if target.len() > MAX_TARGET {
        return Err(Refusal::TargetTooLong);
    }
    if target.contains(&b'#') {
        return Err(Refusal::Fragment);
    }
    if !is_spelled_out(target) {
        return Err(Refusal::Target);
    }
    let authority = match target {
        [b'/', ..] => None,
        b"*" if method == b"OPTIONS" => None,
        _ => {
            let scheme = [&b"http://"[..], &b"https://"[..]]
                .iter()
                .find(|s| target.get(..s.len()).is_some_and(|t| t.eq_ignore_ascii_case(s)))
                .map(|s| s.len())
                .ok_or(Refusal::Target)?;
            let rest = target.get(scheme..).unwrap_or_default();
            let end = rest
                .iter()
                .position(|b| matches!(b, b'/' | b'?'))
                .unwrap_or(rest.len());
            let name = rest.get(..end).unwrap_or_default();
            let text = std::str::from_utf8(name).map_err(|_| Refusal::Target)?;
            host::canonical(text).map_err(|_| Refusal::Target)?;
            // The URI type behind us takes no escapes in a host.
            Authority::try_from(name).map_err(|_| Refusal::Target)?;
            let at = start + method.len() + 1 + scheme;
            Some((at, at + end))
        }
    };
    Ok(RequestLine { http_10, authority })
}

/// Whether a target has no character that must be escaped and that the URI type behind us can't hold bare.
fn is_spelled_out(target: &[u8]) -> bool {
    let query = target.iter().position(|b| *b == b'?').unwrap_or(target.len());
    let (path, query) = target.split_at(query);
    !path.iter().any(|b| matches!(b, b'<' | b'>' | b'`'))
        && !query.iter().any(|b| matches!(b, b'<' | b'>' | b'"'))
}

/// Splits a header or trailer line at its colon and checks the name; the value is not trimmed.
pub(super) fn split_header(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Refusal::Folding);
    }
    let colon = line.iter().position(|b| *b == b':').ok_or(Refusal::HeaderName)?;
    let (name, value) = (
        line.get(..colon).unwrap_or_default(),
        line.get(colon + 1..).unwrap_or_default(),
    );
    if matches!(name.last(), Some(b' ' | b'\t')) {
        return Err(Refusal::SpaceBeforeColon);
    }
    if name.is_empty() || !name.iter().all(|b| is_token(*b)) {
        return Err(Refusal::HeaderName);
    }
    Ok((name, value))
}

/// Whether `value` is the one transfer coding we implement.
///
/// Only exactly `chunked` (in any case) goes on. A list whose last coding is not `chunked`, or that names it twice,
/// leaves the end of the message open (RFC 9112 section 6.3): 400. Another coding before the final `chunked` is framed
/// but unknown to us: 501.
fn transfer_encoding(value: &[u8]) -> Result<bool, Refusal> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(true);
    }
    let mut codings = value.split(|b| *b == b',').map(trim).rev();
    let last = codings.next().unwrap_or_default();
    if !last.eq_ignore_ascii_case(b"chunked") {
        return Err(Refusal::TransferEncoding);
    }
    if codings.all(|c| !c.is_empty() && c.iter().all(|b| is_token(*b)) && !c.eq_ignore_ascii_case(b"chunked"))
    {
        Err(Refusal::TransferCoding)
    } else {
        Err(Refusal::TransferEncoding)
    }
}

/// One unsigned decimal number of at most 19 digits, without sign, blanks or list.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn trim(value: &[u8]) -> &[u8] {
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let start = value.iter().position(|b| !blank(b)).unwrap_or(value.len());
    let end = value.iter().rposition(|b| !blank(b)).map_or(start, |e| e + 1);
    value.get(start..end).unwrap_or_default()
}

/// `tchar` of RFC 9110 section 5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
