//! Shows those who come to the wrong door the way, for as long as the network may not know that the addresses have moved
//! on: a thread for each device, which sees its frames (packet(7)) and sends what [`Porter`] says.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;

use constellation_ebpf_loader::BootTime;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};
use socket2::{SockFilter, Socket};

use super::frame::Mac;
use super::stray::Porter;
use super::wire::Wire;

/// Longer frames are cut: they begin no connection.
const BUFFER: usize = 2048;

/// The frames of each device, before anybody looks at them.
pub(crate) struct Ready(Vec<(Wire, Porter)>);

/// The threads. Dropped, they send nothing any more, and end.
#[derive(Debug)]
pub(super) struct Usher {
    /// Their other ends tell the threads to end.
    stop: Vec<UnixStream>,
    /// Closed when a thread is done; it then closes its socket, which takes the kernel some ten milliseconds.
    done: Vec<mpsc::Receiver<()>>,
}

impl Ready {
    /// For addresses and their devices. Frames wait from now on.
    pub(super) fn new(places: impl Iterator<Item = (IpAddr, u32, Mac)>) -> io::Result<Self> {
        let mut devices: BTreeMap<u32, (Mac, Vec<IpAddr>)> = BTreeMap::new();
        for (address, device, mac) in places {
            devices.entry(device).or_insert((mac, Vec::new())).1.push(address);
        }
        let ready = devices.into_iter().map(|(device, (mac, addresses))| {
            let wire = Wire::at(device)?;
            // Before it gets anything.
            let socket = Socket::from(wire.as_fd().try_clone_to_owned()?);
            socket.attach_filter(&FILTER)?;
            wire.listen()?;
            Ok((wire, Porter::new(mac, addresses)))
        });
        ready.collect::<io::Result<Vec<_>>>().map(Self)
    }

    /// Looks at what has come and comes, until that time. To be called once nobody is answered here any more. Who was answered
    /// before has a connection, and gets none from the next holder: the answer was seen, too.
    pub(super) fn begin(self, until: BootTime) -> io::Result<Usher> {
        let mut usher = Usher {
            stop: Vec::new(),
            done: Vec::new(),
        };
        for (wire, porter) in self.0 {
            let (stop, stopped) = UnixStream::pair()?;
            let (says_done, done) = mpsc::channel::<()>();
            std::thread::Builder::new()
                .name("usher".to_owned())
                .spawn(move || {
                    let says_done = says_done;
                    if let Err(error) = show(&wire, porter, &stopped.into(), until) {
                        tracing::warn!(%error, "clients that come here are not passed on to the next holder; they ask again");
                    }
                    drop(says_done);
                    drop(wire);
                })?;
            usher.stop.push(stop);
            usher.done.push(done);
        }
        Ok(usher)
    }
}

impl Drop for Usher {
    fn drop(&mut self) {
        self.stop.clear();
        for done in self.done.drain(..) {
            if done.recv().is_ok() {
                tracing::debug!("an usher has said something");
            }
        }
    }
}

fn show(wire: &Wire, mut porter: Porter, stopped: &OwnedFd, until: BootTime) -> io::Result<()> {
    let mut buffer = [0; BUFFER];
    while let Some(remaining) = until.remaining(BootTime::now()) {
        let mut ready = [
            PollFd::new(wire.as_fd(), PollFlags::POLLIN),
            PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
        ];
        let timeout = PollTimeout::try_from(remaining).unwrap_or(PollTimeout::MAX);
        match poll(&mut ready, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if ready[1].any().unwrap_or(true) {
            return Ok(());
        }
        match recv(wire.as_fd().as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => {
                for frame in porter.saw(buffer.get(..length).unwrap_or_default()) {
                    wire.send(&frame)?;
                }
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

const fn load_half(at: u32) -> SockFilter {
    SockFilter::new(0x28, 0, 0, at)
}

const fn load_byte(at: u32) -> SockFilter {
    SockFilter::new(0x30, 0, 0, at)
}

/// Skips so many instructions where the loaded value is this, or is not.
const fn equal(value: u32, then: u8, otherwise: u8) -> SockFilter {
    SockFilter::new(0x15, then, otherwise, value)
}

const KEEP: SockFilter = SockFilter::new(0x06, 0, 0, 2048);
const LEAVE: SockFilter = SockFilter::new(0x06, 0, 0, 0);

/// Passes ARP, SYNs and what answers them, and neighbour advertisements: all else is many times more, and of no use here.
/// [`Porter`] reads for itself.
const FILTER: [SockFilter; 20] = [
    load_half(12),
    equal(0x0806, 16, 0),
    equal(0x0800, 0, 6),
    // IPv4: TCP. X is the length of the header; then TCP's flags.
    load_byte(23),
    equal(6, 0, 14),
    SockFilter::new(0xb1, 0, 0, 14),
    SockFilter::new(0x50, 0, 0, 27),
    SockFilter::new(0x54, 0, 0, 0x02),
    equal(0x02, 9, 10),
    equal(0x86dd, 0, 9),
    // IPv6 without extensions: ICMP, or TCP's flags.
    load_byte(20),
    equal(58, 4, 0),
    equal(6, 0, 6),
    load_byte(67),
    SockFilter::new(0x54, 0, 0, 0x02),
    equal(0x02, 2, 3),
    load_byte(54),
    equal(136, 0, 1),
    KEEP,
    LEAVE,
];
