//! What a client has asked on a connection that another node serves, and what of it is not answered yet.
//!
//! The connection is carried as bytes; this looks at them in passing, and changes none. When the other node is lost, it
//! tells whether a third one can go on from here, and with which bytes. That is so between two requests, before any of the
//! answer to a request whose repetition does no harm has come, and before the first word to a client's `ClientHello`.
//! Whatever else is said on the connection, or not understood, can't go on elsewhere, and it is followed no further.

use crate::http::chunked::ChunkScanner;
use crate::http::head::{BodyFraming, HeadLimits, HeadScanner};
use crate::http::is_idempotent;

/// Bytes of one request that are kept, its head included.
const MOST: usize = 64 * 1024;
/// The same limits as those of entry points with the largest heads; what exceeds them is not followed.
const LIMITS: HeadLimits = HeadLimits {
    bytes: MOST,
    lines: 256,
    body: None,
};
/// Fields of an answer that are looked at.
const FIELDS: usize = 256;
/// The first byte of a TLS record that holds a handshake (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;

/// Follows both directions of one connection.
#[derive(Debug, Default)]
pub struct Unanswered {
    /// What a third node is to be sent. All of the current request, as long as it may be repeated.
    kept: Vec<u8>,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// Nothing of a request yet.
    #[default]
    Start,
    /// The records of a `ClientHello`, or whatever else begins so.
    Hello,
    /// Inside of a request's head, of which nobody can have done anything.
    Head(Box<HeadScanner>),
    /// The request's body, of which the other node may have passed on a part.
    Body(Asked, Body),
    /// The request is complete.
    Waiting(Asked),
    /// Inside of an answer's head.
    Answer(Asked, Vec<u8>),
    /// The answer's body.
    Content(Body),
    /// Not followed any more.
    Lost,
}

/// What has to be known of a request when its answer comes.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// The answer has no body, whatever it says of one.
    head: bool,
    repeatable: bool,
}

#[derive(Debug)]
enum Body {
    Length(u64),
    Chunked(Box<ChunkScanner>),
}

impl Body {
    fn of(framing: BodyFraming) -> Option<Self> {
        match framing {
            BodyFraming::None => None,
            BodyFraming::Length(length) => Some(Self::Length(length)),
            BodyFraming::Chunked => Some(Self::Chunked(Box::default())),
        }
    }

    /// Takes what belongs to the body. How much that was, and whether it has ended; `None` if it is not sound.
    fn take(&mut self, bytes: &[u8]) -> Option<(usize, bool)> {
        match self {
            Self::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= here as u64;
                Some((here, *left == 0))
            }
            Self::Chunked(chunks) => {
                let progress = chunks.scan(bytes, &LIMITS).ok()?;
                Some((progress.taken, progress.done))
            }
        }
    }
}

/// An answer's head.
enum AnswerHead {
    Unfinished,
    /// `100 Continue` and the like, so long: the answer is still to come.
    Interim(usize),
    /// So long, and what follows.
    Final(usize, Option<Body>),
    /// Nobody can tell where it ends, or the connection ends with it, or it is no answer.
    Last,
}

impl Unanswered {
    /// Bytes of the client that go to the other node.
    pub fn asked(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !matches!(self.state, State::Lost) {
            let taken = self.take_asked(bytes);
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }

    /// Bytes of the other node that go to the client.
    pub fn answered(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !matches!(self.state, State::Lost) {
            let taken = self.take_answered(bytes);
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }

    /// With which bytes a third node can go on, now that the other one is lost; `None`: the client would notice.
    #[must_use]
    pub fn again(&self) -> Option<&[u8]> {
        match &self.state {
            State::Start | State::Hello | State::Head(_) => Some(&self.kept),
            State::Body(asked, _) | State::Waiting(asked) => asked.repeatable.then_some(&*self.kept),
            State::Answer(..) | State::Content(_) | State::Lost => None,
        }
    }

    fn lose(&mut self) -> usize {
        self.state = State::Lost;
        self.kept = Vec::new();
        0
    }

    fn take_asked(&mut self, bytes: &[u8]) -> usize {
        match &mut self.state {
            State::Start => {
                self.state = match bytes.first() {
                    Some(&HANDSHAKE) => State::Hello,
                    _ => State::Head(Box::default()),
                };
                0
            }
            State::Hello => self.keep(bytes),
            State::Head(scanner) => {
                let before = self.kept.len();
                self.kept.extend_from_slice(bytes);
                match scanner.scan(&self.kept, &LIMITS) {
                    Ok(None) => bytes.len(),
                    Ok(Some(head)) => match Asked::of(self.kept.get(..head.len).unwrap_or_default()) {
                        Some(asked) => {
                            self.kept.truncate(head.len);
                            self.state = match Body::of(head.body) {
                                Some(body) => State::Body(asked, body),
                                None => State::Waiting(asked),
                            };
                            head.len.saturating_sub(before)
                        }
                        None => self.lose(),
                    },
                    Err(_) => self.lose(),
                }
            }
            State::Body(asked, body) => {
                let asked = *asked;
                let Some((taken, done)) = body.take(bytes) else {
                    return self.lose();
                };
                if done {
                    self.state = State::Waiting(asked);
                }
                match asked.repeatable {
                    true => self.keep(bytes.get(..taken).unwrap_or_default()),
                    false => taken,
                }
            }
            // The next request before the answer to this one: pipelines are not followed.
            State::Waiting(_) | State::Answer(..) | State::Content(_) | State::Lost => self.lose(),
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> usize {
        if self.kept.len() + bytes.len() > MOST {
            return self.lose();
        }
        self.kept.extend_from_slice(bytes);
        bytes.len()
    }

    fn take_answered(&mut self, bytes: &[u8]) -> usize {
        match &mut self.state {
            State::Waiting(asked) => {
                self.state = State::Answer(*asked, Vec::new());
                self.kept = Vec::new();
                0
            }
            State::Answer(asked, head) => {
                let before = head.len();
                head.extend_from_slice(bytes);
                match AnswerHead::read(head, asked.head) {
                    AnswerHead::Unfinished if head.len() < MOST => bytes.len(),
                    AnswerHead::Interim(length) => {
                        head.clear();
                        length.saturating_sub(before)
                    }
                    AnswerHead::Final(length, body) => {
                        self.state = body.map_or(State::Start, State::Content);
                        length.saturating_sub(before)
                    }
                    AnswerHead::Unfinished | AnswerHead::Last => self.lose(),
                }
            }
            State::Content(body) => {
                let Some((taken, done)) = body.take(bytes) else {
                    return self.lose();
                };
                if done {
                    self.state = State::Start;
                }
                taken
            }
            // An answer before the end of the question, or to none.
            State::Start | State::Hello | State::Head(_) | State::Body(..) | State::Lost => self.lose(),
        }
    }
}

impl Asked {
    /// `None`: its answer is none of HTTP.
    fn of(head: &[u8]) -> Option<Self> {
        // The scanner has let it pass, with empty lines before it; the method is its first word.
        let start = head.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?;
        let method = head.get(start..)?.split(|byte| *byte == b' ').next()?;
        let method = http::Method::from_bytes(method).ok()?;
        (method != http::Method::CONNECT).then(|| Self {
            head: method == http::Method::HEAD,
            repeatable: is_idempotent(&method),
        })
    }
}

impl AnswerHead {
    /// `to_head`: it answers a HEAD.
    fn read(bytes: &[u8], to_head: bool) -> Self {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut answer = httparse::Response::new(&mut fields);
        let length = match answer.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Self::Unfinished,
            Err(_) => return Self::Last,
        };
        let status = answer.code.unwrap_or_default();
        match status {
            // The connection speaks another protocol from here on.
            101 => return Self::Last,
            100..=199 => return Self::Interim(length),
            _ => {}
        }
        let (mut declared, mut chunked) = (None, false);
        for field in answer.headers.iter() {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            if is("connection") && !field.value.eq_ignore_ascii_case(b"keep-alive") {
                return Self::Last;
            } else if is("transfer-encoding") {
                chunked = field.value.eq_ignore_ascii_case(b"chunked");
                if !chunked {
                    return Self::Last;
                }
            } else if is("content-length") {
                let value = std::str::from_utf8(field.value)
                    .ok()
                    .and_then(|value| value.parse().ok());
                let Some(value) = value.filter(|value| declared.is_none_or(|before| before == *value)) else {
                    return Self::Last;
                };
                declared = Some(value);
            }
        }
        if to_head || matches!(status, 204 | 304) {
            return Self::Final(length, None);
        }
        match (chunked, declared, answer.version) {
            (_, _, Some(0)) | (true, Some(_), _) | (false, None, _) => Self::Last,
            (true, None, _) => Self::Final(length, Some(Body::Chunked(Box::default()))),
            (false, Some(0), _) => Self::Final(length, None),
            (false, Some(declared), _) => Self::Final(length, Some(Body::Length(declared))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const PUT: &[u8] = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
    const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
    const HEAD: &[u8] = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody";

    /// `>` before what a client sends, `<` before what it gets.
    fn after(said: &[(char, &[u8])]) -> Unanswered {
        let mut whole = Unanswered::default();
        let mut pieces = Unanswered::default();
        for (from, bytes) in said {
            let say = |to: &mut Unanswered, bytes: &[u8]| match from {
                '>' => to.asked(bytes),
                _ => to.answered(bytes),
            };
            say(&mut whole, bytes);
            bytes.chunks(1).for_each(|byte| say(&mut pieces, byte));
        }
        assert_eq!(whole.again(), pieces.again(), "in pieces");
        whole
    }

    #[test]
    fn a_request_that_may_be_repeated_goes_on_until_its_answer_begins() {
        for request in [GET, PUT, HEAD] {
            let mut said = after(&[('>', request)]);
            assert_eq!(said.again(), Some(request));
            said.answered(b"H");
            assert_eq!(said.again(), None);
        }
        assert_eq!(after(&[('>', POST)]).again(), None);
    }

    #[test]
    fn nobody_has_done_anything_for_half_a_head() {
        let half = POST.get(..20).unwrap();
        assert_eq!(after(&[('>', half)]).again(), Some(half));
        let half = POST.get(..POST.len() - 1).unwrap();
        assert_eq!(after(&[('>', half)]).again(), None);
        let half = PUT.get(..PUT.len() - 1).unwrap();
        assert_eq!(after(&[('>', half)]).again(), Some(half));
    }

    #[test]
    fn between_two_requests_nothing_is_owed() {
        let nothing: &[u8] = b"";
        assert_eq!(after(&[]).again(), Some(nothing));
        assert_eq!(after(&[('>', POST), ('<', OK)]).again(), Some(nothing));
        assert_eq!(after(&[('>', POST), ('<', OK), ('>', GET)]).again(), Some(GET));
        let chunked: &[u8] =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nA: b\r\n\r\n";
        assert_eq!(after(&[('>', GET), ('<', chunked)]).again(), Some(nothing));
        let to_head: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n";
        assert_eq!(after(&[('>', HEAD), ('<', to_head)]).again(), Some(nothing));
        let unchanged: &[u8] = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n";
        assert_eq!(after(&[('>', GET), ('<', unchanged)]).again(), Some(nothing));
        let go_on: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
        assert_eq!(
            after(&[('>', GET), ('<', go_on), ('<', OK)]).again(),
            Some(nothing)
        );
        assert_eq!(after(&[('>', GET), ('<', go_on)]).again(), None);
        assert_eq!(after(&[('>', GET), ('<', &OK[..OK.len() - 1])]).again(), None);
    }

    #[test]
    fn a_handshake_goes_on_until_it_is_answered() {
        let hello: &[u8] = b"\x16\x03\x01\x00\x05hello";
        assert_eq!(after(&[('>', hello)]).again(), Some(hello));
        assert_eq!(after(&[('>', hello), ('<', b"\x16")]).again(), None);
    }

    #[test]
    fn what_is_not_understood_is_not_sent_twice() {
        let both = [GET, GET].concat();
        assert_eq!(after(&[('>', &both)]).again(), None, "a pipeline");
        assert_eq!(
            after(&[('>', GET), ('<', b"HTTP/1.1 2"), ('>', GET)]).again(),
            None
        );
        assert_eq!(after(&[('>', b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")]).again(), None);
        assert_eq!(
            after(&[('>', b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")]).again(),
            None
        );
        assert_eq!(after(&[('>', b"\x00\x00\x00\x08\x04")]).again(), None);
        assert_eq!(after(&[('<', b"220 mail\r\n")]).again(), None);
        for last in [
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 1\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\nx",
            "nonsense\r\n\r\n",
        ] {
            let said = after(&[('>', GET), ('<', last.as_bytes())]);
            assert_eq!(said.again(), None, "{last}");
        }
    }

    #[test]
    fn no_more_is_kept_than_is_said() {
        let mut said = Unanswered::default();
        said.asked(
            format!(
                "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
                2 * MOST
            )
            .as_bytes(),
        );
        said.asked(&vec![b'x'; MOST / 2]);
        assert!(said.again().is_some());
        said.asked(&vec![b'x'; MOST / 2]);
        assert_eq!((said.again(), said.kept.capacity()), (None, 0));
    }
}
