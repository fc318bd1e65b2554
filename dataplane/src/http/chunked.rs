//! The chunked coding on the wire: a validator that follows the stream and knows where it ends.
//!
//! It does not decode. It makes sure that whoever decodes later can read the bytes in one way only (RFC 9112
//! section 7.1), and says how many of them belong to the message.

use super::head::{HeadLimits, split_header};
use super::refusal::Refusal;

/// Longest chunk-size line, extensions included. Nobody sends extensions but attackers; the line is still bounded
/// rather than forbidden, as RFC 9112 section 7.1.1 asks recipients to ignore them.
const MAX_SIZE_LINE: usize = 256;
/// All chunk extensions of one body together, against bodies that are mostly extensions.
const MAX_EXTENSIONS: usize = 8 * 1024;
/// Hexadecimal digits of a chunk size: below 2^60.
const MAX_DIGITS: usize = 15;

/// Follows one chunked body.
#[derive(Debug)]
pub struct ChunkScanner {
    state: State,
    /// Line collected so far (size line or trailer), never longer than its limit.
    line: Vec<u8>,
    data: u64,
    extensions: usize,
    trailer_bytes: usize,
    trailer_lines: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Data(u64),
    DataCr,
    DataLf,
    Trailer,
    Done,
}

/// What a look at the next bytes of a chunked body said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkProgress {
    /// How many of the bytes belong to the body and are sound.
    pub taken: usize,
    /// Whether the body ends with them.
    pub done: bool,
}

impl Default for ChunkScanner {
    fn default() -> Self {
        Self {
            state: State::Size,
            line: Vec::new(),
            data: 0,
            extensions: 0,
            trailer_bytes: 0,
            trailer_lines: 0,
        }
    }
}

impl ChunkScanner {
    /// Takes the next bytes of the body; those after its end are left alone.
    pub fn scan(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<ChunkProgress, Refusal> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|r| !r.is_empty()) {
            match self.state {
                State::Done => break,
                State::Data(left) => {
                    let here = u64::try_from(rest.len()).unwrap_or(u64::MAX).min(left);
                    at += usize::try_from(here).unwrap_or(rest.len());
                    self.state = if here == left {
                        State::DataCr
                    } else {
                        State::Data(left - here)
                    };
                }
                State::DataCr => {
                    if rest.first() != Some(&b'\r') {
                        return Err(Refusal::ChunkEnd);
                    }
                    at += 1;
                    self.state = State::DataLf;
                }
                State::DataLf => {
                    if rest.first() != Some(&b'\n') {
                        return Err(Refusal::ChunkEnd);
                    }
                    at += 1;
                    self.state = State::Size;
                }
                State::Size | State::Trailer => {
                    let (used, complete) = self.line(rest, limits)?;
                    at += used;
                    if complete {
                        let line = std::mem::take(&mut self.line);
                        self.end_of_line(&line, limits)?;
                        self.line = line;
                        self.line.clear();
                    }
                }
            }
        }
        Ok(ChunkProgress {
            taken: at,
            done: self.state == State::Done,
        })
    }

    /// Bytes of chunk data that follow, when the scanner stands inside a chunk.
    pub fn data_left(&self) -> Option<u64> {
        match self.state {
            State::Data(left) => Some(left),
            _ => None,
        }
    }

    /// `count` bytes of chunk data, at most [`Self::data_left`], went by unseen.
    pub fn passed(&mut self, count: u64) {
        if let State::Data(left) = self.state {
            self.state = match left.saturating_sub(count) {
                0 => State::DataCr,
                left => State::Data(left),
            };
        }
    }

    /// Collects bytes up to CRLF; the line in `self.line` is without it.
    fn line(&mut self, rest: &[u8], limits: &HeadLimits) -> Result<(usize, bool), Refusal> {
        let (max, error) = match self.state {
            State::Size => (MAX_SIZE_LINE, Refusal::ChunkSize),
            _ => (
                limits.bytes.saturating_sub(self.trailer_bytes),
                Refusal::HeadTooLarge,
            ),
        };
        for (used, byte) in rest.iter().copied().enumerate() {
            let after_cr = self.line.last() == Some(&b'\r');
            match byte {
                b'\n' if after_cr => {
                    self.line.pop();
                    return Ok((used + 1, true));
                }
                b'\n' => return Err(Refusal::BareLf),
                _ if after_cr => return Err(Refusal::BareCr),
                b'\r' | b'\t' => {}
                0..=0x1f | 0x7f => return Err(Refusal::Control),
                _ => {}
            }
            if self.line.len() >= max {
                return Err(error);
            }
            self.line.push(byte);
        }
        Ok((rest.len(), false))
    }

    fn end_of_line(&mut self, line: &[u8], limits: &HeadLimits) -> Result<(), Refusal> {
        if self.state == State::Size {
            return self.size(line, limits);
        }
        if line.is_empty() {
            self.state = State::Done;
            return Ok(());
        }
        self.trailer_lines += 1;
        self.trailer_bytes += line.len() + 2;
        if self.trailer_lines > limits.lines {
            return Err(Refusal::TooManyHeaders);
        }
        let (name, _) = split_header(line)?;
        // Fields that frame or route a message are never allowed after it (RFC 9110 section 6.5.1).
        let framing: [&[u8]; 3] = [b"content-length", b"transfer-encoding", b"host"];
        if framing.iter().any(|f| name.eq_ignore_ascii_case(f)) {
            return Err(Refusal::HeaderName);
        }
        Ok(())
    }

    fn size(&mut self, line: &[u8], limits: &HeadLimits) -> Result<(), Refusal> {
        let digits = line
            .iter()
            .position(|b| !b.is_ascii_hexdigit())
            .unwrap_or(line.len());
        let (number, extension) = (
            line.get(..digits).unwrap_or_default(),
            line.get(digits..).unwrap_or_default(),
        );
        // Blanks before an extension are obsolete grammar ("BWS") that parsers disagree on: only `;` may follow.
        if number.is_empty() || number.len() > MAX_DIGITS || !matches!(extension.first(), None | Some(b';')) {
            return Err(Refusal::ChunkSize);
        }
        self.extensions += extension.len();
        if self.extensions > MAX_EXTENSIONS {
            return Err(Refusal::ChunkSize);
        }
        let size = std::str::from_utf8(number)
            .ok()
            .and_then(|n| u64::from_str_radix(n, 16).ok())
            .ok_or(Refusal::ChunkSize)?;
        self.data = self.data.saturating_add(size);
        if limits.body.is_some_and(|max| self.data > max) {
            return Err(Refusal::BodyTooLarge);
        }
        self.state = if size == 0 {
            State::Trailer
        } else {
            State::Data(size)
        };
        Ok(())
    }
}
