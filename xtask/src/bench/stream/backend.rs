//! The back end behind every relay: one thread. TCP and UDP share a port number.
//!
//! The first byte of a connection says what is wanted: [`ECHO`] everything comes back, [`ONCE`] one message comes back
//! and the back end closes, [`SEND`] bytes come until the client leaves. Every datagram comes back.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result};
use clap::Args;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::bench::backend::body;

/// A message, bytes.
pub(super) const MESSAGE: usize = 64;
/// First byte of a connection: echo.
pub(super) const ECHO: u8 = b'E';
/// First byte of a connection: echo one message and close.
pub(super) const ONCE: u8 = b'O';
/// First byte of a connection: send without end.
pub(super) const SEND: u8 = b'S';
/// What is sent, again and again.
pub(super) const BLOCK: usize = 256 * 1024;
/// Datagrams taken in a row before connections have their turn again.
const DATAGRAMS: usize = 256;

const LISTENER: u64 = u64::MAX;
const DATAGRAM: u64 = u64::MAX - 1;

/// `bench-stream-backend`.
#[derive(Debug, Args)]
pub(crate) struct BackendArgs {
    /// Port on 127.0.0.1.
    #[arg(long)]
    port: u16,
}

/// Serves until the process is stopped.
pub(crate) fn run(args: &BackendArgs) -> Result<()> {
    let address = (Ipv4Addr::LOCALHOST, args.port);
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address:?}"))?;
    let datagrams = UdpSocket::bind(address).with_context(|| format!("cannot bind {address:?}"))?;
    Server::new(listener, datagrams)?.serve()
}

struct Server {
    listener: TcpListener,
    datagrams: UdpSocket,
    epoll: Epoll,
    connections: HashMap<u64, Connection>,
    block: Vec<u8>,
    buffer: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    mode: Option<u8>,
    /// Echoes that could not be sent yet.
    pending: Vec<u8>,
    /// Where in the block the next byte to send is.
    at: usize,
    interest: EpollFlags,
}

/// Why a connection ends; there is nobody to tell.
struct Closed;

impl Server {
    fn new(listener: TcpListener, datagrams: UdpSocket) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        listener.set_nonblocking(true)?;
        datagrams.set_nonblocking(true)?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        epoll.add(&datagrams, EpollEvent::new(EpollFlags::EPOLLIN, DATAGRAM))?;
        Ok(Self {
            listener,
            datagrams,
            epoll,
            connections: HashMap::new(),
            block: body(BLOCK),
            buffer: vec![0; 64 * 1024],
        })
    }

    fn serve(mut self) -> Result<()> {
        let mut events = [EpollEvent::empty(); 256];
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            for event in &events[..count] {
                match event.data() {
                    LISTENER => self.accept()?,
                    DATAGRAM => self.echo_datagrams(),
                    key => self.turn(key)?,
                }
            }
        }
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // The peer may be gone already.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error).context("cannot accept"),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            // A descriptor is not given again while the stream lives.
            let key = u64::try_from(stream.as_raw_fd())?;
            let interest = EpollFlags::EPOLLIN;
            self.epoll.add(&stream, EpollEvent::new(interest, key))?;
            self.connections.insert(
                key,
                Connection {
                    stream,
                    mode: None,
                    pending: Vec::new(),
                    at: 0,
                    interest,
                },
            );
        }
    }

    /// A datagram that can't be sent back is lost, as datagrams are: the load generator counts.
    fn echo_datagrams(&mut self) {
        for _ in 0..DATAGRAMS {
            let Ok((length, from)) = self.datagrams.recv_from(&mut self.buffer) else {
                return;
            };
            self.datagrams
                .send_to(&self.buffer[..length], from)
                .unwrap_or_default();
        }
    }

    fn turn(&mut self, key: u64) -> Result<()> {
        let Some(connection) = self.connections.get_mut(&key) else {
            return Ok(());
        };
        match connection.turn(&self.block, &mut self.buffer) {
            // Closing the descriptor takes it out of epoll.
            Err(Closed) => drop(self.connections.remove(&key)),
            Ok(interest) if interest != connection.interest => {
                connection.interest = interest;
                self.epoll
                    .modify(&connection.stream, &mut EpollEvent::new(interest, key))?;
            }
            Ok(_) => {}
        }
        Ok(())
    }
}

impl Connection {
    /// Does what can be done now; says what to wait for.
    fn turn(&mut self, block: &[u8], buffer: &mut [u8]) -> Result<EpollFlags, Closed> {
        if self.mode == Some(SEND) {
            return self.send(block);
        }
        if self.pending.is_empty() {
            let length = match self.stream.read(buffer) {
                Ok(0) => return Err(Closed),
                Ok(length) => length,
                Err(error) if would_block(&error) => return Ok(EpollFlags::EPOLLIN),
                Err(_) => return Err(Closed),
            };
            let mode = *self.mode.get_or_insert(buffer[0]);
            match mode {
                SEND => return self.send(block),
                ECHO | ONCE => self.echo(&buffer[..length])?,
                _ => return Err(Closed),
            }
            if mode == ONCE && self.pending.is_empty() {
                return Err(Closed);
            }
        } else {
            let pending = std::mem::take(&mut self.pending);
            self.echo(&pending)?;
        }
        Ok(if self.pending.is_empty() {
            EpollFlags::EPOLLIN
        } else {
            EpollFlags::EPOLLOUT
        })
    }

    fn echo(&mut self, bytes: &[u8]) -> Result<(), Closed> {
        let written = match self.stream.write(bytes) {
            Ok(written) => written,
            Err(error) if would_block(&error) => 0,
            Err(_) => return Err(Closed),
        };
        self.pending.extend_from_slice(&bytes[written..]);
        Ok(())
    }

    fn send(&mut self, block: &[u8]) -> Result<EpollFlags, Closed> {
        match self.stream.write(&block[self.at..]) {
            Ok(written) => self.at = (self.at + written) % block.len(),
            Err(error) if would_block(&error) => {}
            Err(_) => return Err(Closed),
        }
        Ok(EpollFlags::EPOLLOUT)
    }
}

fn would_block(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// A server on a free port; its thread ends with the test process.
    fn start() -> std::net::SocketAddr {
        // A port that is free for connections may be taken for datagrams.
        let (listener, datagrams, address) = (0..100)
            .find_map(|_| {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                let address = listener.local_addr().unwrap();
                Some((listener, UdpSocket::bind(address).ok()?, address))
            })
            .expect("a port that is free for both");
        thread::spawn(move || Server::new(listener, datagrams).unwrap().serve());
        address
    }

    #[test]
    fn echoes_more_than_socket_buffers_hold() {
        let mut stream = TcpStream::connect(start()).unwrap();
        let mut sent = body(20 << 20);
        sent[0] = ECHO;
        let mut writer = stream.try_clone().unwrap();
        let copy = sent.clone();
        let writing = thread::spawn(move || writer.write_all(&copy).unwrap());
        let mut got = vec![0; sent.len()];
        stream.read_exact(&mut got).unwrap();
        assert!(got == sent);
        writing.join().unwrap();
    }

    #[test]
    fn sends_blocks_and_closes_after_one_message() {
        let address = start();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&[SEND]).unwrap();
        let mut got = vec![0; 3 * BLOCK];
        stream.read_exact(&mut got).unwrap();
        assert!(got.chunks(BLOCK).all(|block| block == body(BLOCK)));
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&[ONCE; MESSAGE]).unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        assert_eq!(got, [ONCE; MESSAGE]);
    }

    #[test]
    fn datagrams_come_back() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect(start()).unwrap();
        socket.send(b"there").unwrap();
        let mut got = [0; 16];
        let length = socket.recv(&mut got).unwrap();
        assert_eq!(&got[..length], b"there");
    }
}
