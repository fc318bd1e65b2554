//! The back end behind every proxy: fixed bodies over HTTP/1.1 with keep-alive, one thread, one epoll.
//!
//! It shares its CPU with the load generator, so it does the least that is right: requests without a body, answers
//! made beforehand. `/bytes/N` answers N bytes, `/head` the request head as it arrived (what did the proxy add?),
//! `/connections` how many connections were accepted (does the proxy keep them?).

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::child::Running;
use super::{interrupt, port};

/// The largest request head that is accepted, bytes.
const MAX_HEAD: usize = 16 * 1024;

/// The largest body that is made, bytes.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// How long it may take to listen.
const START: Duration = Duration::from_secs(10);

/// `bench-backend`.
#[derive(Debug, Args)]
pub(crate) struct BackendArgs {
    /// Port on 127.0.0.1.
    #[arg(long)]
    port: u16,
}

/// The back end as a process of its own.
#[derive(Debug)]
pub(super) struct Backend {
    running: Running,
    pub(super) port: u16,
}

impl Backend {
    /// The program to run: this one, optimized.
    pub(super) fn program() -> Result<PathBuf> {
        super::node::helper()
    }

    /// Starts `command`, which becomes [`Backend::program`], and waits until it listens.
    pub(super) fn start(mut command: Command, directory: &Path) -> Result<Self> {
        let [port] = port::free()?;
        command.args(["bench-backend", "--port", &port.to_string()]);
        let mut running = Running::start("the back end", command, &directory.join("backend.log"))?;
        let listens = interrupt::poll(START, Duration::from_millis(10), || {
            running.require_alive()?;
            Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok())
        })?;
        listens.with_context(|| format!("the back end does not listen: {}", running.last_words()))?;
        Ok(Self { running, port })
    }

    /// Fails when it has ended.
    pub(super) fn require_alive(&mut self) -> Result<()> {
        self.running.require_alive()
    }
}

/// Serves until the process is stopped.
pub(crate) fn run(args: &BackendArgs) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port))
        .with_context(|| format!("cannot listen on 127.0.0.1:{}", args.port))?;
    listener.set_nonblocking(true)?;
    Server::new(listener)?.serve()
}

/// A key that no connection has.
const LISTENER: u64 = u64::MAX;

struct Server {
    listener: TcpListener,
    epoll: Epoll,
    connections: HashMap<u64, Connection>,
    answers: Answers,
}

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// How much of `output` is sent.
    sent: usize,
    /// Whether epoll was asked to say when there is room to send.
    waits_for_room: bool,
}

/// Whole responses by path, and what they are made from.
#[derive(Default)]
struct Answers {
    fixed: HashMap<Vec<u8>, Vec<u8>>,
    accepted: u64,
}

impl Server {
    fn new(listener: TcpListener) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        Ok(Self {
            listener,
            epoll,
            connections: HashMap::new(),
            answers: Answers::default(),
        })
    }

    fn serve(mut self) -> Result<()> {
        let mut events = [EpollEvent::empty(); 256];
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => continue,
                other => other?,
            };
            for event in &events[..count] {
                match event.data() {
                    LISTENER => self.accept()?,
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
            self.epoll
                .add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, key))?;
            self.answers.accepted += 1;
            self.connections.insert(key, Connection::new(stream));
        }
    }

    fn turn(&mut self, key: u64) -> Result<()> {
        let Some(connection) = self.connections.get_mut(&key) else {
            return Ok(());
        };
        if connection.turn(&mut self.answers).is_err() {
            // Closing the descriptor takes it out of epoll.
            self.connections.remove(&key);
            return Ok(());
        }
        let waits_for_room = connection.sent < connection.output.len();
        if waits_for_room != connection.waits_for_room {
            connection.waits_for_room = waits_for_room;
            // One thing at a time: no new requests while answers are stuck.
            let interest = if waits_for_room {
                EpollFlags::EPOLLOUT
            } else {
                EpollFlags::EPOLLIN
            };
            self.epoll
                .modify(&connection.stream, &mut EpollEvent::new(interest, key))?;
        }
        Ok(())
    }
}

/// Why a connection ends; there is nobody to tell.
struct Closed;

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            input: Vec::with_capacity(MAX_HEAD),
            output: Vec::new(),
            sent: 0,
            waits_for_room: false,
        }
    }

    fn turn(&mut self, answers: &mut Answers) -> Result<(), Closed> {
        if !self.waits_for_room {
            self.receive()?;
            while let Some(end) = head_end(&self.input) {
                answers.answer(&self.input[..end], &mut self.output)?;
                self.input.drain(..end);
            }
            if self.input.len() >= MAX_HEAD {
                return Err(Closed);
            }
        }
        self.send()
    }

    fn receive(&mut self) -> Result<(), Closed> {
        let mut chunk = [0; MAX_HEAD];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(Closed),
            Ok(count) => {
                self.input.extend_from_slice(&chunk[..count]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(()),
            Err(_) => Err(Closed),
        }
    }

    fn send(&mut self) -> Result<(), Closed> {
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(0) => return Err(Closed),
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(Closed),
            }
        }
        self.output.clear();
        self.sent = 0;
        Ok(())
    }
}

impl Answers {
    /// Appends the answer to a whole request head.
    fn answer(&mut self, head: &[u8], output: &mut Vec<u8>) -> Result<(), Closed> {
        let path = head.split(|&byte| byte == b' ').nth(1).ok_or(Closed)?;
        if let Some(answer) = self.fixed.get(path) {
            output.extend_from_slice(answer);
            return Ok(());
        }
        match path {
            b"/head" => output.extend(response("200 OK", head)),
            b"/connections" => output.extend(response("200 OK", self.accepted.to_string().as_bytes())),
            _ => match bytes_path(path) {
                Some(length) => {
                    let answer = response("200 OK", &body(length));
                    output.extend_from_slice(&answer);
                    self.fixed.insert(path.to_vec(), answer);
                }
                None => output.extend(response("404 Not Found", b"")),
            },
        }
        Ok(())
    }
}

fn bytes_path(path: &[u8]) -> Option<usize> {
    let length = std::str::from_utf8(path.strip_prefix(b"/bytes/")?)
        .ok()?
        .parse()
        .ok()?;
    (length <= MAX_BODY).then_some(length)
}

fn response(status: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A body in which a lost, doubled or moved block shows.
pub(super) fn body(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| b"abcdefghijklmnopqrstuvwxyz0123456789-"[(at + at / 4096) % 37])
        .collect()
}

/// Where the first request head ends, if it is whole.
fn head_end(input: &[u8]) -> Option<usize> {
    input
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|at| at + 4)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// A server on a free port; its thread ends with the test process.
    fn start() -> TcpStream {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        thread::spawn(move || Server::new(listener).unwrap().serve());
        TcpStream::connect(address).unwrap()
    }

    fn expect(stream: &mut TcpStream, status: &str, body: &[u8]) {
        let expected = response(status, body);
        let mut got = vec![0; expected.len()];
        stream.read_exact(&mut got).unwrap();
        assert!(got == expected, "{}", String::from_utf8_lossy(&got));
    }

    #[test]
    fn answers_pipelined_and_split_requests() {
        let mut stream = start();
        let head = "GET /head HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n";
        let requests = format!("GET /bytes/128 HTTP/1.1\r\n\r\n{head}GET /no HTTP/1.1\r\n\r\nGET /connec");
        stream.write_all(requests.as_bytes()).unwrap();
        expect(&mut stream, "200 OK", &body(128));
        expect(&mut stream, "200 OK", head.as_bytes());
        expect(&mut stream, "404 Not Found", b"");
        stream.write_all(b"tions HTTP/1.1\r\n\r\n").unwrap();
        expect(&mut stream, "200 OK", b"1");
    }

    #[test]
    fn a_body_larger_than_the_socket_buffers_arrives_whole() {
        let mut stream = start();
        for _ in 0..2 {
            stream.write_all(b"GET /bytes/16777216 HTTP/1.1\r\n\r\n").unwrap();
            expect(&mut stream, "200 OK", &body(MAX_BODY));
        }
    }

    #[test]
    fn an_endless_head_is_cut() {
        let mut stream = start();
        // The peer may close while this is being sent.
        stream.write_all(&vec![b'x'; 2 * MAX_HEAD]).unwrap_or_default();
        let mut rest = Vec::new();
        assert!(!matches!(stream.read_to_end(&mut rest), Ok(count) if count > 0));
    }
}
