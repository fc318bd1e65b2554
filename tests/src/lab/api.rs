//! A node's control API, asked over a socket in that node's namespace.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Place, TOKEN};

/// Where each node's control API is, in its own namespace.
pub(super) const CONTROL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// How long an answer may take: orders wait for the log.
const ANSWER: Duration = Duration::from_secs(30);

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: String,
}

impl Reply {
    /// Whether the demo back end of a node has answered this.
    ///
    /// # Errors
    /// With what came instead.
    pub fn by(&self, node: &str) -> Result<()> {
        let said = format!("Hello from {node}:");
        ensure!(self.status == 200 && self.body.starts_with(&said), "{self:?}");
        Ok(())
    }

    /// The body, if this is a success.
    ///
    /// # Errors
    /// The refusal, in the node's words.
    pub fn json(&self) -> Result<Value> {
        ensure!(
            (200..300).contains(&self.status),
            "{}: {}",
            self.status,
            self.body
        );
        serde_json::from_str(&self.body).with_context(|| format!("no JSON: {}", self.body))
    }
}

/// Asks once, on a connection of its own.
pub(super) fn ask(
    place: &Place,
    to: SocketAddr,
    method: &str,
    host: &str,
    path: &str,
    body: &str,
) -> Result<Reply> {
    ask_within(place, to, method, host, path, body, ANSWER)
}

pub(super) fn ask_within(
    place: &Place,
    to: SocketAddr,
    method: &str,
    host: &str,
    path: &str,
    body: &str,
    patience: Duration,
) -> Result<Reply> {
    let stream = connect(place, to, patience)?;
    exchange(stream, method, host, path, body, patience)
}

/// A connection to ask one thing.
pub(super) fn connect(place: &Place, to: SocketAddr, patience: Duration) -> Result<TcpStream> {
    let connected = place.connect_in(to, patience.min(CONNECT));
    connected.with_context(|| format!("{to} can't be reached"))
}

/// Asks on a connection.
pub(super) fn exchange(
    mut stream: TcpStream,
    method: &str,
    host: &str,
    path: &str,
    body: &str,
    patience: Duration,
) -> Result<Reply> {
    stream.set_read_timeout(Some(patience))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: \
         application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    stream
        .read_to_end(&mut answer)
        .with_context(|| format!("{method} {path}"))?;
    parse(&answer).with_context(|| format!("{method} {path}"))
}

fn parse(answer: &[u8]) -> Result<Reply> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(answer).context("no HTTP")?;
    let httparse::Status::Complete(start) = parsed else {
        anyhow::bail!("the answer ends in its head: {}", String::from_utf8_lossy(answer));
    };
    let chunked = response.headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case("transfer-encoding") && header.value.eq_ignore_ascii_case(b"chunked")
    });
    let body = if chunked {
        unchunk(&answer[start..])?
    } else {
        answer[start..].to_vec()
    };
    Ok(Reply {
        status: response.code.unwrap_or_default(),
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

fn unchunk(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let Ok(httparse::Status::Complete((start, size))) = httparse::parse_chunk_size(rest) else {
            anyhow::bail!("a chunk is cut off");
        };
        if size == 0 {
            return Ok(body);
        }
        let size = usize::try_from(size)?;
        ensure!(rest.len() >= start + size + 2, "a chunk is cut off");
        body.extend_from_slice(&rest[start..start + size]);
        rest = &rest[start + size + 2..];
    }
}
