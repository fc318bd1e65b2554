//! Bytes on a socket, for what no well-behaved client sends.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::PATIENCE;

/// What came back on a connection.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// All bytes.
    pub bytes: Vec<u8>,
    /// Whether the other side closed the connection.
    pub closed: bool,
}

impl Exchange {
    /// The status of the first answer; `None` when there is none.
    pub fn status(&self) -> Option<u16> {
        let head = self.bytes.strip_prefix(b"HTTP/1.")?;
        std::str::from_utf8(head.get(2..5)?).ok()?.parse().ok()
    }

    /// Everything as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// How many answers came, interim ones not counted.
    pub fn answers(&self) -> usize {
        let text = self.text();
        text.matches("HTTP/1.").count() - text.matches("HTTP/1.1 100").count()
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    /// Read but not yet asked for.
    pending: Vec<u8>,
}

impl Wire {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    /// Takes a connection that is open already.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            pending: Vec::new(),
        }
    }

    /// Sends bytes. A connection that the other side has closed already is no failure: what it answered counts.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap_or_default();
    }

    /// Says that nothing more will be sent.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap_or_default();
    }

    /// Reads until the other side closes, but no longer than `limit`.
    pub async fn read_to_close(mut self, limit: Duration) -> Exchange {
        let mut bytes = std::mem::take(&mut self.pending);
        // A reset ends the connection as well as a FIN does.
        let closed = timeout(limit, self.stream.read_to_end(&mut bytes)).await.is_ok();
        Exchange { bytes, closed }
    }

    /// Reads until `end` has come, and returns everything up to and including it.
    ///
    /// # Panics
    /// When the connection closes before that.
    pub async fn read_until(&mut self, end: &str) -> String {
        loop {
            let found = self
                .pending
                .windows(end.len())
                .position(|window| window == end.as_bytes());
            if let Some(at) = found {
                let rest = self.pending.split_off(at + end.len());
                return String::from_utf8(std::mem::replace(&mut self.pending, rest)).unwrap();
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.pending)).await;
            let so_far = String::from_utf8_lossy(&self.pending).into_owned();
            let read = read.unwrap_or_else(|_| panic!("waited for {end:?}, got {so_far:?}"));
            assert!(read.unwrap_or(0) > 0, "closed before {end:?}, got {so_far:?}");
        }
    }

    /// Reads one answer with a `Content-Length` body.
    pub async fn read_answer(&mut self) -> (String, Vec<u8>) {
        let head = self.read_until("\r\n\r\n").await;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse().unwrap())
        });
        let length: usize = length.unwrap_or(0);
        while self.pending.len() < length {
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.pending))
                .await
                .unwrap()
                .unwrap();
            assert!(read > 0, "closed within the body of {head}");
        }
        let rest = self.pending.split_off(length);
        (head, std::mem::replace(&mut self.pending, rest))
    }
}

/// Sends bytes on a connection of its own and reads until it closes, for 5 seconds at the longest.
pub async fn exchange(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Exchange {
    let mut wire = Wire::connect(address).await;
    wire.send(bytes).await;
    wire.read_to_close(Duration::from_secs(5)).await
}
