//! Cuts a stream of bytes into the headers of frames and the few payloads that matter.

use super::{GOAWAY, SETTINGS, WINDOW_UPDATE};

/// Length of what a client sends before its first frame (RFC 9113 section 3.4).
pub(super) const PREFACE: usize = 24;
/// Length of a frame header (RFC 9113 section 4.1).
const HEADER: usize = 9;
/// Length of a setting.
const ONE_SETTING: usize = 6;
/// Length of the longest payload piece that is looked at: the fixed part of GOAWAY.
const PIECE: usize = 8;

/// What [`Frames`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The header of a frame.
    Frame {
        /// Its type.
        kind: u8,
        /// Its flags.
        flags: u8,
        /// Its stream.
        stream: u32,
        /// Length of its payload.
        length: u32,
    },
    /// One setting of a SETTINGS frame.
    Setting {
        /// Which.
        id: u16,
        /// Its value.
        value: u32,
    },
    /// A WINDOW_UPDATE frame.
    Window {
        /// Of this stream, 0 for the connection.
        stream: u32,
        /// So many bytes more.
        increment: u32,
    },
    /// A GOAWAY frame.
    GoAway {
        /// Its reason; 0 is none.
        code: u32,
    },
    /// The last byte of a frame.
    End {
        /// Its type.
        kind: u8,
        /// Its flags.
        flags: u8,
    },
}

/// Cuts bytes into frames, wherever they were cut before.
#[derive(Debug)]
pub struct Frames {
    preface: usize,
    header: [u8; HEADER],
    header_len: usize,
    kind: u8,
    flags: u8,
    stream: u32,
    /// Payload bytes to come.
    left: u32,
    piece: [u8; PIECE],
    piece_len: usize,
}

impl Frames {
    /// Starts before the first frame; a client's first bytes are the preface.
    pub fn new(of_client: bool) -> Self {
        Self {
            preface: if of_client { PREFACE } else { 0 },
            header: [0; HEADER],
            header_len: 0,
            kind: 0,
            flags: 0,
            stream: 0,
            left: 0,
            piece: [0; PIECE],
            piece_len: 0,
        }
    }

    /// Whether the last byte was the last one of a frame or of the preface.
    pub fn at_boundary(&self) -> bool {
        self.header_len == 0 && self.preface == 0
    }

    /// Looks at the next bytes; the first error ends it.
    pub fn feed<E>(&mut self, bytes: &[u8], mut on: impl FnMut(Event) -> Result<(), E>) -> Result<(), E> {
        let skipped = self.preface.min(bytes.len());
        self.preface -= skipped;
        let mut rest = bytes.get(skipped..).unwrap_or_default();
        while !rest.is_empty() {
            if self.header_len < HEADER {
                let Some(after) = self.take_header(rest) else {
                    return Ok(());
                };
                rest = after;
                on(Event::Frame {
                    kind: self.kind,
                    flags: self.flags,
                    stream: self.stream,
                    length: self.left,
                })?;
            } else if matches!(self.kind, SETTINGS | WINDOW_UPDATE | GOAWAY) {
                rest = self.take_piece(rest, &mut on)?;
            } else {
                let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
                self.left -= u32::try_from(count).unwrap_or(self.left);
                rest = rest.get(count..).unwrap_or_default();
            }
            if self.left == 0 {
                self.header_len = 0;
                self.piece_len = 0;
                on(Event::End {
                    kind: self.kind,
                    flags: self.flags,
                })?;
            }
        }
        Ok(())
    }

    /// Takes bytes of a frame header; returns what follows it once it is whole.
    fn take_header<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let count = (HEADER - self.header_len).min(bytes.len());
        let (now, rest) = bytes.split_at_checked(count)?;
        self.header
            .get_mut(self.header_len..self.header_len + count)?
            .copy_from_slice(now);
        self.header_len += count;
        if self.header_len < HEADER {
            return None;
        }
        let [a, b, c, kind, flags, s0, s1, s2, s3] = self.header;
        self.left = u32::from_be_bytes([0, a, b, c]);
        self.kind = kind;
        self.flags = flags;
        self.stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
        Some(rest)
    }

    /// Takes payload bytes of a frame whose payload is looked at.
    fn take_piece<'a, E>(
        &mut self,
        bytes: &'a [u8],
        on: &mut impl FnMut(Event) -> Result<(), E>,
    ) -> Result<&'a [u8], E> {
        let Some((first, rest)) = bytes.split_first() else {
            return Ok(bytes);
        };
        self.left -= 1;
        if let Some(slot) = self.piece.get_mut(self.piece_len) {
            *slot = *first;
        }
        // What follows the piece is of no interest.
        self.piece_len = (self.piece_len + 1).min(PIECE + 1);
        let [a, b, c, d, e, f, g, h] = self.piece;
        match (self.kind, self.piece_len) {
            (SETTINGS, ONE_SETTING) => {
                self.piece_len = 0;
                on(Event::Setting {
                    id: u16::from_be_bytes([a, b]),
                    value: u32::from_be_bytes([c, d, e, f]),
                })?;
            }
            (WINDOW_UPDATE, 4) => on(Event::Window {
                stream: self.stream,
                increment: u32::from_be_bytes([a & 0x7f, b, c, d]),
            })?,
            (GOAWAY, PIECE) => on(Event::GoAway {
                code: u32::from_be_bytes([e, f, g, h]),
            })?,
            _ => {}
        }
        Ok(rest)
    }
}
