//! Reads requests as strictly as a test needs: what does not fit its framing is an error.

use std::io;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// The longest head.
const MAX_HEAD: u64 = 128 * 1024;

/// A connection from the client's side of it.
#[derive(Debug)]
pub(super) struct Inbound(BufReader<TcpStream>);

/// A request's head.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) id: String,
    pub(super) close: bool,
    pub(super) expects_continue: bool,
    pub(super) framing: Framing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// What came of a body.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) complete: bool,
    pub(super) length: u64,
    pub(super) sha256: String,
    /// The bytes, when there are few.
    pub(super) bytes: Vec<u8>,
}

struct Taken {
    length: u64,
    hash: Sha256,
    bytes: Vec<u8>,
    /// Where to stop.
    limit: u64,
}

impl Inbound {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self(BufReader::with_capacity(64 * 1024, stream))
    }

    pub(super) fn stream(&self) -> &TcpStream {
        self.0.get_ref()
    }

    /// Waits for the first byte of a request; `false`: the other side has closed. Cancel-safe.
    pub(super) async fn waits(&mut self) -> io::Result<bool> {
        Ok(!self.0.fill_buf().await?.is_empty())
    }

    /// Reads a head.
    pub(super) async fn head(&mut self) -> io::Result<Head> {
        let mut bytes = Vec::new();
        loop {
            let line = bytes.len();
            let read = (&mut self.0).take(MAX_HEAD).read_until(b'\n', &mut bytes).await?;
            if read == 0 || bytes.len() as u64 > MAX_HEAD {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if matches!(&bytes[line..], b"\r\n" | b"\n") && line > 0 {
                return parse(&bytes);
            }
        }
    }

    /// Reads a body to its end, or until so many bytes of it.
    pub(super) async fn body(&mut self, framing: Framing, limit: u64) -> Body {
        let mut taken = Taken {
            length: 0,
            hash: Sha256::new(),
            bytes: Vec::new(),
            limit,
        };
        let complete = match framing {
            Framing::None => Ok(true),
            Framing::Length(length) => self.take(length, &mut taken).await,
            Framing::Chunked => self.chunks(&mut taken).await,
        };
        Body {
            complete: complete.unwrap_or(false),
            length: taken.length,
            sha256: hex(&taken.hash.finalize()),
            bytes: taken.bytes,
        }
    }

    async fn chunks(&mut self, taken: &mut Taken) -> io::Result<bool> {
        loop {
            let line = self.line().await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
            if size == 0 {
                while !self.line().await?.is_empty() {}
                return Ok(true);
            }
            if !self.take(size, taken).await? {
                return Ok(false);
            }
            if !self.line().await?.is_empty() {
                return Err(io::Error::other("a chunk that is longer than it says"));
            }
        }
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        (&mut self.0).take(1024).read_line(&mut line).await?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// `false`: stopped at the limit.
    async fn take(&mut self, mut left: u64, taken: &mut Taken) -> io::Result<bool> {
        while left > 0 {
            if taken.length >= taken.limit {
                return Ok(false);
            }
            let buffer = self.0.fill_buf().await?;
            if buffer.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let room = left.min(taken.limit - taken.length);
            let count = buffer.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            taken.hash.update(&buffer[..count]);
            if taken.bytes.len() < 4096 {
                taken.bytes.extend_from_slice(&buffer[..count]);
            }
            taken.length += count as u64;
            left -= count as u64;
            self.0.consume(count);
        }
        Ok(true)
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }

    /// Ends with a reset.
    pub(super) fn reset(self) {
        // Fails only where the connection is gone already.
        let socket = socket2::SockRef::from(self.stream());
        socket.set_linger(Some(Duration::ZERO)).unwrap_or_default();
    }

    /// Says that nothing more comes, and waits a little for the other side to do the same, so that what was written is
    /// not lost to a reset.
    pub(super) async fn finish(mut self) {
        self.0.shutdown().await.unwrap_or_default();
        let mut sink = tokio::io::sink();
        let drained = tokio::time::timeout(
            Duration::from_millis(500),
            tokio::io::copy(&mut self.0, &mut sink),
        );
        drop(drained.await);
    }
}

fn parse(bytes: &[u8]) -> io::Result<Head> {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut headers);
    if !request.parse(bytes).map_err(io::Error::other)?.is_complete() {
        return Err(io::Error::other("not a whole head"));
    }
    let header = |name: &str| {
        let found = request
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| String::from_utf8_lossy(header.value).trim().to_owned())
    };
    let chunked = header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    let framing = match header("content-length") {
        _ if chunked => Framing::Chunked,
        None => Framing::None,
        Some(length) => match length.parse().map_err(io::Error::other)? {
            0 => Framing::None,
            length => Framing::Length(length),
        },
    };
    Ok(Head {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        id: header("x-request-id").unwrap_or_default(),
        close: header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")),
        expects_continue: header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")),
        framing,
    })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
