//! A network namespace at the other end of a cable, for clients whose packets come in at a device like anybody's.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::resume_unwind;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::client::http::request;
use crate::sandbox;

/// The device of the sandbox.
pub const DEVICE: &str = "edge";
/// The sandbox's address on the cable.
pub const EDGE: &str = "10.9.0.1";
/// The peer's addresses: `10.9.0.2` to `10.9.0.9`.
pub const PEERS: [&str; 8] = [
    "10.9.0.2", "10.9.0.3", "10.9.0.4", "10.9.0.5", "10.9.0.6", "10.9.0.7", "10.9.0.8", "10.9.0.9",
];

type Job = Box<dyn FnOnce() + Send>;

/// The thread in the other namespace.
#[derive(Clone, Debug)]
pub struct Peer {
    jobs: Sender<Job>,
}

impl Peer {
    /// Runs something there, and waits for its result.
    ///
    /// # Panics
    /// When it does.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        // A job that panics drops its sender, which fails the receiver here.
        self.jobs
            .send(Box::new(move || drop(done.send(job()))))
            .expect("the peer's thread is there");
        result.recv().expect("the peer's job came to its end")
    }

    /// Runs something there that takes its time.
    ///
    /// # Panics
    /// When no thread can be started.
    pub fn spawn<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        // A thread is born into the namespaces of the one that starts it.
        self.run(|| thread::spawn(job))
    }

    /// Begins a connection from one of the peer's addresses. It is open when it can be written to, and
    /// [`TcpStream::peer_addr`] is known.
    ///
    /// # Errors
    /// When the kernel refuses at once.
    pub fn begin(&self, from: &str, to: SocketAddr) -> io::Result<TcpStream> {
        let from: IpAddr = from.parse().expect("an address of the peer");
        let socket = self.run(move || {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            socket.bind(&SocketAddr::new(from, 0).into())?;
            socket.set_nonblocking(true)?;
            match socket.connect(&to.into()) {
                Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => Err(error),
                _ => io::Result::Ok(socket),
            }
        })?;
        TcpStream::from_std(socket.into())
    }

    /// A connection from one of the peer's addresses.
    ///
    /// # Errors
    /// When it is refused, or takes longer than anything may.
    pub async fn connect(&self, from: &str, to: SocketAddr) -> io::Result<TcpStream> {
        let stream = self.begin(from, to)?;
        tokio::time::timeout(crate::PATIENCE, stream.writable()).await??;
        match stream.take_error()? {
            Some(error) => Err(error),
            None => Ok(stream),
        }
    }

    /// The status of `GET /` on a connection from one of the peer's addresses.
    ///
    /// # Errors
    /// In words, when there is no answer.
    pub async fn get(&self, from: &str, to: SocketAddr, host: &str) -> Result<u16, String> {
        let stream = self.connect(from, to).await.map_err(|error| error.to_string())?;
        let client = Client::over(stream, false, "http").await;
        let mut client = client.map_err(|error| error.to_string())?;
        let answer = client.send(request(http::Method::GET, host, "/")).await;
        answer
            .map(|answer| answer.status.as_u16())
            .map_err(|error| error.to_string())
    }
}

/// Runs a test in a [`sandbox`] at [`EDGE`] whose default route leads to a peer at [`PEERS`], after these `ip` commands
/// have prepared the rest of the network.
///
/// # Errors
/// In words, what this machine lacks.
///
/// # Panics
/// When the test does.
pub fn run<T: Send>(prepare: &[&str], test: impl AsyncFnOnce(Peer) -> T + Send) -> Result<T, String> {
    crate::require::root().map_err(|_| "needs root to make namespaces".to_owned())?;
    let (jobs, received) = channel::<Job>();
    let (says, thread) = channel();
    let other = thread::spawn(move || {
        let entered = unshare(CloneFlags::CLONE_NEWNET).map(|()| gettid());
        says.send(entered).expect("the test's thread is there");
        received.into_iter().for_each(|job| job());
    });
    let thread = thread.recv().expect("the peer's thread starts");
    let thread = thread.map_err(|error| format!("cannot make a network namespace: {error}"))?;
    let cable = format!("link add {DEVICE} type veth peer name peer netns {thread}");
    let here = [
        &cable,
        "addr add 10.9.0.1/24 dev edge",
        "link set edge up",
        "route add default via 10.9.0.2 dev edge",
    ];
    let all: Vec<&str> = here.iter().chain(prepare).copied().collect();
    let outcome = sandbox::run(&all, async move || {
        let peer = Peer { jobs };
        peer.run(|| {
            let own = PEERS.map(|address| format!("addr add {address}/24 dev peer"));
            let up = [
                "link set lo up",
                "link set peer up",
                "route add default via 10.9.0.1 dev peer",
            ];
            for command in own.iter().map(String::as_str).chain(up) {
                sandbox::ip(command).expect("the peer's network");
            }
        });
        test(peer).await
    });
    // With the test its sender is gone, and with that the peer.
    other.join().unwrap_or_else(|panic| resume_unwind(panic));
    outcome
}
