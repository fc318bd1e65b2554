//! The load generator for UDP: each client is a socket, and clients take turns with one datagram each.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use super::backend::MESSAGE;
use super::load::{Seen, wait};

/// Datagrams under way at once, of so many clients: a few hundred fill the queue of a socket, and what is lost there says
/// nothing of a relay.
const UNDER_WAY: usize = 64;
/// After so long a datagram counts as lost and the client sends the next one.
const LOST: Duration = Duration::from_millis(500);
/// The share of lost datagrams beyond which a sample counts for nothing: UDP loses some where a queue is full, but who
/// loses many has done less work.
const TOLERATED: f64 = 0.01;

struct Client {
    socket: UdpSocket,
    message: [u8; MESSAGE],
    /// When the datagram that is under way was sent.
    sent: Option<Instant>,
}

/// Exchanges datagrams for this long.
pub(super) fn run(port: u16, clients: usize, time: Duration) -> Result<Seen> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut all = Vec::new();
    for key in 0..clients {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
        socket.connect((Ipv4Addr::LOCALHOST, port))?;
        socket.set_nonblocking(true)?;
        epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, key as u64))?;
        let mut client = Client {
            socket,
            message: [b'D'; MESSAGE],
            sent: None,
        };
        client.message[..8].copy_from_slice(&(key as u64).to_le_bytes());
        all.push(client);
    }
    let mut idle: VecDeque<usize> = (0..clients).collect();
    for key in idle.drain(..clients.min(UNDER_WAY)) {
        all[key].send()?;
    }
    let (mut latencies, mut lost, mut faults) = (Vec::new(), 0_u64, Vec::new());
    let start = Instant::now();
    let mut looked = start;
    let mut events = [EpollEvent::empty(); 256];
    while start.elapsed() < time && faults.is_empty() {
        let count = wait(&epoll, &mut events)?;
        for event in &events[..count] {
            let key = usize::try_from(event.data())?;
            match all[key].receive() {
                Err(fault) => faults.push(fault),
                Ok(None) => {}
                Ok(Some(latency)) => {
                    latencies.push(u64::try_from(latency.as_nanos())?);
                    idle.push_back(key);
                    if let Some(next) = idle.pop_front() {
                        all[next].send()?;
                    }
                }
            }
        }
        if looked.elapsed() > LOST / 5 {
            looked = Instant::now();
            for client in all
                .iter_mut()
                .filter(|client| client.sent.is_some_and(|sent| sent.elapsed() > LOST))
            {
                lost += 1;
                client.send()?;
            }
        }
    }
    let answered = latencies.len() as u64;
    if lost as f64 > answered as f64 * TOLERATED {
        faults.push(format!("{lost} datagrams lost beside {answered} answered"));
    }
    // One there and one back.
    Ok(Seen::of(
        2.0 * answered as f64,
        start.elapsed(),
        latencies,
        faults,
    ))
}

impl Client {
    /// Sends the next message, no two of which are alike.
    fn send(&mut self) -> Result<()> {
        let [_, counter, ..] = self.message.as_chunks_mut::<8>().0 else {
            anyhow::bail!("messages are too short");
        };
        *counter = u64::from_le_bytes(*counter).wrapping_add(1).to_le_bytes();
        self.sent = Some(Instant::now());
        match self.socket.send(&self.message) {
            // No room: it is lost, and counted when its time is over.
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            other => other.map(drop).context("cannot send"),
        }
    }

    /// How long the answer to the last message took, when it has come. A late answer to one given up is none.
    fn receive(&mut self) -> Result<Option<Duration>, String> {
        let mut buffer = [0; 2 * MESSAGE];
        match self.socket.recv(&mut buffer) {
            Ok(length) if buffer[..length] == self.message => Ok(self.sent.take().map(|sent| sent.elapsed())),
            Ok(length) if length == MESSAGE && buffer[..8] == self.message[..8] => Ok(None),
            Ok(length) => Err(format!("a datagram of {length} bytes that nobody sent")),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }
}
