//! A job: how many bytes go which way in which order, and who ends it how. A header says it to the server.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::pattern::{PIECE, Pattern};
use super::reset;

/// Bytes of the header.
const HEADER: usize = 33;
/// What the side that will reset is told when everything it sent has arrived: a reset overtakes what is under way.
const ARRIVED: u8 = b'!';

/// Who sends when, and how it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Both at once; each says that it has ended when it has sent its last byte.
    Both,
    /// The server begins when the client has ended.
    ClientFirst,
    /// The server sends all and ends; the client, having seen that, sends all and ends.
    ServerFirst,
    /// The server sends all, and resets the connection once it has arrived.
    ServerResets,
    /// The client sends all, and resets the connection once it has arrived.
    ClientResets,
}

/// One connection's work.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Its number: the server's report goes by it, and both patterns.
    pub number: u64,
    /// Bytes from the client.
    pub up: u64,
    /// Bytes from the server.
    pub down: u64,
    /// In which order.
    pub order: Order,
}

impl Job {
    pub(super) fn up_pattern(self) -> Pattern {
        Pattern::new(self.number * 2 + 1)
    }

    pub(super) fn down_pattern(self) -> Pattern {
        Pattern::new(self.number * 2)
    }

    fn encode(self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(b"job here");
        header[8..16].copy_from_slice(&self.number.to_be_bytes());
        header[16..24].copy_from_slice(&self.up.to_be_bytes());
        header[24..32].copy_from_slice(&self.down.to_be_bytes());
        header[32] = self.order as u8;
        header
    }

    /// Reads a header.
    pub(super) async fn read(stream: &mut TcpStream) -> std::io::Result<Self> {
        let mut header = [0; HEADER];
        stream.read_exact(&mut header).await?;
        let number = |at: usize| u64::from_be_bytes(header[at..at + 8].try_into().unwrap());
        let order = match header[32] {
            0 => Order::Both,
            1 => Order::ClientFirst,
            2 => Order::ServerFirst,
            3 => Order::ServerResets,
            4 => Order::ClientResets,
            other => return Err(Error::other(format!("order {other}"))),
        };
        if header[..8] != *b"job here" {
            return Err(Error::other(format!("not a header: {header:?}")));
        }
        Ok(Self {
            number: number(8),
            up: number(16),
            down: number(24),
            order,
        })
    }

    /// The client's side at `address`; says what is wrong with what came back.
    pub async fn run(self, address: SocketAddr) -> Result<(), String> {
        self.drive(address)
            .await
            .map_err(|error| format!("job {}: {error}", self.number))
    }

    async fn drive(self, address: SocketAddr) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        stream.write_all(&self.encode()).await?;
        let (up, down) = (self.up_pattern(), self.down_pattern());
        match self.order {
            Order::Both => {
                let (mut reader, mut writer) = stream.split();
                let sent = async {
                    send(&mut writer, up, self.up).await?;
                    writer.shutdown().await
                };
                let received = async {
                    receive(&mut reader, down, self.down).await?;
                    ended(&mut reader).await
                };
                tokio::try_join!(sent, received)?;
            }
            Order::ClientFirst => {
                send(&mut stream, up, self.up).await?;
                stream.shutdown().await?;
                receive(&mut stream, down, self.down).await?;
                ended(&mut stream).await?;
            }
            Order::ServerFirst => {
                receive(&mut stream, down, self.down).await?;
                ended(&mut stream).await?;
                send(&mut stream, up, self.up).await?;
                stream.shutdown().await?;
            }
            Order::ServerResets => {
                receive(&mut stream, down, self.down).await?;
                stream.write_all(&[ARRIVED]).await?;
                match stream.read(&mut [0]).await {
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
                    other => return Err(Error::other(format!("expected a reset, got {other:?}"))),
                }
            }
            Order::ClientResets => {
                send(&mut stream, up, self.up).await?;
                let mut said = [0];
                stream.read_exact(&mut said).await?;
                reset(stream);
            }
        }
        Ok(())
    }

    /// Says that everything has arrived.
    pub(super) async fn arrived(stream: &mut TcpStream) -> std::io::Result<()> {
        stream.write_all(&[ARRIVED]).await
    }
}

/// Sends `length` bytes of the pattern.
pub(super) async fn send(
    to: &mut (impl AsyncWrite + Unpin),
    pattern: Pattern,
    length: u64,
) -> std::io::Result<()> {
    let mut at = 0;
    while at < length {
        let piece = pattern.at(at, length - at);
        to.write_all(piece).await?;
        at += piece.len() as u64;
    }
    Ok(())
}

/// Receives exactly `length` bytes, which have to be those of the pattern.
pub(super) async fn receive(
    from: &mut (impl AsyncRead + Unpin),
    pattern: Pattern,
    length: u64,
) -> std::io::Result<()> {
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while at < length {
        let wanted = usize::try_from(length - at).unwrap_or(PIECE).min(PIECE);
        let read = from.read(&mut buffer[..wanted]).await;
        let read =
            read.map_err(|error| Error::new(error.kind(), format!("{error} after {at} of {length} bytes")))?;
        if read == 0 {
            return Err(Error::other(format!("the end after {at} of {length} bytes")));
        }
        if let Some(wrong) = pattern.differs(at, &buffer[..read]) {
            return Err(Error::other(format!("a wrong byte at {wrong} of {length}")));
        }
        at += read as u64;
    }
    Ok(())
}

/// Fails unless the stream ends here, in good order.
pub(super) async fn ended(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<()> {
    match from.read(&mut [0; 64]).await? {
        0 => Ok(()),
        more => Err(Error::other(format!("{more} bytes beyond the end"))),
    }
}
