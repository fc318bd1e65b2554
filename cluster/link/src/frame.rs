//! Frames: a header of [`HEADER_BYTES`] bytes, then a body. Pure: what reads and writes them is elsewhere.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | length of the body, big-endian |
//! | 4 | number of the call, big-endian: an answer carries its request's |
//! | 1 | service |
//! | 1 | kind |
//!
//! How long a body may be depends on what is expected, so that a header that asks for more is refused before anything is
//! set aside for it.

use constellation_cluster::raft::MAX_CALL_BYTES;
use thiserror::Error;

/// Of a header.
pub const HEADER_BYTES: usize = 10;
/// Of what a joiner sends.
pub const JOIN_REQUEST_BYTES: usize = 16 * 1024;
/// Of what a joiner gets: a certificate and the authorities.
pub const JOIN_ANSWER_BYTES: usize = 64 * 1024;
/// Of the words with which a server closes.
pub const REASON_BYTES: usize = 512;

/// Whom a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Service {
    /// The replicated log: what [`constellation_cluster::raft::RaftNode::serve`] answers.
    Raft = 1,
    /// Small questions and orders between agents.
    Control = 2,
    /// Small questions with large answers.
    Bulk = 3,
}

impl Service {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Raft, Self::Control, Self::Bulk];

    /// The longest request in bytes.
    #[must_use]
    pub const fn request_limit(self) -> usize {
        match self {
            Self::Raft => MAX_CALL_BYTES,
            Self::Control => 1024 * 1024,
            Self::Bulk => 4 * 1024,
        }
    }

    /// The longest answer in bytes.
    #[must_use]
    pub const fn answer_limit(self) -> usize {
        match self {
            Self::Raft => MAX_CALL_BYTES,
            Self::Control => 1024 * 1024,
            Self::Bulk => 16 * 1024 * 1024,
        }
    }

    /// How many calls a connection carries at a time. What comes beyond waits. Fewer where they are large: this bounds the
    /// memory that a member can have another one use.
    #[must_use]
    pub const fn in_flight(self) -> usize {
        match self {
            Self::Raft => 8,
            Self::Control => 48,
            Self::Bulk => 4,
        }
    }

    pub(crate) const fn index(self) -> usize {
        self as usize - 1
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Raft => "raft",
            Self::Control => "control",
            Self::Bulk => "bulk",
        }
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Wants an answer.
    Request = 0,
    /// Is one.
    Answer = 1,
    /// Instead of one: the request was dropped, for no reason that is anybody's business. Has no body.
    Dropped = 2,
    /// Why the server closes the connection, as text. Its number is 0.
    Refused = 3,
}

/// Which frames may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// From a member that calls.
    Requests,
    /// From the member that is called.
    Answers,
    /// From a joiner.
    JoinRequest,
    /// From the node that is joined.
    JoinAnswer,
}

/// What stands before a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The number of the call.
    pub id: u32,
    /// For whom; [`Service::Control`] where a joiner is at one end.
    pub service: Service,
    /// What.
    pub kind: Kind,
    /// How long the body is.
    pub length: u32,
}

/// Why bytes are no frame. Nothing after them can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// No such number.
    #[error("service {0}, expected 1 to 3")]
    Service(u8),
    /// No such number.
    #[error("a frame of kind {0}, expected 0 to 3")]
    Kind(u8),
    /// A kind that the other side does not send.
    #[error("a frame of kind {kind:?}, where {expect:?} were expected")]
    Unexpected {
        /// What came.
        kind: Kind,
        /// What may come.
        expect: Expect,
    },
    /// Too long.
    #[error("a {service:?} frame of kind {kind:?} with {length} bytes, at most {limit} are expected")]
    Length {
        /// For whom.
        service: Service,
        /// What.
        kind: Kind,
        /// As it says.
        length: u32,
        /// As it may be.
        limit: usize,
    },
    /// A number where none belongs.
    #[error("a frame of kind {kind:?} with number {id}, expected 0")]
    Number {
        /// What.
        kind: Kind,
        /// Which.
        id: u32,
    },
}

impl Expect {
    /// The longest body, or nothing if such a frame may not come.
    fn limit(self, service: Service, kind: Kind) -> Option<usize> {
        match (self, kind) {
            (Self::Requests, Kind::Request) => Some(service.request_limit()),
            (Self::Answers, Kind::Answer) => Some(service.answer_limit()),
            (Self::JoinRequest, Kind::Request) if service == Service::Control => Some(JOIN_REQUEST_BYTES),
            (Self::JoinAnswer, Kind::Answer) if service == Service::Control => Some(JOIN_ANSWER_BYTES),
            (Self::Answers | Self::JoinAnswer, Kind::Dropped) => Some(0),
            (Self::Answers | Self::JoinAnswer, Kind::Refused) => Some(REASON_BYTES),
            _ => None,
        }
    }
}

impl Header {
    /// As it is sent.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let [a, b, c, d] = self.length.to_be_bytes();
        let [e, f, g, h] = self.id.to_be_bytes();
        [a, b, c, d, e, f, g, h, self.service as u8, self.kind as u8]
    }

    /// Reads one, and checks that it may come and be that long.
    ///
    /// # Errors
    /// If it is none, or none that was to be expected.
    pub fn decode(bytes: [u8; HEADER_BYTES], expect: Expect) -> Result<Self, FrameError> {
        let [a, b, c, d, e, f, g, h, service, kind] = bytes;
        let service = match service {
            1 => Service::Raft,
            2 => Service::Control,
            3 => Service::Bulk,
            other => return Err(FrameError::Service(other)),
        };
        let kind = match kind {
            0 => Kind::Request,
            1 => Kind::Answer,
            2 => Kind::Dropped,
            3 => Kind::Refused,
            other => return Err(FrameError::Kind(other)),
        };
        let (length, id) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
        let limit = expect
            .limit(service, kind)
            .ok_or(FrameError::Unexpected { kind, expect })?;
        if usize::try_from(length).map_or(true, |length| length > limit) {
            return Err(FrameError::Length {
                service,
                kind,
                length,
                limit,
            });
        }
        if kind == Kind::Refused && id != 0 {
            return Err(FrameError::Number { kind, id });
        }
        Ok(Self {
            id,
            service,
            kind,
            length,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Expect, FrameError, Header, Kind, Service};

    fn header(service: Service, kind: Kind, length: usize) -> Header {
        Header {
            id: if kind == Kind::Refused { 0 } else { 0xfedc_ba98 },
            service,
            kind,
            length: u32::try_from(length).unwrap(),
        }
    }

    #[test]
    fn what_is_expected_is_read_up_to_its_limit_and_nothing_else_is() {
        let all = [
            Expect::Requests,
            Expect::Answers,
            Expect::JoinRequest,
            Expect::JoinAnswer,
        ];
        let kinds = [Kind::Request, Kind::Answer, Kind::Dropped, Kind::Refused];
        let mut read = 0;
        for expect in all {
            for service in Service::ALL {
                for kind in kinds {
                    let shortest = header(service, kind, 0);
                    let Some(limit) = expect.limit(service, kind) else {
                        let refused = Header::decode(shortest.encode(), expect);
                        assert_eq!(refused, Err(FrameError::Unexpected { kind, expect }));
                        continue;
                    };
                    read += 1;
                    for length in [0, limit] {
                        let header = header(service, kind, length);
                        assert_eq!(Header::decode(header.encode(), expect), Ok(header));
                    }
                    let long = Header::decode(header(service, kind, limit + 1).encode(), expect);
                    assert!(matches!(long, Err(FrameError::Length { .. })), "{long:?}");
                }
            }
        }
        // Of three services each: requests, answers; what else a server and a joined node send; and the two of joins.
        assert_eq!(read, 3 + 3 + 2 * 6 + 2);
    }

    #[test]
    fn numbers_that_mean_nothing_are_refused() {
        let good = header(Service::Raft, Kind::Request, 7).encode();
        for (at, value, expected) in [
            (8, 0, FrameError::Service(0)),
            (8, 4, FrameError::Service(4)),
            (9, 4, FrameError::Kind(4)),
        ] {
            let mut bytes = good;
            bytes[at] = value;
            assert_eq!(Header::decode(bytes, Expect::Requests), Err(expected));
        }
        let mut reason = header(Service::Control, Kind::Refused, 7);
        reason.id = 9;
        let refused = Header::decode(reason.encode(), Expect::Answers);
        assert_eq!(
            refused,
            Err(FrameError::Number {
                kind: Kind::Refused,
                id: 9
            })
        );
    }
}
