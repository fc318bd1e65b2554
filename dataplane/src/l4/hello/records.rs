//! The records in which a message lies (RFC 8446 section 5.1).

use std::borrow::Cow;

use super::{Fault, HANDSHAKE, MAJOR, MAX_BYTES};

/// Before each record: type, version, length.
const HEADER: usize = 5;
/// Longest content of a record.
const MAX_CONTENT: usize = 1 << 14;

/// A handshake record of which at least the header has arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    begin: usize,
    /// Where the next one begins.
    pub(super) end: usize,
}

/// The record at a position that is in `bytes` or at their end. `Ok(Err(_))`: so many bytes of its header are missing.
pub(super) fn at(bytes: &[u8], position: usize) -> Result<Result<Record, usize>, Fault> {
    let begin = position + HEADER;
    if begin >= MAX_BYTES {
        return Err(Fault::TooLong);
    }
    let Some(header) = bytes.get(position..begin) else {
        return Ok(Err(begin - bytes.len()));
    };
    let &[HANDSHAKE, MAJOR, _, high, low] = header else {
        return Err(Fault::Record);
    };
    match usize::from(u16::from_be_bytes([high, low])) {
        0 => Err(Fault::Record),
        length if length > MAX_CONTENT => Err(Fault::Record),
        length if begin + length > MAX_BYTES => Err(Fault::TooLong),
        length => Ok(Ok(Record {
            begin,
            end: begin + length,
        })),
    }
}

impl Record {
    /// What has arrived of its content.
    pub(super) fn content<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        bytes
            .get(self.begin..self.end.min(bytes.len()))
            .unwrap_or_default()
    }

    /// Bytes of its content that have not arrived.
    pub(super) fn missing(&self, bytes: &[u8]) -> usize {
        self.end.saturating_sub(bytes.len())
    }
}

/// The first `count` bytes of the message, all of which have arrived; copied only when they lie in several records.
pub(super) fn join(bytes: &[u8], count: usize) -> Cow<'_, [u8]> {
    let mut joined = Vec::new();
    let mut position = 0;
    while let Ok(Ok(record)) = at(bytes, position) {
        let content = record.content(bytes);
        let wanted = content.get(..count - joined.len()).unwrap_or(content);
        if wanted.len() == count {
            return Cow::Borrowed(wanted);
        }
        if joined.is_empty() {
            joined.reserve_exact(count);
        }
        joined.extend_from_slice(wanted);
        if joined.len() == count {
            break;
        }
        position = record.end;
    }
    Cow::Owned(joined)
}
