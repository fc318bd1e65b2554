//! Relays between real sockets: what arrives, in which order, and how it ends.

use std::net::Ipv4Addr;
use std::sync::Arc;

use proptest::prelude::*;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);
const PACES: [Pace; 3] = [Pace::Adaptive, Pace::Copy, Pace::Splice];

/// Fails the test instead of hanging.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("{what} took too long"))
}

/// Two ends of a connection.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (near, far) = (near.unwrap(), far.unwrap().0);
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    (near, far)
}

/// A relay with the far ends of its two connections.
struct Relayed {
    client: TcpStream,
    server: TcpStream,
    progress: Arc<Progress>,
    task: JoinHandle<Ending>,
}

#[derive(Default)]
struct Setup {
    pace: Pace,
    limits: Limits,
    first: &'static [u8],
    /// Of the relay's own sockets, for small windows.
    buffers: Option<usize>,
}

impl Setup {
    fn pace(pace: Pace) -> Self {
        Self {
            pace,
            ..Self::default()
        }
    }

    async fn start(self) -> Relayed {
        self.start_until(std::future::pending()).await
    }

    async fn start_until(self, stop: impl Future<Output = ()> + Send + 'static) -> Relayed {
        let ((client, near_client), (near_server, server)) = tokio::join!(pair(), pair());
        if let Some(size) = self.buffers {
            for socket in [&client, &near_client, &near_server, &server] {
                SockRef::from(socket).set_send_buffer_size(size).unwrap();
                SockRef::from(socket).set_recv_buffer_size(size).unwrap();
            }
        }
        let progress = Arc::<Progress>::default();
        let task = tokio::spawn({
            let progress = progress.clone();
            async move {
                let mut begin = Begin {
                    first: self.first.to_vec(),
                    forgiving: None,
                    pace: self.pace,
                };
                relay(
                    &near_client,
                    &near_server,
                    &mut begin,
                    self.limits,
                    &progress,
                    stop,
                )
                .await
            }
        });
        Relayed {
            client,
            server,
            progress,
            task,
        }
    }
}

/// A piece of a stream whose every eight bytes tell their position; streams of different seeds share no long stretch.
fn pattern(seed: u64, from: usize, length: usize) -> Vec<u8> {
    let word = |number: usize| {
        let mut z = (number as u64).wrapping_add(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    };
    let mut bytes = Vec::with_capacity(length + 16);
    for number in from / 8..=(from + length) / 8 {
        bytes.extend_from_slice(&word(number));
    }
    bytes.drain(..from % 8);
    bytes.truncate(length);
    bytes
}

/// Writes `length` bytes of the pattern and ends the direction.
async fn write_pattern(socket: &mut (impl AsyncWriteExt + Unpin), seed: u64, length: usize) {
    let mut position = 0;
    while position < length {
        let piece = pattern(seed, position, (length - position).min(256 * 1024));
        socket.write_all(&piece).await.unwrap();
        position += piece.len();
    }
    socket.shutdown().await.unwrap();
}

/// Reads to the end and compares; the number of bytes.
async fn read_pattern(socket: &mut (impl AsyncReadExt + Unpin), seed: u64) -> usize {
    let mut buffer = vec![0; 256 * 1024];
    let mut position = 0;
    loop {
        let count = socket.read(&mut buffer).await.unwrap();
        if count == 0 {
            return position;
        }
        assert!(
            buffer[..count] == pattern(seed, position, count),
            "bytes from {position} on are not those that were sent"
        );
        position += count;
    }
}

#[tokio::test]
async fn every_byte_arrives_once_and_in_order_both_ways() {
    const LENGTH: usize = 64 << 20;
    for pace in PACES {
        let Relayed {
            mut client,
            mut server,
            progress,
            task,
        } = Setup::pace(pace).start().await;
        let ((mut client_reads, mut client_writes), (mut server_reads, mut server_writes)) =
            (client.split(), server.split());
        let (.., there, back) = soon("64 MiB each way", async {
            tokio::join!(
                write_pattern(&mut client_writes, 1, LENGTH),
                write_pattern(&mut server_writes, 2, LENGTH),
                read_pattern(&mut server_reads, 1),
                read_pattern(&mut client_reads, 2),
            )
        })
        .await;
        assert_eq!((there, back), (LENGTH, LENGTH), "{pace:?}");
        assert_eq!(task.await.unwrap(), Ending::Complete, "{pace:?}");
        for side in Side::BOTH {
            assert_eq!(progress.from(side), LENGTH as u64);
            let spliced = progress.spliced_from(side);
            match pace {
                Pace::Copy => assert_eq!(spliced, 0),
                Pace::Splice => assert_eq!(spliced, LENGTH as u64),
                Pace::Adaptive => assert!(spliced > 0, "bulk is spliced"),
            }
        }
    }
}

#[tokio::test]
async fn small_messages_are_copied() {
    let mut relayed = Setup::default().start().await;
    let mut answer = [0; 64];
    for number in 0..1000usize {
        relayed.client.write_all(&pattern(1, number, 64)).await.unwrap();
        relayed.server.read_exact(&mut answer).await.unwrap();
        relayed.server.write_all(&answer).await.unwrap();
        relayed.client.read_exact(&mut answer).await.unwrap();
        assert!(answer[..] == pattern(1, number, 64));
    }
    assert_eq!(relayed.progress.spliced_from(Side::Client), 0);
    drop(relayed.client);
    drop(relayed.server);
    assert_eq!(soon("the end", relayed.task).await.unwrap(), Ending::Complete);
}

/// A direction that was bulky and is no more is copied again.
#[tokio::test]
async fn a_direction_switches_to_splicing_and_back() {
    let mut relayed = Setup::default().start().await;
    let sizes = [4 << 20, 64, 4 << 20, 64];
    let mut position = 0;
    for size in sizes {
        let rounds = if size == 64 { 100 } else { 1 };
        for _ in 0..rounds {
            let data = pattern(1, position, size);
            let mut got = vec![0; size];
            let before = relayed.progress.spliced_from(Side::Client);
            soon("a message", async {
                tokio::try_join!(relayed.client.write_all(&data), async {
                    relayed.server.read_exact(&mut got).await.map(|_| ())
                })
            })
            .await
            .unwrap();
            assert!(got == data);
            position += size;
            let spliced = relayed.progress.spliced_from(Side::Client) - before;
            assert!(size == 64 || spliced > 0, "bulk is spliced");
        }
        if size == 64 {
            let before = relayed.progress.spliced_from(Side::Client);
            relayed.client.write_all(&[0; 64]).await.unwrap();
            relayed.server.read_exact(&mut [0; 64]).await.unwrap();
            assert_eq!(relayed.progress.spliced_from(Side::Client), before);
        }
    }
}

/// A request, its end, and then the whole response; and the reverse.
#[tokio::test]
async fn half_closes_are_exact() {
    const LENGTH: usize = 300_000;
    for (round, pace) in PACES.into_iter().cycle().take(2000).enumerate() {
        let seed = round as u64;
        let mut relayed = Setup::pace(pace).start().await;
        let (first, second) = match round % 2 {
            0 => (&mut relayed.client, &mut relayed.server),
            _ => (&mut relayed.server, &mut relayed.client),
        };
        soon("a half-close", async {
            tokio::join!(write_pattern(first, seed, 10), async {
                assert_eq!(read_pattern(second, seed).await, 10);
            });
            let (_, got) = tokio::join!(
                write_pattern(second, seed + 1, LENGTH),
                read_pattern(first, seed + 1)
            );
            assert_eq!(got, LENGTH, "round {round}");
            assert_eq!(relayed.task.await.unwrap(), Ending::Complete, "round {round}");
        })
        .await;
    }
}

#[tokio::test]
async fn bytes_that_were_read_before_come_first() {
    for pace in PACES {
        let mut relayed = Setup {
            first: b"first ",
            ..Setup::pace(pace)
        }
        .start()
        .await;
        relayed.client.write_all(b"second").await.unwrap();
        let mut got = [0; 12];
        relayed.server.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"first second");
    }
}

fn reset(socket: TcpStream) {
    SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
}

async fn kind_of_end(socket: &mut TcpStream) -> Result<Vec<u8>, std::io::ErrorKind> {
    let mut got = Vec::new();
    loop {
        match socket.read_buf(&mut got).await {
            Ok(0) => return Ok(got),
            Ok(_) => {}
            Err(error) => return Err(error.kind()),
        }
    }
}

#[tokio::test]
async fn a_reset_travels_as_a_reset_after_the_bytes_before_it() {
    for pace in PACES {
        for side in Side::BOTH {
            let relayed = Setup::pace(pace).start().await;
            let (mut breaks, mut learns) = match side {
                Side::Client => (relayed.client, relayed.server),
                Side::Server => (relayed.server, relayed.client),
            };
            breaks.write_all(b"last words").await.unwrap();
            let mut got = [0; 10];
            soon("the bytes", learns.read_exact(&mut got)).await.unwrap();
            reset(breaks);
            let end = soon("the reset", kind_of_end(&mut learns)).await;
            assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset), "{pace:?} {side:?}");
            assert_eq!(relayed.task.await.unwrap(), Ending::Broken(side));
        }
    }
}

/// The server answers and closes while the client still sends, so that its kernel resets the connection: the answer
/// arrives all the same.
#[tokio::test]
async fn an_early_answer_is_delivered_before_the_reset() {
    const ANSWER: usize = 100_000;
    for pace in PACES {
        let mut relayed = Setup::pace(pace).start().await;
        relayed.client.write_all(&[1; 100]).await.unwrap();
        relayed.server.readable().await.unwrap();
        // Closed with unread bytes: FIN is never sent, the reset follows the answer.
        relayed.server.write_all(&pattern(5, 0, ANSWER)).await.unwrap();
        let mut got = vec![0; ANSWER];
        let reading = async {
            relayed.client.read_exact(&mut got[..1000]).await.unwrap();
            drop(relayed.server);
            relayed.client.read_exact(&mut got[1000..]).await
        };
        // What the server's kernel had not sent at its reset can be lost, as without us; here it had sent everything.
        soon("the answer", reading).await.unwrap();
        assert!(got == pattern(5, 0, ANSWER), "{pace:?}");
        let end = soon("the end", kind_of_end(&mut relayed.client)).await;
        assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
    }
}

/// Nobody reads the side that is reset: its bytes wait for a receiver that does not take them.
#[tokio::test]
async fn a_reset_behind_bytes_that_wait_is_seen() {
    for pace in PACES {
        let mut relayed = Setup {
            buffers: Some(16 * 1024),
            ..Setup::pace(pace)
        }
        .start()
        .await;
        fill(&mut relayed.client).await;
        reset(relayed.client);
        assert_eq!(
            soon("the end", relayed.task).await.unwrap(),
            Ending::Broken(Side::Client),
            "{pace:?}"
        );
        let end = soon("the reset", kind_of_end(&mut relayed.server)).await;
        assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset), "{pace:?}");
    }
}

/// The client has ended its direction and leaves; the server has nothing to say.
#[tokio::test]
async fn a_reset_after_the_end_of_a_direction_is_seen() {
    let mut relayed = Setup::default().start().await;
    relayed.client.shutdown().await.unwrap();
    assert_eq!(relayed.server.read(&mut [0; 8]).await.unwrap(), 0);
    reset(relayed.client);
    let ending = soon("the end", relayed.task).await.unwrap();
    assert_eq!(ending, Ending::Broken(Side::Client));
}

/// Writes until nothing more is taken for a while.
async fn fill(socket: &mut TcpStream) -> usize {
    let mut written = 0;
    let piece = vec![7; 64 * 1024];
    while let Ok(count) = tokio::time::timeout(Duration::from_millis(200), socket.write(&piece)).await {
        written += count.unwrap();
    }
    written
}

#[tokio::test]
async fn a_receiver_that_stops_reading_stops_the_sender() {
    for pace in PACES {
        let mut relayed = Setup {
            buffers: Some(32 * 1024),
            ..Setup::pace(pace)
        }
        .start()
        .await;
        let written = fill(&mut relayed.client).await;
        // Four buffers of the kernel, doubled by it, and what we hold: one buffer, or one pipe.
        assert!(
            written < 4 * 64 * 1024 + (512 << 10),
            "{pace:?}: {written} bytes were taken"
        );
        let mut got = vec![0; written];
        soon("the bytes", relayed.server.read_exact(&mut got))
            .await
            .unwrap();
        assert!(got.iter().all(|byte| *byte == 7));
        relayed.client.write_all(b"more").await.unwrap();
        relayed.server.read_exact(&mut got[..4]).await.unwrap();
        assert_eq!(&got[..4], b"more");
    }
}

#[tokio::test]
async fn a_silent_connection_ends_at_the_idle_limit() {
    let limits = Limits {
        idle: Some(Duration::from_millis(300)),
        half_open: None,
    };
    let mut relayed = Setup {
        limits,
        ..Setup::default()
    }
    .start()
    .await;
    let began = Instant::now();
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        relayed.client.write_all(b"x").await.unwrap();
        relayed.server.read_exact(&mut [0]).await.unwrap();
    }
    assert!(
        began.elapsed() > Duration::from_millis(600),
        "bytes put the end off"
    );
    assert_eq!(soon("the end", relayed.task).await.unwrap(), Ending::Idle);
    for socket in [&mut relayed.client, &mut relayed.server] {
        assert_eq!(
            soon("the reset", kind_of_end(socket)).await,
            Err(std::io::ErrorKind::ConnectionReset)
        );
    }
}

#[tokio::test]
async fn a_direction_outlives_the_other_for_as_long_as_it_may() {
    let limits = Limits {
        idle: None,
        half_open: Some(Duration::from_millis(300)),
    };
    let mut relayed = Setup {
        limits,
        ..Setup::default()
    }
    .start()
    .await;
    relayed.client.shutdown().await.unwrap();
    assert_eq!(relayed.server.read(&mut [0; 8]).await.unwrap(), 0);
    relayed.server.write_all(b"late").await.unwrap();
    let mut got = [0; 4];
    relayed.client.read_exact(&mut got).await.unwrap();
    assert_eq!(soon("the end", relayed.task).await.unwrap(), Ending::HalfOpen);
    assert_eq!(
        soon("the reset", kind_of_end(&mut relayed.client)).await,
        Err(std::io::ErrorKind::ConnectionReset),
        "the client can't take what it has for the whole"
    );
}

#[tokio::test]
async fn an_order_to_stop_is_heard_between_bytes() {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut relayed = Setup::default()
        .start_until(async { stopped.await.unwrap_or_default() })
        .await;
    let (mut reads, mut writes) = relayed.server.split();
    let flood = async {
        let piece = vec![1; 64 * 1024];
        while relayed.client.write_all(&piece).await.is_ok() {}
    };
    let sink = async {
        let mut buffer = vec![0; 64 * 1024];
        let mut stop = Some(stop);
        let mut total = 0;
        while let Ok(count @ 1..) = reads.read(&mut buffer).await {
            total += count;
            if total > 8 << 20
                && let Some(stop) = stop.take()
            {
                stop.send(()).unwrap();
            }
        }
    };
    soon("the end", async { tokio::join!(flood, sink) }).await;
    assert_eq!(relayed.task.await.unwrap(), Ending::Stopped);
    assert!(writes.write_all(b"x").await.is_err());
}

#[tokio::test]
async fn a_server_that_was_of_no_use_leaves_the_client_alone() {
    for how in ["end", "reset"] {
        for forgiving in [true, false] {
            let ((client, near_client), (near_server, server)) = tokio::join!(pair(), pair());
            match how {
                "end" => drop(server),
                _ => reset(server),
            }
            // The end has arrived before the relay begins, so that the first bytes can't be written.
            near_server.readable().await.unwrap();
            let mut begin = Begin {
                forgiving: forgiving.then(|| Instant::now() + PATIENCE),
                ..Begin::default()
            };
            let progress = Progress::default();
            let stop = std::future::pending();
            let carried = relay(
                &near_client,
                &near_server,
                &mut begin,
                Limits::default(),
                &progress,
                stop,
            );
            let ending = tokio::time::timeout(Duration::from_millis(500), carried).await;
            match (how, forgiving) {
                (_, true) => assert_eq!(ending, Ok(Ending::Unserved), "{how}"),
                ("end", false) => assert!(ending.is_err(), "the client may still send"),
                _ => assert_eq!(ending, Ok(Ending::Broken(Side::Server))),
            }
            if forgiving {
                assert_eq!(
                    near_client.try_write(b"still there").unwrap(),
                    11,
                    "the client's connection is whole"
                );
                drop(client);
            }
        }
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Whether this is a process of its own for the test that has this thread's name; else it is run in one, and has passed
/// there when this returns.
fn is_alone() -> bool {
    const MARK: &str = "CONSTELLATION_TEST_ALONE";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let test = std::thread::current().name().unwrap().to_owned();
    let run = std::process::Command::new(std::env::current_exe().unwrap())
        .args([&test, "--exact", "--nocapture"])
        .env(MARK, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(
        run.status.success() && said.contains(" 1 passed"),
        "{test}: {said}{}",
        String::from_utf8_lossy(&run.stderr)
    );
    false
}

/// Pipes whose bytes nobody takes any more are closed with their connections.
#[test]
fn a_relay_that_is_dropped_leaves_nothing_open() {
    // Others that run in this process open and close descriptors as well.
    if !is_alone() {
        return;
    }
    // On a thread of its own: the pool of pipes is the thread's.
    let check = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut counts = Vec::new();
        for _ in 0..3 {
            runtime.block_on(async {
                let mut relays = Vec::new();
                for _ in 0..20 {
                    let mut relayed = Setup {
                        buffers: Some(16 * 1024),
                        ..Setup::pace(Pace::Splice)
                    }
                    .start()
                    .await;
                    let piece = vec![7; 256 * 1024];
                    while let Ok(count) =
                        tokio::time::timeout(Duration::from_millis(5), relayed.client.write(&piece)).await
                    {
                        count.unwrap();
                    }
                    relays.push(relayed);
                }
                for mut relayed in relays {
                    relayed.task.abort();
                    assert!(relayed.task.await.unwrap_err().is_cancelled());
                    let end = soon("the cut", kind_of_end(&mut relayed.server)).await;
                    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset), "a cut is a reset");
                }
            });
            counts.push(descriptors());
        }
        counts
    };
    // What the runtime library opens once for the process.
    drop(tokio::runtime::Builder::new_current_thread().enable_all().build());
    let before = descriptors();
    let counts = std::thread::spawn(check).join().unwrap();
    assert_eq!(counts[1], counts[2], "{counts:?}");
    assert_eq!(descriptors(), before, "the thread's pipes end with it");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Pieces of any size both ways over small buffers: directions switch back and forth between their ways.
    #[test]
    fn any_segmentation_is_exact(
        there in proptest::collection::vec(prop_oneof![1..200usize, 1000..9000usize, 30_000..100_000usize], 0..15),
        back in proptest::collection::vec(prop_oneof![1..200usize, 1000..9000usize, 30_000..100_000usize], 0..15),
        buffers in prop_oneof![Just(None), Just(Some(8192)), Just(Some(65_536))],
        pace in prop_oneof![3 => Just(Pace::Adaptive), 1 => Just(Pace::Splice)],
        pauses in 0..4usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let Relayed { mut client, mut server, task, .. } =
                Setup { pace, buffers, ..Setup::default() }.start().await;
            let ((mut client_reads, mut client_writes), (mut server_reads, mut server_writes)) =
                (client.split(), server.split());
            let (.., got_there, got_back) = soon("the pieces", async {
                tokio::join!(
                    write_pieces(&mut client_writes, 1, &there, pauses),
                    write_pieces(&mut server_writes, 2, &back, pauses),
                    read_pattern(&mut server_reads, 1),
                    read_pattern(&mut client_reads, 2),
                )
            }).await;
            assert_eq!(got_there, there.iter().sum::<usize>());
            assert_eq!(got_back, back.iter().sum::<usize>());
            assert_eq!(task.await.unwrap(), Ending::Complete);
        });
    }
}

async fn write_pieces(socket: &mut (impl AsyncWriteExt + Unpin), seed: u64, pieces: &[usize], pauses: usize) {
    let mut position = 0;
    for piece in pieces {
        socket.write_all(&pattern(seed, position, *piece)).await.unwrap();
        position += piece;
        for _ in 0..pauses {
            tokio::task::yield_now().await;
        }
    }
    socket.shutdown().await.unwrap();
}
