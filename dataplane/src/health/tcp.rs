//! TCP checks: a connection, and where the service says so a few words and the answer to them.
//!
//! As in Traefik, what comes back must begin with what is expected. Traefik looks at what its first read gives; here an
//! answer may come in pieces.

use constellation_table::ProxyProtocolVersion;
use constellation_table::policy::TcpExchange;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::connection::{Deadline, Net, Place};
use super::failure::{Failure, shown};
use super::target::Target;
use crate::http::IMPATIENT;
use crate::l4::proxy_protocol::{ProxyHeader, Version, encode};
use crate::metrics::CheckOutcome;

/// One read of an answer. What is behind the expected bytes is of no interest.
const READ: usize = 4096;

/// The whole of a check. What a stream would say before its client's bytes is said here too, in the same order.
pub(super) async fn ask(target: &Target, net: &Net, deadline: Deadline) -> Result<(), Failure> {
    let exchange = &target.check.exchange;
    let mut stream = connect(&target.origin, net, deadline).await?;
    let preface = preface(target);
    let Some(tls) = &target.tls else {
        return talk(stream, &preface, exchange, deadline).await;
    };
    let tls = tls.clone().map_err(|why| Failure::settings(&why))?;
    let securing = async {
        stream.write_all(&preface).await.map_err(|_| closed())?;
        let secured = tls.connect(stream).await;
        secured.map_err(|error| Failure::tls(&error.to_string()))
    };
    let secured = timeout_at(deadline.at, securing)
        .await
        .map_err(|_| Failure::no_connection(deadline.limit))??;
    talk(secured, &[], exchange, deadline).await
}

/// What a back end that wants PROXY headers gets before anything else: that the connection is our own.
fn preface(target: &Target) -> Vec<u8> {
    let version = match target.transport.stream.proxy_protocol {
        None => return Vec::new(),
        Some(ProxyProtocolVersion::V1) => Version::V1,
        Some(ProxyProtocolVersion::V2) => Version::V2,
    };
    encode(version, &ProxyHeader::default())
}

/// A connection to the first address that takes one.
async fn connect(origin: &Place, net: &Net, deadline: Deadline) -> Result<TcpStream, Failure> {
    let Place { host, port, .. } = origin;
    let addresses = net.names.addresses(host, *port, deadline.limit / 2).await;
    let addresses = addresses.map_err(|error| Failure::name(host, &error))?;
    let mut failure = Failure::no_connection(deadline.limit);
    for (position, address) in addresses.iter().enumerate() {
        let until = match position + 1 == addresses.len() {
            true => deadline.at,
            false => deadline.at.min(Instant::now() + IMPATIENT),
        };
        failure = match timeout_at(until, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => Failure::connect(&error),
            Err(_) => Failure::no_connection(deadline.limit),
        };
    }
    net.names.forget(host);
    Err(failure)
}

/// Says what is to be said, and listens until the answer is or isn't the expected one.
async fn talk(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    preface: &[u8],
    exchange: &TcpExchange,
    deadline: Deadline,
) -> Result<(), Failure> {
    let words = [preface, &exchange.send].concat();
    let talking = async {
        if !words.is_empty() {
            let said = async {
                stream.write_all(&words).await?;
                stream.flush().await
            };
            said.await.map_err(|_| closed())?;
        }
        let mut answer = Vec::new();
        while !answer.starts_with(&exchange.expect) {
            if !exchange.expect.starts_with(&answer) {
                return Err(other(&answer, &exchange.expect));
            }
            answer.reserve(READ);
            if !matches!(stream.read_buf(&mut answer).await, Ok(1..)) {
                return Err(closed());
            }
        }
        Ok(())
    };
    timeout_at(deadline.at, talking)
        .await
        .unwrap_or_else(|_| Err(Failure::no_answer(deadline.limit)))
}

fn closed() -> Failure {
    Failure::new(
        CheckOutcome::Closed,
        "the connection ended before the answer was complete",
    )
}

fn other(answer: &[u8], expected: &[u8]) -> Failure {
    // Up to a little more than what was expected: the rest says nothing about the difference.
    let answer = answer.get(..expected.len() + 32).unwrap_or(answer);
    let text = |bytes: &[u8]| shown(&String::from_utf8_lossy(bytes));
    let reason = format!(
        "the answer begins with {:?}, not {:?}",
        text(answer),
        text(expected)
    );
    Failure::new(CheckOutcome::Status, reason)
}
