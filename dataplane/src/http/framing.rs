//! The bytes of one HTTP/1 connection, request by request: what may be handed on, what must wait, what is refused.
//!
//! Pure, like the scanners it drives. The connection pushes what it received and takes what was found sound. Bytes of
//! the next request stay here until the current one is finished, so that whoever reads never sees past its end.

use tokio::io::ReadBuf;

use super::chunked::ChunkScanner;
use super::head::{BodyFraming, HeadLimits, HeadScanner};
use super::refusal::Refusal;

/// Below this a body is copied through the buffer; above it, it goes straight to the reader.
const DIRECT: u64 = 16 * 1024;

/// The requests of one connection.
#[derive(Debug)]
pub struct RequestStream {
    limits: HeadLimits,
    phase: Phase,
    /// Received and not yet taken. The first `sound` bytes may be taken.
    buffer: Vec<u8>,
    start: usize,
    sound: usize,
}

#[derive(Debug)]
enum Phase {
    Head(HeadScanner),
    Length(u64),
    Chunked(ChunkScanner),
    /// The request is complete; what follows belongs to the next one.
    Complete,
    /// Not HTTP/1 (any more): everything passes.
    Raw,
}

/// What the connection should do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Sound bytes wait to be taken.
    Take,
    /// More bytes are needed.
    Read,
    /// The next so many bytes are body and need no look: read them straight to where they go.
    Direct(u64),
    /// The request is complete; wait for its end.
    Wait,
    /// Everything passes.
    Raw,
}

impl RequestStream {
    /// Starts before the first head, with bytes that were received already.
    pub fn new(limits: HeadLimits, received: Vec<u8>) -> Self {
        Self {
            limits,
            phase: Phase::Head(HeadScanner::default()),
            buffer: received,
            start: 0,
            sound: 0,
        }
    }

    /// A connection that is not HTTP/1: everything passes.
    pub fn raw(limits: HeadLimits, received: Vec<u8>) -> Self {
        Self {
            phase: Phase::Raw,
            ..Self::new(limits, received)
        }
    }

    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// How many bytes are held.
    pub fn held(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Whether no byte of the next head arrived yet.
    pub fn is_between_requests(&self) -> bool {
        match &self.phase {
            Phase::Head(scanner) => scanner.is_fresh() && self.held() == 0,
            Phase::Complete => self.held() == 0,
            _ => false,
        }
    }

    /// Whether a head is being received.
    pub fn is_in_head(&self) -> bool {
        self.sound == 0 && matches!(self.phase, Phase::Head(_))
    }

    /// Looks at what was received. After a refusal the stream must not be used any more.
    pub fn advance(&mut self) -> Result<Next, Refusal> {
        if self.sound > 0 {
            return Ok(Next::Take);
        }
        let held = self.buffer.get(self.start..).unwrap_or_default();
        match &mut self.phase {
            Phase::Head(scanner) => {
                if held.is_empty() {
                    return Ok(Next::Read);
                }
                let Some(head) = scanner.scan(held, &self.limits)? else {
                    return Ok(Next::Read);
                };
                self.sound = head.len;
                let body = held.get(head.len..).unwrap_or_default();
                self.phase = match head.body {
                    BodyFraming::None => Phase::Complete,
                    BodyFraming::Length(length) => Phase::Length(length),
                    BodyFraming::Chunked => {
                        // Looked at together with the head, so that a request that is bad as a whole leaves no trace.
                        let mut chunks = ChunkScanner::default();
                        let progress = chunks.scan(body, &self.limits)?;
                        self.sound += progress.taken;
                        if progress.done {
                            Phase::Complete
                        } else {
                            Phase::Chunked(chunks)
                        }
                    }
                };
                Ok(Next::Take)
            }
            Phase::Length(left) => {
                if held.is_empty() {
                    return Ok(if *left > 0 {
                        Next::Direct(*left)
                    } else {
                        Next::Read
                    });
                }
                let here = u64::try_from(held.len()).unwrap_or(u64::MAX).min(*left);
                self.sound = usize::try_from(here).unwrap_or(held.len());
                *left -= here;
                if *left == 0 {
                    self.phase = Phase::Complete;
                }
                Ok(Next::Take)
            }
            Phase::Chunked(chunks) => {
                if held.is_empty() {
                    return Ok(match chunks.data_left() {
                        Some(left) if left >= DIRECT => Next::Direct(left),
                        _ => Next::Read,
                    });
                }
                let progress = chunks.scan(held, &self.limits)?;
                self.sound = progress.taken;
                if progress.done {
                    self.phase = Phase::Complete;
                }
                Ok(if self.sound > 0 { Next::Take } else { Next::Read })
            }
            Phase::Complete => Ok(Next::Wait),
            Phase::Raw => {
                self.sound = held.len();
                Ok(if self.sound > 0 { Next::Take } else { Next::Raw })
            }
        }
    }

    /// Hands out sound bytes, as many as fit.
    pub fn take(&mut self, to: &mut ReadBuf<'_>) {
        let count = self.sound.min(to.remaining());
        let end = self.start + count;
        to.put_slice(self.buffer.get(self.start..end).unwrap_or_default());
        self.start = end;
        self.sound -= count;
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        } else if self.sound == 0 {
            // What is left belongs to the next look, which wants it at the front.
            self.buffer.drain(..self.start);
            self.start = 0;
        }
    }

    /// `count` bytes went to the reader as [`Next::Direct`] allowed.
    pub fn passed(&mut self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        match &mut self.phase {
            Phase::Length(left) => {
                *left = left.saturating_sub(count);
                if *left == 0 {
                    self.phase = Phase::Complete;
                }
            }
            Phase::Chunked(chunks) => chunks.passed(count),
            _ => {}
        }
    }

    /// The current request and its response are over: the next head may be looked at.
    pub fn next_request(&mut self) {
        if matches!(self.phase, Phase::Complete) {
            self.phase = Phase::Head(HeadScanner::default());
        }
    }

    /// The connection changed its protocol: everything passes from here.
    pub fn upgrade(&mut self) {
        self.phase = Phase::Raw;
    }

    /// Whether bytes of a request were left unread, so that closing now would reset the connection under the answer.
    pub fn is_unfinished(&self) -> bool {
        match &self.phase {
            Phase::Head(_) | Phase::Complete => self.held() > 0,
            Phase::Length(_) | Phase::Chunked(_) => true,
            Phase::Raw => false,
        }
    }
}
