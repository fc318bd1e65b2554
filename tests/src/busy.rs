//! Connections that are in use while something happens to them: ping-pong, and bulk in either direction, every byte of
//! which is looked at; and the server that they talk to, which begins with its name.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::PATIENCE;

/// What a client wants of a server: its first byte.
const ECHO: u8 = b'e';
const UPLOAD: u8 = b'u';
const DOWNLOAD: u8 = b'd';

/// The content of bulk transfers: a prime length, so that a shift by any segment, page or buffer shows.
fn pattern() -> Arc<[u8]> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let bytes = (0..1_000_003).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    });
    bytes.collect()
}

/// Serves everybody who comes, for as long as the process lives.
pub fn serve(listener: TcpListener, name: char) {
    thread::spawn(move || accept(&listener, name as u8));
}

fn accept(listener: &TcpListener, name: u8) {
    let pattern = pattern();
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { return };
        let pattern = Arc::clone(&pattern);
        // A client that is gone is the client's business.
        thread::spawn(move || -> io::Result<()> {
            stream.write_all(&[name])?;
            let mut wanted = [0];
            stream.read_exact(&mut wanted)?;
            match wanted[0] {
                ECHO => {
                    let mut byte = [0];
                    while stream.read(&mut byte)? > 0 {
                        stream.write_all(&byte)?;
                    }
                }
                UPLOAD => {
                    let received = verify(&mut stream, &pattern, |_| true)?;
                    stream.write_all(&received.to_be_bytes())?;
                }
                _ => while stream.write_all(&pattern).is_ok() {},
            }
            Ok(())
        });
    }
}

/// Reads the pattern until its end, or as long as is wanted; says how many bytes that were.
fn verify(stream: &mut TcpStream, pattern: &[u8], wanted: impl Fn(u64) -> bool) -> io::Result<u64> {
    let mut buffer = vec![0; 256 * 1024];
    let mut received = 0_u64;
    while wanted(received) {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            let at = usize::try_from(received % pattern.len() as u64).map_err(io::Error::other)?;
            let length = rest.len().min(pattern.len() - at);
            if rest[..length] != pattern[at..at + length] {
                return Err(io::Error::new(
                    ErrorKind::InvalidData,
                    format!("other bytes at {received}"),
                ));
            }
            received += length as u64;
            rest = &rest[length..];
        }
    }
    Ok(received)
}

/// Connects; says who answered.
///
/// # Errors
/// When nobody does.
pub fn connect(target: SocketAddr) -> io::Result<(TcpStream, char)> {
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut name = [0];
    stream.read_exact(&mut name)?;
    Ok((stream, name[0].into()))
}

/// A connection that is in use, and how far it has come.
pub struct Busy {
    /// Of what kind it is.
    pub what: &'static str,
    progress: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    worker: JoinHandle<io::Result<()>>,
}

impl Busy {
    /// Round trips or bytes so far.
    #[must_use]
    pub fn progress(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
    }

    /// Waits until it has come this much further.
    ///
    /// # Errors
    /// How it ended instead.
    ///
    /// # Panics
    /// When it has ended by itself as if that were wanted.
    pub fn goes_on(self, by: u64) -> Result<Self, String> {
        let before = self.progress();
        let started = Instant::now();
        while self.progress() < before + by {
            if self.worker.is_finished() {
                return Err(self.end().expect_err("it ended by itself"));
            }
            if started.elapsed() > PATIENCE * 12 {
                return Err(format!("{}: stuck at {}", self.what, self.progress()));
            }
            thread::yield_now();
        }
        Ok(self)
    }

    /// Ends it.
    ///
    /// # Errors
    /// When not everything was as it has to be.
    ///
    /// # Panics
    /// When its worker has.
    pub fn end(self) -> Result<(), String> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.worker.join().expect("a worker does not panic");
        ended.map_err(|error| format!("{}: {error}", self.what))
    }
}

/// Opens connections of each kind, `pings` of the first, all of which have to go to the server of this name.
///
/// # Panics
/// When they don't.
#[must_use]
pub fn open(target: SocketAddr, name: char, pings: usize) -> Vec<Busy> {
    let pattern = pattern();
    let kinds =
        std::iter::repeat_n(("ping-pong", ECHO), pings).chain([("upload", UPLOAD), ("download", DOWNLOAD)]);
    let connections = kinds.map(|(what, wanted)| {
        let (mut stream, answered) = connect(target).expect("somebody answers");
        assert_eq!(answered, name);
        stream.write_all(&[wanted]).expect("the wish is said");
        let (progress, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let worker = {
            let (progress, stop, pattern) = (Arc::clone(&progress), Arc::clone(&stop), Arc::clone(&pattern));
            thread::spawn(move || match wanted {
                ECHO => echo(&mut stream, &progress, &stop),
                UPLOAD => upload(&mut stream, &pattern, &progress, &stop),
                _ => {
                    let wanted = |received| {
                        progress.store(received, Ordering::Relaxed);
                        !stop.load(Ordering::Relaxed)
                    };
                    verify(&mut stream, &pattern, wanted).map(drop)
                }
            })
        };
        Busy {
            what,
            progress,
            stop,
            worker,
        }
    });
    connections.collect()
}

fn echo(stream: &mut TcpStream, progress: &AtomicU64, stop: &AtomicBool) -> io::Result<()> {
    let mut sent = 0_u8;
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&[sent])?;
        let mut received = [0];
        stream.read_exact(&mut received)?;
        if received[0] != sent {
            return Err(io::Error::new(ErrorKind::InvalidData, "another byte came back"));
        }
        sent = sent.wrapping_add(1);
        progress.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn upload(stream: &mut TcpStream, pattern: &[u8], progress: &AtomicU64, stop: &AtomicBool) -> io::Result<()> {
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        for piece in pattern.chunks(128 * 1024) {
            stream.write_all(piece)?;
            sent += piece.len() as u64;
            progress.store(sent, Ordering::Relaxed);
        }
    }
    stream.shutdown(Shutdown::Write)?;
    let mut received = [0; 8];
    stream.read_exact(&mut received)?;
    if u64::from_be_bytes(received) == sent {
        Ok(())
    } else {
        Err(io::Error::new(
            ErrorKind::InvalidData,
            format!("of {sent} bytes arrived {received:?}"),
        ))
    }
}
