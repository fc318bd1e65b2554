//! What a fault back end can be told to do.

use serde::{Deserialize, Serialize};

/// What happens to requests whose head arrives from now on (to connections, where it says so).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Behaviour {
    /// Answers 200 after this many milliseconds.
    Ok {
        /// Milliseconds.
        latency: u64,
    },
    /// Accepts and reads, and answers nothing until the behaviour changes.
    Hang,
    /// The same, with the body of the request left unread.
    HangUnread,
    /// Resets every new connection, and an open one when a request comes on it, before it is read.
    ResetOnAccept,
    /// Reads the head, resets.
    ResetUnread,
    /// Reads half of the body, resets.
    ResetMidBody,
    /// Reads the whole request, resets.
    ResetAfterRead,
    /// Reads the whole request, answers a head and half of the body, resets.
    ResetAfterHead,
    /// Reads the whole request and answers this.
    Status {
        /// The status.
        status: u16,
    },
    /// Answers this as soon as the head is read and closes, in good order, without reading the body.
    StatusEarly {
        /// The status.
        status: u16,
    },
    /// Closes its connections after their answers, accepts no new ones, and its listen queue is full: a connect gets
    /// no answer.
    FullQueue,
    /// Answers, and closes one connection in three without having said so.
    CloseAtRandom,
    /// Announces a body and closes in the middle of it.
    Truncate,
    /// Answers bytes that are no HTTP.
    Garbage,
    /// Answers with so many bytes of headers.
    HugeHeaders {
        /// Bytes.
        bytes: usize,
    },
    /// Answers with so many `103` before the 200.
    Informational {
        /// How many.
        count: usize,
    },
}

impl Behaviour {
    /// Answers 200 at once.
    pub const OK: Self = Self::Ok { latency: 0 };
}
