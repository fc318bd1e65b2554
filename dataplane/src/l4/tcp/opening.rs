//! The first bytes of a connection, as far as the decision needs them.

use std::fmt;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::Arrival;
use crate::l4::hello::{self, ClientHello, HelloReader};
use crate::l4::postgres::{self, Preamble, Step};
use crate::metrics::Refusal;

/// One read of first bytes.
const READ: usize = 4096;

/// The fatal alert `decode_error` (RFC 8446 section 6.2) in a record of its own.
const DECODE_ERROR: [u8; 7] = [0x15, 3, 1, 0, 2, 2, 50];

/// What a connection begins with.
#[derive(Debug, Default)]
pub(super) struct Opening {
    /// The ClientHello; `None`: no TLS, or nobody looked.
    pub(super) hello: Option<ClientHello>,
    /// The client asked for TLS as PostgreSQL's clients do, and was told that it begins.
    pub(super) postgres: bool,
}

/// What came of reading.
pub(super) enum Opened {
    /// Enough to decide. The bytes stay with the arrival, without those of a preamble.
    Ready(Opening),
    /// The connection is over: it ended, said nothing in time, or broke a rule.
    Refused(Option<Refusal>),
}

/// Reads until it is known what a connection begins with.
pub(super) async fn read(arrival: &mut Arrival, hello_time: Duration) -> Opened {
    let mut preamble = Preamble::default();
    let mut postgres = false;
    loop {
        if arrival.first.is_empty()
            && let Err(refused) = more(&mut arrival.socket, &mut arrival.first, arrival.deadline).await
        {
            return refused;
        }
        let tls = arrival.first.first() == Some(&hello::HANDSHAKE);
        let step = match postgres {
            true => Step::Pass,
            false => preamble.step(&arrival.first),
        };
        let answer = match step {
            Step::Pass if tls => return read_hello(arrival, hello_time, postgres).await,
            // Who was told that TLS begins begins with nothing else.
            Step::Pass if postgres => return Opened::Refused(Some(Refusal::Malformed)),
            Step::Pass => return Opened::Ready(Opening::default()),
            Step::Close => return Opened::Refused(Some(Refusal::Malformed)),
            Step::More => match more(&mut arrival.socket, &mut arrival.first, arrival.deadline).await {
                Ok(()) => continue,
                Err(refused) => return refused,
            },
            Step::StartTls => {
                postgres = true;
                postgres::YES
            }
            Step::RefuseGss => postgres::NO,
        };
        // What a client sends behind the request before it is answered is not encrypted and would be taken for what is
        // (CVE-2021-23214).
        if arrival.first.len() > postgres::REQUEST_LEN {
            return Opened::Refused(Some(Refusal::Malformed));
        }
        arrival.first.clear();
        let answered = timeout_at(arrival.deadline, arrival.socket.write_all(&[answer])).await;
        if !matches!(answered, Ok(Ok(()))) {
            return Opened::Refused(None);
        }
    }
}

/// Reads the whole ClientHello. Who begins as TLS does and then says something else, or what two readers could understand
/// differently, is for no router: its name would choose the way, and nobody knows it.
async fn read_hello(arrival: &mut Arrival, time: Duration, postgres: bool) -> Opened {
    let deadline = Instant::now() + time;
    let mut reader = HelloReader::default();
    loop {
        match reader.read(&arrival.first) {
            hello::Progress::Hello(hello) => {
                return Opened::Ready(Opening {
                    hello: Some(hello),
                    postgres,
                });
            }
            hello::Progress::NotTls => {
                return unreadable(arrival, &"a handshake record of no version of TLS");
            }
            hello::Progress::Malformed(fault) => return unreadable(arrival, &fault),
            hello::Progress::More(_) => {
                if let Err(refused) = more(&mut arrival.socket, &mut arrival.first, deadline).await {
                    return refused;
                }
            }
        }
    }
}

/// Tells the client, as far as its socket takes it at once.
fn unreadable(arrival: &Arrival, why: &dyn fmt::Display) -> Opened {
    tracing::debug!(%why, client = %arrival.client, "a ClientHello that can't be read");
    if let Err(error) = arrival.socket.try_write(&DECODE_ERROR) {
        tracing::trace!(%error, "the client was gone before the alert");
    }
    Opened::Refused(Some(Refusal::ClientHello))
}

/// Reads once.
async fn more(socket: &mut TcpStream, first: &mut Vec<u8>, deadline: Instant) -> Result<(), Opened> {
    first.reserve(READ);
    match timeout_at(deadline, socket.read_buf(first)).await {
        Ok(Ok(1..)) => Ok(()),
        Ok(Ok(0) | Err(_)) => Err(Opened::Refused(None)),
        // Silence needs no number: it is what port scanners and health checks do.
        Err(_) if first.is_empty() => Err(Opened::Refused(None)),
        Err(_) => Err(Opened::Refused(Some(Refusal::HeaderTimeout))),
    }
}
