//! The load generator: one thread, a closed loop. Prints one line of JSON, [`Seen`].

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, recv};
use serde::{Deserialize, Serialize};

use super::backend::{ECHO, MESSAGE, ONCE, SEND};
use super::datagrams;
use super::scenario::Work;

/// Bytes taken at once from a bulk stream.
const TAKEN: usize = 256 * 1024;
/// How long a client may wait for its answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How often the clock is looked at while nothing happens, milliseconds.
const TICK: u8 = 100;

/// `bench-stream-load`.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// What is done.
    #[arg(long, value_enum)]
    work: Work,
    /// Port of the relay on 127.0.0.1.
    #[arg(long)]
    port: u16,
    /// Connections, or clients, at once.
    #[arg(long)]
    clients: usize,
    /// How long.
    #[arg(long)]
    seconds: u32,
}

/// What one run saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Seen {
    /// Units of the scenario.
    pub(super) units: f64,
    /// How long it took, seconds.
    pub(super) seconds: f64,
    /// Median latency, microseconds; 0 when there is none.
    pub(super) p50: f64,
    /// 99th percentile, microseconds.
    pub(super) p99: f64,
    /// What went wrong; a sample with faults counts for nothing.
    pub(super) faults: Vec<String>,
}

/// Runs one and prints what it saw.
pub(crate) fn run(args: &LoadArgs) -> Result<()> {
    let time = Duration::from_secs(args.seconds.into());
    let seen = match args.work {
        Work::Bulk => bulk(args.port, args.clients, time),
        Work::Ping => Messages::start(args.port, args.clients, ECHO)?.run(time),
        Work::Connect => Messages::start(args.port, args.clients, ONCE)?.run(time),
        Work::Udp => datagrams::run(args.port, args.clients, time),
    }?;
    println!("{}", serde_json::to_string(&seen)?);
    Ok(())
}

impl Seen {
    /// With latencies in nanoseconds, in any order.
    pub(super) fn of(units: f64, time: Duration, mut latencies: Vec<u64>, faults: Vec<String>) -> Self {
        latencies.sort_unstable();
        let percentile = |percent: usize| {
            let at = (latencies.len() * percent / 100).min(latencies.len().saturating_sub(1));
            latencies
                .get(at)
                .map_or(0.0, |nanoseconds| *nanoseconds as f64 / 1e3)
        };
        Self {
            units,
            seconds: time.as_secs_f64(),
            p50: percentile(50),
            p99: percentile(99),
            faults,
        }
    }
}

/// Takes bytes without looking at them: the check before the measurement did. The kernel does not even copy them.
fn bulk(port: u16, clients: usize, time: Duration) -> Result<Seen> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut streams = Vec::new();
    for key in 0..clients {
        let mut stream = connect(port)?;
        stream.write_all(&[SEND])?;
        epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, key as u64))?;
        streams.push(stream);
    }
    let (mut bytes, mut faults) = (0_u64, Vec::new());
    let mut each = vec![0_u64; clients];
    let mut buffer = vec![0; TAKEN];
    let start = Instant::now();
    let mut events = [EpollEvent::empty(); 64];
    while start.elapsed() < time && faults.is_empty() {
        let count = wait(&epoll, &mut events)?;
        for event in &events[..count] {
            let key = usize::try_from(event.data())?;
            match recv(streams[key].as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC) {
                Ok(0) => faults.push("a stream ended".to_owned()),
                Ok(length) => {
                    bytes += length as u64;
                    each[key] += length as u64;
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => faults.push(error.to_string()),
            }
        }
    }
    let starved = each.iter().filter(|bytes| **bytes == 0).count();
    if starved > 0 {
        faults.push(format!("{starved} streams got nothing"));
    }
    Ok(Seen::of(bytes as f64 / 1e6, start.elapsed(), Vec::new(), faults))
}

/// Waits for events, a [`TICK`] at the longest.
pub(super) fn wait(epoll: &Epoll, events: &mut [EpollEvent]) -> Result<usize> {
    match epoll.wait(events, EpollTimeout::from(TICK)) {
        Err(Errno::EINTR) => Ok(0),
        other => Ok(other?),
    }
}

fn connect(port: u16) -> Result<TcpStream> {
    // On the loopback interface the kernel accepts at once, whatever the relay does.
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("cannot connect")?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Clients that send a message and wait for its echo.
struct Messages {
    port: u16,
    mode: u8,
    epoll: Epoll,
    clients: Vec<Client>,
    latencies: Vec<u64>,
    faults: Vec<String>,
}

struct Client {
    stream: TcpStream,
    message: [u8; MESSAGE],
    /// Bytes of the echo that came.
    got: usize,
    /// When the message, or with it the connection, was begun.
    begun: Instant,
}

/// How far a client came.
enum Step {
    Waits,
    /// The echo is whole, and with [`ONCE`] the connection has ended.
    Done,
}

impl Messages {
    fn start(port: u16, clients: usize, mode: u8) -> Result<Self> {
        let mut messages = Self {
            port,
            mode,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            clients: Vec::new(),
            latencies: Vec::new(),
            faults: Vec::new(),
        };
        for key in 0..clients {
            let client = messages.client(key)?;
            messages.clients.push(client);
        }
        Ok(messages)
    }

    fn client(&self, key: usize) -> Result<Client> {
        let begun = Instant::now();
        let stream = connect(self.port)?;
        self.epoll
            .add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, key as u64))?;
        let mut client = Client {
            stream,
            message: [self.mode; MESSAGE],
            got: 0,
            begun,
        };
        client.send(key)?;
        Ok(client)
    }

    fn run(mut self, time: Duration) -> Result<Seen> {
        let start = Instant::now();
        let mut events = [EpollEvent::empty(); 64];
        while start.elapsed() < time && self.faults.is_empty() {
            let count = wait(&self.epoll, &mut events)?;
            for event in &events[..count] {
                self.turn(usize::try_from(event.data())?)?;
            }
            if count == 0
                && self
                    .clients
                    .iter()
                    .any(|client| client.begun.elapsed() > PATIENCE)
            {
                self.faults.push(format!("no answer within {PATIENCE:?}"));
            }
        }
        let units = self.latencies.len() as f64;
        Ok(Seen::of(units, start.elapsed(), self.latencies, self.faults))
    }

    fn turn(&mut self, key: usize) -> Result<()> {
        let once = self.mode == ONCE;
        let client = &mut self.clients[key];
        match client.receive(once) {
            Err(fault) => self.faults.push(fault),
            Ok(Step::Waits) => {}
            Ok(Step::Done) => {
                let latency = client.begun.elapsed();
                self.latencies.push(u64::try_from(latency.as_nanos())?);
                if once {
                    // The old connection closes, which takes it out of epoll.
                    self.clients[key] = self.client(key)?;
                } else {
                    client.begun = Instant::now();
                    client.send(key)?;
                }
            }
        }
        Ok(())
    }
}

impl Client {
    /// Sends the next message, no two of which are alike.
    fn send(&mut self, key: usize) -> Result<()> {
        let [.., tail] = self.message.as_chunks_mut::<8>().0 else {
            anyhow::bail!("messages are too short");
        };
        let next = u64::from_le_bytes(*tail).wrapping_add(1 + key as u64);
        *tail = next.to_le_bytes();
        self.got = 0;
        // So few bytes fit into any socket buffer.
        self.stream.write_all(&self.message).context("cannot send")
    }

    fn receive(&mut self, once: bool) -> Result<Step, String> {
        let mut buffer = [0; 2 * MESSAGE];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) if once && self.got == MESSAGE => return Ok(Step::Done),
                Ok(0) => {
                    return Err(format!(
                        "a connection ended after {} of {MESSAGE} bytes",
                        self.got
                    ));
                }
                Ok(length) => {
                    let rest = &self.message[self.got..];
                    if rest.get(..length) != Some(&buffer[..length]) {
                        return Err("an echo differs from its message".into());
                    }
                    self.got += length;
                    if !once && self.got == MESSAGE {
                        return Ok(Step::Done);
                    }
                    if length < buffer.len() && !once {
                        return Ok(Step::Waits);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Step::Waits),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}
