//! The body of a request on its way to one back end, and kept for the next.
//!
//! The exchange reads it from the client and pushes it; each attempt reads it from the start. It is kept up to a limit;
//! beyond that it is handed on once and lost, and the request can't be tried again. A part of a body is never taken for
//! the whole: an attempt that asks for what is lost is told so.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Most bytes kept over all requests of the process: once for replay, and once for copies.
pub(super) const MAX_KEPT: u64 = 64 << 20;

/// The bytes kept for one purpose, over all requests.
#[derive(Debug, Default)]
pub(super) struct Kept(AtomicU64);

impl Kept {
    fn take(&self, bytes: u64) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |kept| {
                kept.checked_add(bytes).filter(|kept| *kept <= MAX_KEPT)
            })
            .is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Bytes kept, until this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    bytes: u64,
    all: Arc<Kept>,
}

impl Share {
    /// A share of nothing yet.
    pub(super) fn of(all: &Arc<Kept>) -> Self {
        Self {
            bytes: 0,
            all: all.clone(),
        }
    }

    /// Makes it larger, if there is room.
    pub(super) fn take(&mut self, bytes: u64) -> bool {
        let taken = self.all.take(bytes);
        self.bytes += if taken { bytes } else { 0 };
        taken
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.all.give_back(self.bytes);
    }
}

/// A request body, shared by the exchange that fills it and the attempts that read it; all in one task.
#[derive(Clone, Debug)]
pub(super) struct Body(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    chunks: VecDeque<Bytes>,
    /// The number of the first chunk that is still here.
    first: usize,
    /// The client has sent all of it.
    complete: bool,
    /// A part of it is gone.
    lost: bool,
    kept: u64,
    limit: u64,
    /// An attempt has sent all there is and waits for more.
    hungry: bool,
    all: Arc<Kept>,
}

/// What an attempt gets when it asks for the next piece.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// The next piece, never empty.
    Data(Bytes),
    /// There is no more.
    End,
    /// Not here yet.
    Wait,
    /// It was handed to another attempt and not kept.
    Lost,
}

impl Body {
    /// A body of which nothing came yet. At most `limit` bytes are kept.
    pub(super) fn new(limit: u64, all: Arc<Kept>) -> Self {
        Self(Arc::new(Mutex::new(State {
            chunks: VecDeque::new(),
            first: 0,
            complete: false,
            lost: false,
            kept: 0,
            limit,
            hungry: false,
            all,
        })))
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes in a piece from the client.
    pub(super) fn push(&self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        self.with(|state| {
            let length = data.len() as u64;
            if !state.lost && (state.kept + length > state.limit || !state.all.take(length)) {
                state.forget();
            } else if !state.lost {
                state.kept += length;
            }
            state.chunks.push_back(data);
            state.hungry = false;
        });
    }

    /// The client has sent all of it.
    pub(super) fn finish(&self) {
        self.with(|state| state.complete = true);
    }

    /// The piece after the `position` first ones.
    pub(super) fn piece(&self, position: usize) -> Piece {
        self.with(|state| {
            if position < state.first {
                return Piece::Lost;
            }
            let at = position - state.first;
            let piece = match state.chunks.get(at) {
                Some(data) => Piece::Data(data.clone()),
                None if state.complete => Piece::End,
                None => {
                    state.hungry = true;
                    Piece::Wait
                }
            };
            if state.lost && at > 0 {
                state.chunks.drain(..at);
                state.first = position;
            }
            if state.lost && matches!(piece, Piece::Data(_)) {
                state.chunks.pop_front();
                state.first = position + 1;
            }
            piece
        })
    }

    /// Whether there is something after the `position` first pieces: another one, or the end.
    pub(super) fn has(&self, position: usize) -> bool {
        self.with(|state| {
            let has = state.complete || position < state.first + state.chunks.len();
            state.hungry |= !has;
            has
        })
    }

    /// Bytes of it that are kept.
    pub(super) fn length(&self) -> u64 {
        self.with(|state| state.kept)
    }

    /// Whether another attempt could send all of what came so far.
    pub(super) fn is_whole(&self) -> bool {
        self.with(|state| !state.lost)
    }

    /// Whether an attempt waits for more. With two attempts, reading goes on only as long as all of it is kept.
    pub(super) fn wants_more(&self, attempts: usize) -> bool {
        self.with(|state| {
            state.hungry && !state.complete && (attempts < 2 || state.kept + PIECE < state.limit)
        })
    }

    /// Nothing will be tried again: what was kept may go.
    pub(super) fn settle(&self) {
        self.with(State::forget);
    }
}

/// The largest piece that one read brings.
const PIECE: u64 = 64 * 1024;

impl State {
    fn forget(&mut self) {
        self.lost = true;
        self.all.give_back(std::mem::take(&mut self.kept));
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.all.give_back(self.kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(limit: u64) -> (Body, Arc<Kept>) {
        let all = Arc::new(Kept::default());
        (Body::new(limit, all.clone()), all)
    }

    fn read(body: &Body, position: &mut usize) -> Vec<u8> {
        let mut read = Vec::new();
        while let Piece::Data(data) = body.piece(*position) {
            *position += 1;
            read.extend_from_slice(&data);
        }
        read
    }

    #[test]
    fn a_small_body_is_read_by_every_attempt() {
        let (body, all) = body(10);
        body.push(Bytes::from_static(b"abc"));
        let mut first = 0;
        assert_eq!(read(&body, &mut first), b"abc");
        assert_eq!(body.piece(first), Piece::Wait);
        assert!(body.wants_more(1));
        body.push(Bytes::from_static(b"de"));
        body.finish();
        assert_eq!(read(&body, &mut first), b"de");
        assert_eq!(body.piece(first), Piece::End);
        assert!(body.is_whole());
        let mut second = 0;
        assert_eq!(read(&body, &mut second), b"abcde");
        assert_eq!(body.piece(second), Piece::End);
        assert_eq!(all.0.load(Ordering::Relaxed), 5);
        drop(body);
        assert_eq!(all.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_body_beyond_the_limit_goes_once_and_never_in_part() {
        let (body, all) = body(4);
        body.push(Bytes::from_static(b"abc"));
        let mut first = 0;
        assert_eq!(read(&body, &mut first), b"abc");
        body.push(Bytes::from_static(b"de"));
        assert!(!body.is_whole());
        assert_eq!(all.0.load(Ordering::Relaxed), 0);
        assert_eq!(read(&body, &mut first), b"de");
        body.push(Bytes::from_static(b"f"));
        body.finish();
        assert_eq!(read(&body, &mut first), b"f");
        assert_eq!(body.piece(first), Piece::End);
        assert_eq!(body.piece(0), Piece::Lost);
    }

    #[test]
    fn bodies_of_all_requests_share_one_bound() {
        let (first, all) = body(u64::MAX);
        assert!(all.take(MAX_KEPT - 2));
        first.push(Bytes::from_static(b"abc"));
        assert!(!first.is_whole());
        let mut position = 0;
        assert_eq!(read(&first, &mut position), b"abc");
    }
}
