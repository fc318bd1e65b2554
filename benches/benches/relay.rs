//! What carrying a stream costs: throughput, processor time per gigabyte, and the time of small round trips, beside
//! `tokio::io::copy_bidirectional`. Not a bench of criterion: its question is a stream of seconds.
//!
//! Client, relay and back end are threads of this process over loopback, each with a runtime of its own. Processor time
//! is that of the relay's thread; the work of the kernel on behalf of loopback falls on whoever sends. Rounds take
//! turns, and the best of each way stands: on a machine with neighbours the others tell of the neighbours.
//!
//! `cargo bench -p constellation-benches --bench relay [-- SECONDS]`

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use constellation_dataplane::l4::relay::{Begin, Limits, Pace, Progress, relay};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Rounds of each way.
const ROUNDS: usize = 3;
/// One message of a ping-pong.
const MESSAGE: usize = 64;

/// How a connection is carried.
#[derive(Clone, Copy, Debug)]
enum Way {
    Tokio,
    Relay(Pace),
}

const WAYS: [(&str, Way); 4] = [
    ("tokio copy_bidirectional", Way::Tokio),
    ("relay, copy", Way::Relay(Pace::Copy)),
    ("relay, splice", Way::Relay(Pace::Splice)),
    ("relay, adaptive", Way::Relay(Pace::Adaptive)),
];

fn main() -> Outcome<()> {
    let seconds = std::env::args().find_map(|argument| argument.parse().ok());
    let time = Duration::from_secs(seconds.unwrap_or(2));
    for streams in [1, 64] {
        println!("bulk, {streams} streams{:>24} {:>14}", "Gbit/s", "CPU s/GB");
        let mut best = [(0.0_f64, f64::INFINITY); WAYS.len()];
        for _ in 0..ROUNDS {
            for ((_, way), best) in WAYS.iter().zip(&mut best) {
                let (throughput, cost) = bulk(*way, streams, time)?;
                *best = (best.0.max(throughput), best.1.min(cost));
            }
        }
        for ((name, _), (throughput, cost)) in WAYS.iter().zip(best) {
            println!("  {name:<32} {throughput:>8.2} {cost:>14.3}");
        }
    }
    println!(
        "ping-pong of {MESSAGE} bytes{:>20} {:>14} {:>14}",
        "p50 us", "p99 us", "CPU us"
    );
    let mut best = [[f64::INFINITY; 3]; WAYS.len()];
    for _ in 0..2 * ROUNDS {
        for ((_, way), best) in WAYS.iter().zip(&mut best) {
            for (best, figure) in best.iter_mut().zip(ping_pong(*way, time / 2)?) {
                *best = best.min(figure);
            }
        }
    }
    for ((name, _), [half, most, cost]) in WAYS.iter().zip(best) {
        println!("  {name:<32} {half:>8.1} {most:>14.1} {cost:>14.2}");
    }
    Ok(())
}

/// Uploads for a while. Gbit/s that arrive, and seconds of the relay's thread per gigabyte.
fn bulk(way: Way, streams: usize, time: Duration) -> Outcome<(f64, f64)> {
    let arrived = Arc::<AtomicU64>::default();
    let sink = {
        let arrived = arrived.clone();
        Server::start(move |mut socket| {
            let arrived = arrived.clone();
            async move {
                let mut buffer = vec![0; 256 * 1024];
                while let Ok(count @ 1..) = socket.read(&mut buffer).await {
                    arrived.fetch_add(count as u64, Ordering::Relaxed);
                }
            }
        })?
    };
    let proxy = Server::relay(way, sink.address)?;
    let elapsed = runtime()?.block_on(async {
        let mut sending = tokio::task::JoinSet::new();
        for _ in 0..streams {
            let mut socket = TcpStream::connect(proxy.address).await?;
            sending.spawn(async move {
                let piece = vec![7; 256 * 1024];
                while socket.write_all(&piece).await.is_ok() {}
            });
        }
        // What is measured is the middle of it.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let (before, began) = (arrived.load(Ordering::Relaxed), Instant::now());
        tokio::time::sleep(time).await;
        let bytes = arrived.load(Ordering::Relaxed) - before;
        Outcome::Ok((bytes, began.elapsed()))
    })?;
    let (bytes, elapsed) = elapsed;
    let cost = proxy.stop()?;
    let all = arrived.load(Ordering::Relaxed);
    sink.stop()?;
    let throughput = bytes as f64 * 8.0 / elapsed.as_secs_f64() / 1e9;
    Ok((throughput, cost.as_secs_f64() / (all as f64 / 1e9)))
}

/// One message back and forth for a while: what half, and all but a hundredth, of the round trips stay below, and the
/// time of the relay's thread for each.
fn ping_pong(way: Way, time: Duration) -> Outcome<[f64; 3]> {
    let echo = Server::start(|mut socket| async move {
        let mut buffer = [0; MESSAGE];
        while socket.read_exact(&mut buffer).await.is_ok() && socket.write_all(&buffer).await.is_ok() {}
    })?;
    let proxy = Server::relay(way, echo.address)?;
    let mut trips = runtime()?.block_on(async {
        let mut socket = TcpStream::connect(proxy.address).await?;
        socket.set_nodelay(true)?;
        let (mut buffer, mut trips) = ([1; MESSAGE], Vec::new());
        let end = Instant::now() + time;
        while Instant::now() < end {
            let began = Instant::now();
            socket.write_all(&buffer).await?;
            socket.read_exact(&mut buffer).await?;
            trips.push(began.elapsed());
        }
        Outcome::Ok(trips)
    })?;
    let cost = proxy.stop()?.as_secs_f64() * 1e6 / trips.len() as f64;
    echo.stop()?;
    trips.sort_unstable();
    let at = |percent: usize| {
        let trip = trips
            .get(trips.len() * percent / 100)
            .copied()
            .unwrap_or_default();
        trip.as_secs_f64() * 1e6
    };
    Ok([at(50), at(99), cost])
}

/// A thread that serves connections until it is told to stop.
struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    /// Gives the processor time of the thread.
    thread: JoinHandle<Outcome<Duration>>,
}

impl Server {
    fn start<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Outcome<Self>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let stop = Arc::<AtomicBool>::default();
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || {
                runtime()?.block_on(async {
                    let listener = TcpListener::from_std(listener)?;
                    let mut serving = tokio::task::JoinSet::new();
                    let mut look = tokio::time::interval(Duration::from_millis(20));
                    while !stop.load(Ordering::Relaxed) {
                        tokio::select! {
                            accepted = listener.accept() => {
                                let socket = accepted?.0;
                                socket.set_nodelay(true)?;
                                serving.spawn(serve(socket));
                            }
                            _ = look.tick() => {}
                        }
                    }
                    Outcome::Ok(())
                })?;
                let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
                let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
                Ok(Duration::from_micros(micros.unsigned_abs()))
            }
        });
        Ok(Self {
            address,
            stop,
            thread,
        })
    }

    /// One that carries connections to another.
    fn relay(way: Way, to: SocketAddr) -> Outcome<Self> {
        Self::start(move |mut client| async move {
            let Ok(mut server) = TcpStream::connect(to).await else {
                return;
            };
            server.set_nodelay(true).unwrap_or_default();
            match way {
                Way::Tokio => {
                    let copied = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    copied.map(|_| ()).unwrap_or_default();
                }
                Way::Relay(pace) => {
                    let mut begin = Begin {
                        pace,
                        ..Begin::default()
                    };
                    let (limits, progress) = (Limits::default(), Progress::default());
                    let stop = std::future::pending();
                    relay(&client, &server, &mut begin, limits, &progress, stop).await;
                }
            }
        })
    }

    /// The processor time it took.
    fn stop(self) -> Outcome<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "a thread of the bench panicked")?
    }
}

fn runtime() -> Outcome<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}
