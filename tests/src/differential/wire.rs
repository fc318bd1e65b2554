//! HTTP/1 as bytes: reads heads and bodies of any spelling, changes nothing in them. For clients and back ends alike.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// More than any head of a test.
const LONGEST_HEAD: usize = 1 << 20;

/// First line and header lines of a message, as they came.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    /// Request line or status line.
    pub(super) first: String,
    /// Names as written, values without the white space around them.
    pub(super) headers: Vec<(String, String)>,
}

impl Head {
    /// The first value of a header.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        let found = all.find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Whether the body is chunked.
    pub(super) fn chunked(&self) -> bool {
        self.get("transfer-encoding")
            .is_some_and(|value| value.to_ascii_lowercase().ends_with("chunked"))
    }

    /// Length of the body, where it says one.
    pub(super) fn length(&self) -> Option<usize> {
        self.get("content-length")?.parse().ok()
    }

    /// Whether the sender closes the connection after this message.
    pub(super) fn closes(&self) -> bool {
        self.get("connection")
            .is_some_and(|value| value.to_ascii_lowercase().contains("close"))
    }
}

/// A stream with what was read from it and is not used yet.
#[derive(Debug)]
pub(super) struct Reader<S> {
    /// The stream, for writing.
    pub(super) stream: S,
    buffer: Vec<u8>,
}

impl<S: AsyncRead + Unpin> Reader<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::with_capacity(4096),
        }
    }

    /// Reads a head; `None` when the stream ends before its first byte.
    pub(super) async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let head = parse(&self.buffer[..end]);
                self.buffer.drain(..end + 4);
                return Ok(Some(head));
            }
            if self.buffer.len() > LONGEST_HEAD {
                return Err(io::Error::other("a head without an end"));
            }
            if self.fill().await? == 0 {
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads so many bytes.
    pub(super) async fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }

    /// Reads a chunked body with its trailers, which are dropped.
    pub(super) async fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line().await?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let length = usize::from_str_radix(digits, 16)
                .map_err(|_| io::Error::other(format!("chunk size {line:?}")))?;
            if length == 0 {
                break;
            }
            body.extend(self.exactly(length).await?);
            self.exactly(2).await?;
        }
        while !self.line().await?.is_empty() {}
        Ok(body)
    }

    /// Reads until the other side has no more.
    pub(super) async fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.fill().await? > 0 {}
        Ok(std::mem::take(&mut self.buffer))
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line = text(&self.buffer[..end]);
                self.buffer.drain(..end + 2);
                return Ok(line);
            }
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.buffer).await
    }
}

fn parse(bytes: &[u8]) -> Head {
    let mut lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let first = text(lines.next().unwrap_or_default());
    let header = |line: &[u8]| {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        (text(name), text(value.trim_ascii()))
    };
    let headers = lines.map(header).collect();
    Head { first, headers }
}

/// Bytes as text; those that are no UTF-8 escaped, so that different ones stay different.
pub(super) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.escape_ascii().to_string(),
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reads_messages_one_after_the_other() {
        let bytes = b"HTTP/1.1 200 OK\r\nA: 1 \r\na:\xff\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\n\
            HTTP/1.1 204 No Content\r\n\r\n";
        let mut reader = Reader::new(&bytes[..]);
        let head = reader.head().await.unwrap().unwrap();
        let expected = [
            ("A".to_owned(), "1".to_owned()),
            ("a".to_owned(), "\\xff".to_owned()),
        ];
        assert_eq!(head.headers[..2], expected);
        assert!(head.chunked() && head.length().is_none());
        assert_eq!(reader.chunks().await.unwrap(), b"abc");
        assert_eq!(
            reader.head().await.unwrap().unwrap().first,
            "HTTP/1.1 204 No Content"
        );
        assert!(reader.head().await.unwrap().is_none());
    }
}
