//! A bridge with a client and two nodes at it, and an address that both nodes have to themselves: the client's neighbour
//! entry says which of them gets its packets.

use std::fs;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::sandbox::{Peer, SERVICE, host};
use crate::sockets::PATIENCE;

pub(crate) const PORT: u16 = 443;
/// Neither is at the bridge's network, so that nobody asks for them there.
pub(crate) const VIP4: &str = "10.8.0.100";
pub(crate) const VIP6: &str = "fd08::100";

/// The old holder's own addresses, the new one's, and the client's.
pub(crate) const OLD: u8 = 2;
pub(crate) const NEW: u8 = 3;
const CLIENT: u8 = 9;

pub(crate) fn own4(host: u8) -> IpAddr {
    Ipv4Addr::new(10, 7, 0, host).into()
}

pub(crate) fn own6(host: u8) -> IpAddr {
    format!("fd07::{host}").parse().unwrap()
}

pub(crate) fn vip(is_v6: bool) -> IpAddr {
    if is_v6 { VIP6 } else { VIP4 }.parse().unwrap()
}

/// All of it. Whoever holds no connection any more is gone with this.
pub(crate) struct Lan {
    pub(crate) client: Peer,
    pub(crate) old: Peer,
    pub(crate) new: Peer,
    _switch: Peer,
}

impl Lan {
    pub(crate) fn new() -> Self {
        let (switch, client, old, new) = (host(None), host(None), host(Some(SERVICE)), host(Some(SERVICE)));
        let mut wiring = vec![
            "link add br0 type bridge".to_owned(),
            "link set br0 up".to_owned(),
        ];
        for (number, peer) in [(CLIENT, &client), (OLD, &old), (NEW, &new)] {
            let thread = peer.thread();
            wiring.extend([
                format!("link add port{number} type veth peer name edge netns {thread}"),
                format!("link set port{number} master br0 up"),
            ]);
        }
        switch.ip(&wiring);
        for (number, peer) in [(CLIENT, &client), (OLD, &old), (NEW, &new)] {
            let mut commands = vec![
                format!("link set edge address {}", mac(number)),
                format!("addr add {}/24 dev edge", own4(number)),
                format!("addr add {}/64 dev edge nodad", own6(number)),
                "link set edge up".to_owned(),
            ];
            if number == CLIENT {
                // As if by a router that knows where the address is: by its neighbour entry.
                commands.extend([
                    format!("route add {VIP4}/32 dev edge"),
                    format!("-6 route add {VIP6}/128 dev edge"),
                ]);
            } else {
                commands.extend([
                    format!("addr add {VIP4}/32 dev lo"),
                    format!("addr add {VIP6}/128 dev lo nodad"),
                ]);
            }
            peer.ip(&commands);
        }
        let lan = Self {
            client,
            old,
            new,
            _switch: switch,
        };
        lan.move_to(OLD);
        lan
    }

    /// From now on the client's packets for the address go to this node, as after a gratuitous ARP.
    pub(crate) fn move_to(&self, number: u8) {
        self.client.ip(&[VIP4, VIP6].map(|vip| {
            format!(
                "neigh replace {vip} lladdr {} dev edge nud permanent",
                mac(number)
            )
        }));
    }

    /// Answers every SYN with a cookie, always.
    pub(crate) fn force_cookies(&self) {
        for node in [&self.old, &self.new] {
            node.run(|| fs::write("/proc/sys/net/ipv4/tcp_syncookies", "2").expect("cookies"));
        }
    }

    /// Has both nodes serve, by name.
    pub(crate) fn serve(&self) {
        for (name, node) in [(b'O', &self.old), (b'N', &self.new)] {
            node.run(move || {
                for is_v6 in [false, true] {
                    let listener = TcpListener::bind((vip(is_v6), PORT)).unwrap();
                    thread::spawn(move || accept(&listener, name));
                }
            });
        }
    }
}

fn mac(number: u8) -> String {
    format!("02:00:00:00:07:{number:02x}")
}

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
            let at = usize::try_from(received % pattern.len() as u64).unwrap();
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

/// Connects in the client's namespace; says who answered.
pub(crate) fn connect(is_v6: bool) -> io::Result<(TcpStream, char)> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((vip(is_v6), PORT)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut name = [0];
    stream.read_exact(&mut name)?;
    Ok((stream, name[0].into()))
}

/// A connection that is in use, and how far it has come.
pub(crate) struct Busy {
    pub(crate) what: &'static str,
    progress: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    worker: JoinHandle<io::Result<()>>,
}

impl Busy {
    /// Round trips or bytes so far.
    pub(crate) fn progress(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
    }

    /// Waits until it has come this much further, or says how it ended instead.
    pub(crate) fn goes_on(self, by: u64) -> Result<Self, String> {
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

    /// Ends it, and says whether everything was as it has to be.
    pub(crate) fn end(self) -> Result<(), String> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.worker.join().expect("a worker does not panic");
        ended.map_err(|error| format!("{}: {error}", self.what))
    }
}

/// Opens a connection of each kind, `pings` of the first; in the client's namespace. All go to the old holder.
pub(crate) fn busy(is_v6: bool, pings: usize) -> Vec<Busy> {
    let pattern = pattern();
    let kinds =
        std::iter::repeat_n(("ping-pong", ECHO), pings).chain([("upload", UPLOAD), ("download", DOWNLOAD)]);
    let connections = kinds.map(|(what, wanted)| {
        let (mut stream, name) = connect(is_v6).expect("the old holder answers");
        assert_eq!(name, 'O');
        stream.write_all(&[wanted]).unwrap();
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
