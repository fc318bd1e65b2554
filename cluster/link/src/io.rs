//! Frames on a stream: read with the limits of [`crate::frame`], written and flushed.

use std::io;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::frame::{Expect, FrameError, HEADER_BYTES, Header, Kind, Service};

/// How long a frame that was begun may stand still.
pub(crate) const STALL: Duration = Duration::from_secs(5);
/// What is set aside for a body before any of it has come.
const AT_FIRST: usize = 64 * 1024;

/// The longest body that is copied behind its header, so that both are one record of TLS and one packet.
const IN_ONE: usize = 8 * 1024;

/// Why there is no next frame.
#[derive(Debug, Error)]
pub(crate) enum ReadError {
    /// Between two frames.
    #[error("the other side closed the connection")]
    Closed,
    /// It is none.
    #[error(transparent)]
    Malformed(#[from] FrameError),
    /// It was begun and not finished.
    #[error("a frame was begun and nothing more of it came for {} s", STALL.as_secs())]
    Stalled,
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads a header; waits for its first byte for as long as it takes. Not cancel safe.
pub(crate) async fn read_header<R: AsyncRead + Unpin>(
    stream: &mut R,
    expect: Expect,
) -> Result<Header, ReadError> {
    let mut bytes = [0; HEADER_BYTES];
    let read = match stream.read(&mut bytes).await {
        Ok(0) => return Err(ReadError::Closed),
        Ok(read) => read,
        // Without a farewell, as when the process was killed.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(ReadError::Closed),
        Err(error) => return Err(error.into()),
    };
    if let Some(rest) = bytes.get_mut(read..) {
        timeout(STALL, stream.read_exact(rest))
            .await
            .map_err(|_| ReadError::Stalled)??;
    }
    Ok(Header::decode(bytes, expect)?)
}

/// Reads the body of a header that was accepted. Not cancel safe.
pub(crate) async fn read_body<R: AsyncRead + Unpin>(
    stream: &mut R,
    header: &Header,
) -> Result<Vec<u8>, ReadError> {
    let length = usize::try_from(header.length).unwrap_or(usize::MAX);
    let mut body = Vec::with_capacity(length.min(AT_FIRST));
    let mut rest = stream.take(u64::from(header.length));
    while body.len() < length {
        let read = timeout(STALL, rest.read_buf(&mut body))
            .await
            .map_err(|_| ReadError::Stalled)??;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
    Ok(body)
}

/// A frame to write.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) id: u32,
    pub(crate) service: Service,
    pub(crate) kind: Kind,
    pub(crate) body: Vec<u8>,
}

/// Writes a frame, without a flush. Not cancel safe. A body that is too long for a header is the caller's to prevent.
pub(crate) async fn write_frame<W: AsyncWrite + Unpin>(stream: &mut W, frame: &Outgoing) -> io::Result<()> {
    let length = u32::try_from(frame.body.len())
        .map_err(|_| io::Error::other("a frame of more than 4 GiB can't be written"))?;
    let header = Header {
        id: frame.id,
        service: frame.service,
        kind: frame.kind,
        length,
    };
    if frame.body.len() <= IN_ONE {
        return stream.write_all(&[&header.encode(), &*frame.body].concat()).await;
    }
    stream.write_all(&header.encode()).await?;
    stream.write_all(&frame.body).await
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::time::Instant;

    use super::{Expect, Kind, Outgoing, ReadError, STALL, Service, read_body, read_header, write_frame};

    fn frame(length: usize) -> Outgoing {
        Outgoing {
            id: 9,
            service: Service::Raft,
            kind: Kind::Request,
            body: vec![7; length],
        }
    }

    async fn read(bytes: &[u8]) -> Result<usize, ReadError> {
        let mut bytes = bytes;
        let header = read_header(&mut bytes, Expect::Requests).await?;
        Ok(read_body(&mut bytes, &header).await?.len())
    }

    #[tokio::test]
    async fn what_is_written_is_read_and_what_is_cut_is_not() {
        for length in [0, 1, 8 * 1024, 8 * 1024 + 1, 300_000] {
            let mut bytes = Vec::new();
            write_frame(&mut bytes, &frame(length)).await.unwrap();
            assert_eq!(read(&bytes).await.unwrap(), length);
            assert!(matches!(read(&[]).await, Err(ReadError::Closed)));
            for cut in [1, 9, bytes.len() - 1] {
                let cut = read(&bytes[..cut.min(bytes.len() - 1)]).await;
                assert!(matches!(cut, Err(ReadError::Io(_))), "{cut:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_stands_still_is_given_up_and_silence_between_frames_is_not() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &frame(20)).await.unwrap();
        for begun in [1, 10, 29] {
            let (mut near, mut far) = tokio::io::duplex(64);
            let waiting = async {
                tokio::time::sleep(100 * STALL).await;
                near.write_all(&bytes[..begun]).await.unwrap();
                Instant::now()
            };
            let reading = async {
                let header = read_header(&mut far, Expect::Requests).await?;
                read_body(&mut far, &header).await
            };
            let (begun, read) = tokio::join!(waiting, reading);
            assert!(matches!(read, Err(ReadError::Stalled)), "{read:?}");
            assert_eq!(begun.elapsed(), STALL);
        }
    }
}
