//! Sockets of datagrams: how they are made, and what the standard library does not say about receiving and sending.
//!
//! Receiving takes up to [`BATCH`] messages with one call, each with the address that was asked; sending names the
//! address to send from and cuts trains. Control messages are put together here as bytes, so no call needs `unsafe`.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};
use smallvec::SmallVec;
use socket2::{Domain, MsgHdr, Protocol, SockAddr, SockRef, Socket, Type};

use crate::metrics::DatagramDrop;

/// Most messages that are received with one call.
pub(super) const BATCH: usize = quinn_udp::BATCH_SIZE;
/// Room for one message. The longest, joined or not, has less than 65,536 bytes, so one that fills its room was cut. The
/// odd number keeps the rooms from sharing the same lines of the processor's cache.
pub(super) const ROOM: usize = 65_536 + 320;
/// What waits at the socket of an entry point while the worker is busy; the kernel allows less by default
/// (`net.core.rmem_max`).
const RECEIVE_BUFFER: usize = 4 << 20;

/// A socket of an entry point. Shared: several workers listen there.
pub(crate) fn listen(address: SocketAddr, only_v6: bool, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.ip().is_unspecified() {
        match address {
            SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
    }
    if let Err(error) = socket.set_recv_buffer_size(RECEIVE_BUFFER) {
        tracing::debug!(%error, "the receive buffer stays as it is");
    }
    join_trains(&socket);
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A socket that exchanges datagrams with one back end only.
pub(super) fn connect(to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(to),
        Type::DGRAM.nonblocking(),
        Some(Protocol::UDP),
    )?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// Whether an address is one of this host: what is sent there is sent from there. Asks the kernel, with three calls.
pub(super) fn is_local(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let chosen = || connect(SocketAddr::new(ip, 9))?.local_addr();
    ip.is_loopback() || chosen().is_ok_and(|chosen| chosen.ip() == ip)
}

/// Lets the kernel join datagrams that come in; without it, or on an older kernel, each one comes by itself.
pub(super) fn join_trains(socket: &impl AsFd) {
    if let Err(error) = setsockopt(&socket.as_fd(), sockopt::UdpGroSegment, &true) {
        tracing::debug!(%error, "datagrams are received one by one");
    }
}

/// Receives batches, for all sockets of a worker.
pub(super) struct Receiver(UdpSocketState);

impl Receiver {
    /// Fails without descriptors.
    pub(super) fn new() -> io::Result<Self> {
        // What it wants of a socket is not wanted of ours, datagrams that are never fragmented above all; receiving
        // needs none of it.
        let any = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        UdpSocketState::new(UdpSockRef::from(&any)).map(Self)
    }

    /// Receives into rooms of [`ROOM`] bytes each, at most as many as there are `metas`; how many messages there were.
    pub(super) fn receive(
        &self,
        socket: &UdpSocket,
        rooms: &mut [u8],
        metas: &mut [RecvMeta],
    ) -> io::Result<usize> {
        let mut slices: SmallVec<[IoSliceMut<'_>; BATCH]> =
            rooms.chunks_exact_mut(ROOM).map(IoSliceMut::new).collect();
        let most = slices.len().min(metas.len());
        self.0.recv(
            UdpSockRef::from(socket),
            slices.get_mut(..most).unwrap_or_default(),
            metas,
        )
    }
}

/// Where to send to and from; a connected socket needs to be told neither.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) to: SocketAddr,
    /// Where the kernel is not to choose.
    pub(super) from: Option<IpAddr>,
}

/// Sends the pieces as one datagram or, cut every `each` bytes, as several.
pub(super) fn send(
    socket: &UdpSocket,
    way: Option<Way>,
    each: Option<u16>,
    pieces: &[IoSlice<'_>],
) -> io::Result<()> {
    let mut control = Control::default();
    if let Some(each) = each {
        control.push(SOL_UDP, UDP_SEGMENT, &each.to_ne_bytes());
    }
    if let Some(from) = way.and_then(|way| way.from) {
        control.source(from);
    }
    let to = way.map(|way| SockAddr::from(way.to));
    let mut message = MsgHdr::new().with_buffers(pieces);
    if let Some(to) = &to {
        message = message.with_addr(to);
    }
    if !control.bytes().is_empty() {
        message = message.with_control(control.bytes());
    }
    SockRef::from(socket).sendmsg(&message, 0).map(drop)
}

/// Whether the kernel or the device can't cut this train, so that its datagrams have to be sent one by one: longer than
/// the way allows (`EMSGSIZE`, `EINVAL` before Linux 6.2), or no checksums by the device (`EIO`).
pub(super) fn is_about_trains(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EIO | EINVAL | EMSGSIZE))
}

/// How long datagrams may be to leave in trains, when one of datagrams of this length could not be cut.
pub(super) fn longest_after(error: &io::Error, each: usize) -> usize {
    match error.raw_os_error() {
        Some(EIO) => 0,
        _ => each.saturating_sub(1),
    }
}

/// Why a datagram that could not be sent is lost.
pub(super) fn drop_reason(error: &io::Error) -> DatagramDrop {
    match error.raw_os_error() {
        Some(EAGAIN | ENOBUFS | ENOMEM) => DatagramDrop::Full,
        _ => DatagramDrop::Unsent,
    }
}

/// Whether somebody on the way says that datagrams don't arrive: no such port, host or network.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    matches!(
        error.kind(),
        ConnectionRefused | HostUnreachable | NetworkUnreachable
    )
}

/// Whether descriptors, ports or memory have run out.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(ENFILE | EMFILE | EAGAIN | ENOMEM | EADDRINUSE | ENOBUFS)
    )
}

const EIO: i32 = 5;
const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const EINVAL: i32 = 22;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const EMSGSIZE: i32 = 90;
const EADDRINUSE: i32 = 98;
const ENOBUFS: i32 = 105;

const SOL_UDP: i32 = 17;
const UDP_SEGMENT: i32 = 103;
const IPPROTO_IP: i32 = 0;
const IP_PKTINFO: i32 = 8;
const IPPROTO_IPV6: i32 = 41;
const IPV6_PKTINFO: i32 = 50;

/// Control messages of one call, as `cmsg(3)` lays them out.
#[derive(Debug)]
struct Control {
    bytes: [u8; Self::ROOM],
    len: usize,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            bytes: [0; Self::ROOM],
            len: 0,
        }
    }
}

impl Control {
    /// Enough for a segment size and an IPv6 source.
    const ROOM: usize = 96;
    const HEADER: usize = size_of::<usize>() + 8;

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The address to send from.
    fn source(&mut self, from: IpAddr) {
        match from {
            // The interface is left to the route, and the last field means nothing when sending.
            IpAddr::V4(v4) => {
                let mut info = [0; 12];
                if let Some(address) = info.get_mut(4..8) {
                    address.copy_from_slice(&v4.octets());
                }
                self.push(IPPROTO_IP, IP_PKTINFO, &info);
            }
            IpAddr::V6(v6) => {
                let mut info = [0; 20];
                if let Some(address) = info.get_mut(..16) {
                    address.copy_from_slice(&v6.octets());
                }
                self.push(IPPROTO_IPV6, IPV6_PKTINFO, &info);
            }
        }
    }

    fn push(&mut self, level: i32, kind: i32, data: &[u8]) {
        let len = Self::HEADER + data.len();
        let parts: [&[u8]; 4] = [
            &len.to_ne_bytes(),
            &level.to_ne_bytes(),
            &kind.to_ne_bytes(),
            data,
        ];
        let mut at = self.len;
        for part in parts {
            if let Some(place) = self.bytes.get_mut(at..at + part.len()) {
                place.copy_from_slice(part);
            }
            at += part.len();
        }
        self.len += len.next_multiple_of(size_of::<usize>());
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn pair() -> (UdpSocket, UdpSocket) {
        let receiver = UdpSocket::from(listen("127.0.0.1:0".parse().unwrap(), false, false).unwrap());
        receiver.set_nonblocking(false).unwrap();
        let sender = connect(receiver.local_addr().unwrap()).unwrap();
        (sender, receiver)
    }

    #[test]
    fn a_train_arrives_as_its_datagrams() {
        let (sender, _) = pair();
        // One that joins nothing, so that the kernel shows where it has cut.
        let plain = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        sender.connect(plain.local_addr().unwrap()).unwrap();
        let pieces = [
            IoSlice::new(b"aaaabbbb"),
            IoSlice::new(b"cccc"),
            IoSlice::new(b"d"),
        ];
        send(&sender, None, Some(4), &pieces).unwrap();
        let mut room = [0; 64];
        for expected in [&b"aaaa"[..], b"bbbb", b"cccc", b"d"] {
            let len = plain.recv(&mut room).unwrap();
            assert_eq!(&room[..len], expected);
        }
    }

    #[test]
    fn a_train_is_received_at_once_and_the_longest_datagram_whole() {
        let (sender, receiver) = pair();
        let kernel = Receiver::new().unwrap();
        let mut rooms = vec![0; 4 * ROOM];
        let mut metas = [RecvMeta::default(); 4];
        let train = vec![7u8; 12_500];
        send(&sender, None, Some(1000), &[IoSlice::new(&train)]).unwrap();
        let count = kernel.receive(&receiver, &mut rooms, &mut metas[..1]).unwrap();
        assert_eq!(count, 1);
        assert_eq!((metas[0].len, metas[0].stride), (12_500, 1000));
        let longest = vec![9u8; 65_507];
        sender.send(&longest).unwrap();
        let count = kernel.receive(&receiver, &mut rooms, &mut metas[..1]).unwrap();
        assert_eq!((count, metas[0].len, metas[0].stride), (1, 65_507, 65_507));
        assert!(rooms[..65_507] == longest[..]);
        assert_eq!(metas[0].addr, sender.local_addr().unwrap());
    }

    #[test]
    fn the_source_is_the_one_that_was_named() {
        let (client, _) = pair();
        client.set_nonblocking(false).unwrap();
        for (listening, source) in [("0.0.0.0:0", "127.0.0.7"), ("[::]:0", "::ffff:127.0.0.7")] {
            let server = UdpSocket::from(listen(listening.parse().unwrap(), false, false).unwrap());
            let port = server.local_addr().unwrap().port();
            client.connect((Ipv4Addr::new(127, 0, 0, 7), port)).unwrap();
            let to = match client.local_addr().unwrap() {
                SocketAddr::V4(v4) if listening.starts_with('[') => {
                    SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
                }
                other => other,
            };
            let from = Some(source.parse().unwrap());
            send(&server, Some(Way { to, from }), Some(2), &[IoSlice::new(b"abcd")]).unwrap();
            let mut room = [0; 8];
            // A connected socket takes nothing from another address.
            assert_eq!(client.recv(&mut room).unwrap(), 2, "{listening}");
            assert_eq!(client.recv(&mut room).unwrap(), 2, "{listening}");
        }
    }

    #[test]
    fn addresses_of_this_host() {
        for (ip, local) in [
            ("127.0.0.9", true),
            ("::ffff:127.0.0.9", true),
            ("192.0.2.1", false),
        ] {
            assert_eq!(is_local(ip.parse().unwrap()), local, "{ip}");
        }
        // Whatever this host sends from is its own.
        let outside = connect("192.0.2.1:9".parse().unwrap()).and_then(|socket| socket.local_addr());
        assert!(outside.is_err() || outside.is_ok_and(|own| is_local(own.ip())));
    }

    #[test]
    fn a_refusal_is_told_from_a_shortage() {
        let gone = {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            socket.local_addr().unwrap()
        };
        let socket = connect(gone).unwrap();
        socket.set_nonblocking(false).unwrap();
        socket.send(b"anybody?").unwrap();
        let error = socket.recv(&mut [0; 8]).unwrap_err();
        assert!(is_refusal(&error) && !is_shortage(&error) && !is_about_trains(&error));
    }
}
