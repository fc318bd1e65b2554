//! A look at the frames of one HTTP/2 connection, in both directions, before and after the `h2` crate.
//!
//! Pure: bytes and the time in, verdicts out. [`Frames`] cuts a stream of bytes into frame headers and the few payloads
//! that matter; [`Guard`] counts what a client sends more of than any client needs, keeps the windows of the streams, and
//! says who sends its body or takes its response too slowly. What it may keep is bounded: a fixed number of buckets, and
//! one entry per stream that is open.

mod buckets;
mod reader;

use std::time::{Duration, Instant};

use buckets::Buckets;
pub use reader::{Event, Frames};

use super::pace::{Least, Pace, TICK};
use super::refusal::Refusal;
use crate::metrics::Refusal as Label;

/// Windows before anybody said otherwise (RFC 9113 section 6.9.2).
const INITIAL_WINDOW: i64 = 65_535;
/// The longest frame both sides accept: the default of RFC 9113, which we do not raise.
const MAX_FRAME: u32 = 16_384;

/// Streams of one connection that may be without a window for longer than a moment. Browsers have one or two, such as
/// a paused video; each costs memory here and a connection to a back end.
const CROWD: usize = 32;
/// The moment: longer than a round trip.
const MOMENT: Duration = Duration::from_secs(1);
/// A client that gives less than this for a whole response has no use for it.
const TINY_WINDOW: i64 = 1024;

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const PRIORITY: u8 = 0x2;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;
/// RFC 9218 section 7.1.
const PRIORITY_UPDATE: u8 = 0x10;

const INITIAL_WINDOW_SIZE: u16 = 0x4;

/// The reason in a RST_STREAM of ours (RFC 9113 section 7).
const CANCEL: u8 = 0x8;
/// The reason in a GOAWAY of ours.
const ENHANCE_YOUR_CALM: u8 = 0xb;

/// What a client may do.
#[derive(Clone, Copy, Debug)]
pub struct FrameLimits {
    /// Streams open at once.
    pub streams: u32,
    /// Length of a header list.
    pub header_bytes: usize,
    /// The slowest body.
    pub body: Option<Least>,
    /// The slowest reader.
    pub send: Option<Least>,
}

/// An open stream.
#[derive(Debug)]
struct Stream {
    id: u32,
    /// The client may send more of its body.
    body: bool,
    /// The client may send this much of it.
    body_window: i64,
    /// The response has begun.
    responding: bool,
    /// The response has ended.
    ended: bool,
    /// We may send this much of it.
    send_window: i64,
    pace: Option<Pace>,
    /// Some of the response was sent, so that there was a window.
    sent: bool,
    /// Without a window when it was looked at last, and nothing was sent since.
    stuck: bool,
}

/// Watches one connection.
#[derive(Debug)]
pub struct Guard {
    limits: FrameLimits,
    client: Frames,
    ours: Frames,
    state: State,
}

#[derive(Debug)]
struct State {
    buckets: Buckets,
    /// The client's SETTINGS have not come yet.
    greeting: bool,
    /// A header section has begun and not ended.
    in_head: bool,
    continuations: u32,
    /// Sorted by id.
    streams: Vec<Stream>,
    last_stream: u32,
    body_window: i64,
    body_initial: i64,
    send_window: i64,
    send_initial: i64,
    body_pace: Option<Pace>,
    /// Bytes of bodies since the last look.
    body_moved: u64,
    looked: Option<Instant>,
    /// We ended the connection for a reason.
    went_away: bool,
    /// Streams to be reset that could not be reset yet.
    overdue: bool,
}

/// What is to be done after a look at the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing.
    Fine,
    /// These streams take their responses too slowly.
    Reset(Vec<u32>),
}

impl Guard {
    /// Watches a connection from its first byte.
    pub fn new(limits: FrameLimits) -> Self {
        Self {
            limits,
            client: Frames::new(true),
            ours: Frames::new(false),
            state: State {
                buckets: Buckets::new(),
                greeting: true,
                in_head: false,
                continuations: 0,
                streams: Vec::new(),
                last_stream: 0,
                body_window: INITIAL_WINDOW,
                body_initial: INITIAL_WINDOW,
                send_window: INITIAL_WINDOW,
                send_initial: INITIAL_WINDOW,
                body_pace: limits.body.map(Pace::new),
                body_moved: 0,
                looked: None,
                went_away: false,
                overdue: false,
            },
        }
    }

    /// The client sent this.
    pub fn received(&mut self, bytes: &[u8], now: Instant) -> Result<(), Refusal> {
        let Self {
            limits,
            client,
            state,
            ..
        } = self;
        state.buckets.refill(now);
        client.feed(bytes, |event| state.client_did(event, limits))
    }

    /// We sent this.
    pub fn sent(&mut self, bytes: &[u8], now: Instant) -> Result<(), Refusal> {
        let Self {
            limits, ours, state, ..
        } = self;
        state.buckets.refill(now);
        // Looked at to the end in any case: whether a GOAWAY can follow depends on where that is.
        let mut seen = Ok(());
        ours.feed(bytes, |event| {
            let did = state.we_did(event, limits);
            if seen.is_ok() {
                seen = did;
            }
            Ok(())
        })?;
        seen
    }

    /// Whether the client owes us the rest of its first settings or of a header section.
    pub fn is_in_head(&self) -> bool {
        self.state.greeting || self.state.in_head
    }

    /// Whether a frame may be put in after what the client sent.
    pub fn client_at_boundary(&self) -> bool {
        self.client.at_boundary() && !self.state.in_head
    }

    /// Whether a frame may be put in after what we sent.
    pub fn we_at_boundary(&self) -> bool {
        self.ours.at_boundary()
    }

    /// When to look at the clock; `None` while nobody can be slow.
    pub fn next_look(&mut self, now: Instant) -> Option<Instant> {
        if self.state.streams.is_empty() || (self.limits.body.is_none() && self.limits.send.is_none()) {
            self.state.looked = None;
            return None;
        }
        Some(*self.state.looked.get_or_insert(now) + self.tick())
    }

    /// Time has passed. `bodies` says whether request bodies have a minimum rate on this connection.
    pub fn look(&mut self, now: Instant, bodies: bool) -> Result<Look, Refusal> {
        let tick = self.tick();
        let state = &mut self.state;
        let looked = state.looked.replace(now).unwrap_or(now);
        let waited = now.saturating_duration_since(looked).min(tick);
        if state.overdue {
            // Somebody who ends no frame can't have a stream reset in between.
            return Err(Refusal::Calm(Label::SlowReader));
        }
        if bodies {
            state.wait_for_bodies(waited, self.limits.body)?;
        }
        if self.limits.send.is_none() {
            return Ok(Look::Fine);
        }
        let slow = state.wait_for_readers(waited);
        if slow.is_empty() {
            return Ok(Look::Fine);
        }
        Ok(Look::Reset(slow))
    }

    /// Streams that something is kept of.
    pub fn open_streams(&self) -> usize {
        self.state.streams.len()
    }

    /// How often to look.
    fn tick(&self) -> Duration {
        let least = self.limits.body.or(self.limits.send);
        let tick = least.map_or(TICK, |least| least.grace.min(TICK));
        if self.state.streams.len() > CROWD {
            tick.min(MOMENT)
        } else {
            tick
        }
    }

    /// Whether `h2` ended the connection because of what the client did.
    pub fn went_away(&self) -> bool {
        self.state.went_away
    }

    /// Streams to be reset wait for the end of a frame.
    pub fn set_overdue(&mut self, overdue: bool) {
        self.state.overdue = overdue;
    }

    /// Last words to a client that is to calm down: GOAWAY.
    pub fn go_away(&self) -> Vec<u8> {
        let mut frame = vec![0, 0, 8, 0x7, 0, 0, 0, 0, 0];
        frame.extend_from_slice(&self.state.last_stream.to_be_bytes());
        frame.extend_from_slice(&[0, 0, 0, ENHANCE_YOUR_CALM]);
        frame
    }
}

/// A frame that ends a stream.
pub fn reset_frame(stream: u32) -> [u8; 13] {
    let [a, b, c, d] = stream.to_be_bytes();
    [0, 0, 4, RST_STREAM, 0, a, b, c, d, 0, 0, 0, CANCEL]
}

impl State {
    fn client_did(&mut self, event: Event, limits: &FrameLimits) -> Result<(), Refusal> {
        match event {
            Event::Frame {
                kind,
                flags,
                stream,
                length,
            } => self.client_frame(kind, flags, stream, length, limits),
            Event::Setting { id, value } => {
                if id == INITIAL_WINDOW_SIZE {
                    let change = i64::from(value) - self.send_initial;
                    self.send_initial = i64::from(value);
                    for stream in &mut self.streams {
                        stream.send_window = stream.send_window.saturating_add(change);
                    }
                }
                Ok(())
            }
            Event::Window { stream: 0, increment } => {
                self.send_window = self.send_window.saturating_add(i64::from(increment));
                Ok(())
            }
            Event::Window { stream, increment } => {
                if let Some(stream) = self.stream(stream) {
                    stream.send_window = stream.send_window.saturating_add(i64::from(increment));
                }
                Ok(())
            }
            Event::GoAway { .. } => Ok(()),
            Event::End { kind, flags } => {
                match kind {
                    SETTINGS => self.greeting = false,
                    HEADERS | CONTINUATION if flags & END_HEADERS != 0 => self.in_head = false,
                    _ => {}
                }
                Ok(())
            }
        }
    }

    fn client_frame(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        length: u32,
        limits: &FrameLimits,
    ) -> Result<(), Refusal> {
        match kind {
            DATA => {
                if length == 0 && flags & END_STREAM == 0 {
                    self.buckets.empty.take()?;
                }
                self.body(stream, length);
                if flags & END_STREAM != 0 {
                    self.end_body(stream);
                }
            }
            HEADERS => {
                self.in_head = true;
                self.continuations = 0;
                self.open(stream, flags & END_STREAM != 0, limits)?;
            }
            CONTINUATION => {
                self.continuations += 1;
                let most = u32::try_from(limits.header_bytes).unwrap_or(u32::MAX) / MAX_FRAME;
                // With some room for pieces that are not full, as `h2` has it.
                if flags & END_HEADERS == 0 && self.continuations > (most + most / 4).max(5) {
                    return Err(Refusal::Calm(Label::H2Headers));
                }
            }
            PRIORITY | PRIORITY_UPDATE => self.buckets.priority.take()?,
            RST_STREAM => {
                self.buckets.resets.take()?;
                self.forget(stream);
            }
            SETTINGS if flags & ACK != 0 => self.buckets.settings.take()?,
            SETTINGS => {
                self.buckets.settings.take()?;
                // Each setting is six bytes; there are not a hundred of them.
                if length > 600 {
                    return Err(Refusal::Calm(Label::H2Settings));
                }
            }
            PING if flags & ACK == 0 => self.buckets.pings.take()?,
            WINDOW_UPDATE => self.buckets.windows.take()?,
            _ => self.buckets.unknown.take()?,
        }
        Ok(())
    }

    /// The client opened a stream, or sends the trailers of one.
    fn open(&mut self, id: u32, whole: bool, limits: &FrameLimits) -> Result<(), Refusal> {
        if id <= self.last_stream {
            if whole {
                self.end_body(id);
            }
            return Ok(());
        }
        self.last_stream = id;
        self.buckets.priority.add(2);
        let most = usize::try_from(limits.streams).unwrap_or(usize::MAX);
        // Streams beyond the limit are refused by `h2`, which takes a moment.
        if self.streams.len() >= most.saturating_mul(2).saturating_add(100) {
            return Err(Refusal::Calm(Label::H2Streams));
        }
        self.streams.push(Stream {
            id,
            body: !whole,
            body_window: self.body_initial,
            responding: false,
            ended: false,
            send_window: self.send_initial,
            pace: limits.send.map(Pace::new),
            sent: false,
            stuck: false,
        });
        if limits.send.is_some() {
            self.refuse_crowd_without_windows()?;
        }
        Ok(())
    }

    /// Bytes of a request body.
    fn body(&mut self, id: u32, length: u32) {
        self.body_window -= i64::from(length);
        if let Some(stream) = self.stream(id) {
            stream.body_window -= i64::from(length);
        }
        self.body_moved += u64::from(length);
    }

    fn end_body(&mut self, id: u32) {
        if let Some(stream) = self.stream(id) {
            stream.body = false;
            if stream.ended {
                self.forget(id);
            }
        }
    }

    fn we_did(&mut self, event: Event, limits: &FrameLimits) -> Result<(), Refusal> {
        match event {
            Event::Frame {
                kind,
                flags,
                stream: id,
                length,
            } => match kind {
                DATA => {
                    self.send_window -= i64::from(length);
                    self.buckets.windows.add(4);
                    self.buckets.pings.add(1);
                    if let Some(stream) = self.stream(id) {
                        stream.send_window -= i64::from(length);
                        stream.sent = true;
                        stream.stuck = false;
                        if let (Some(pace), Some(least)) = (&mut stream.pace, limits.send) {
                            pace.earn(u64::from(length), least);
                        }
                    }
                    self.respond(id, flags & END_STREAM != 0);
                }
                HEADERS => self.respond(id, flags & END_STREAM != 0),
                RST_STREAM => {
                    self.forget(id);
                    // Also what the client provoked (CVE-2025-8671).
                    self.buckets.resets.take()?;
                }
                _ => {}
            },
            Event::Setting { id, value } => {
                if id == INITIAL_WINDOW_SIZE {
                    let change = i64::from(value) - self.body_initial;
                    self.body_initial = i64::from(value);
                    for stream in &mut self.streams {
                        stream.body_window = stream.body_window.saturating_add(change);
                    }
                }
            }
            Event::Window { stream: 0, increment } => {
                self.body_window = self.body_window.saturating_add(i64::from(increment));
            }
            Event::Window { stream, increment } => {
                if let Some(stream) = self.stream(stream) {
                    stream.body_window = stream.body_window.saturating_add(i64::from(increment));
                }
            }
            Event::GoAway { code } => self.went_away |= code != 0,
            Event::End { .. } => {}
        }
        Ok(())
    }

    /// The response of a stream has begun, or ended.
    fn respond(&mut self, id: u32, ended: bool) {
        let Some(stream) = self.stream(id) else {
            return;
        };
        stream.responding = true;
        if ended {
            stream.ended = true;
            if !stream.body {
                self.forget(id);
            }
            self.buckets.resets.add(1);
        }
    }

    /// Spends time on bodies that could come and do not. The rate is asked of their mean: clients may well send one
    /// body after the other.
    fn wait_for_bodies(&mut self, waited: Duration, least: Option<Least>) -> Result<(), Refusal> {
        let moved = std::mem::take(&mut self.body_moved);
        let (Some(pace), Some(least)) = (&mut self.body_pace, least) else {
            return Ok(());
        };
        let streams = self.streams.iter();
        let waiting = streams.filter(|s| s.body && !s.responding && s.body_window > 0);
        let waiting = u64::try_from(waiting.count()).unwrap_or(u64::MAX);
        pace.earn(moved / waiting.max(1), least);
        if waiting > 0 && self.body_window > 0 && !pace.spend(waited) {
            return Err(Refusal::BodyTooSlow);
        }
        Ok(())
    }

    /// Spends time on responses that the client leaves no room for. Returns the streams that have none left.
    fn wait_for_readers(&mut self, waited: Duration) -> Vec<u32> {
        let stalled = self.send_window <= 0;
        let (mut slow, mut stuck) = (Vec::new(), 0);
        for stream in &mut self.streams {
            let waiting = stream.responding && !stream.ended && (stalled || stream.send_window <= 0);
            if !waiting {
                stream.stuck = false;
                continue;
            }
            // The oldest of a crowd have their time like everybody.
            stuck += usize::from(stream.stuck);
            let too_many = stream.stuck && stuck > CROWD;
            stream.stuck = true;
            if stream.pace.as_mut().is_some_and(|pace| !pace.spend(waited)) || too_many {
                slow.push(stream.id);
            }
        }
        self.streams.retain(|stream| !slow.contains(&stream.id));
        slow
    }

    /// Ends a connection that wants many responses and gives no window for any; before back ends are asked, since what
    /// they answer would have to be kept.
    fn refuse_crowd_without_windows(&self) -> Result<(), Refusal> {
        if self.send_initial >= TINY_WINDOW {
            return Ok(());
        }
        let streams = self.streams.iter();
        let without = streams.filter(|s| !s.ended && !s.sent && s.send_window < TINY_WINDOW);
        if without.count() > CROWD {
            return Err(Refusal::Calm(Label::SlowReader));
        }
        Ok(())
    }

    fn stream(&mut self, id: u32) -> Option<&mut Stream> {
        let position = self.streams.binary_search_by_key(&id, |s| s.id).ok()?;
        self.streams.get_mut(position)
    }

    fn forget(&mut self, id: u32) {
        if let Ok(position) = self.streams.binary_search_by_key(&id, |s| s.id) {
            self.streams.remove(position);
        }
    }
}

#[cfg(test)]
mod tests;
