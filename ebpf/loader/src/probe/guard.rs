//! Datagrams within the machine from an address that nothing else uses: they arrive, until that address is denied.

use std::net::{Ipv4Addr, UdpSocket};
use std::thread;
use std::time::Instant;

use constellation_ebpf_abi::guard::Verdict;
use ipnet::{IpNet, Ipv4Net};

use super::{PATIENCE, failed, unmet};
use crate::guard::{Ban, Device, Program};
use crate::{Error, Guard, Lock};

/// An address of the loopback device that hardly anything else would bind.
const STRANGE: Ipv4Addr = Ipv4Addr::new(127, 83, 84, 85);
const BAN: Ban = Ban {
    reason: 0,
    until: None,
};

pub(super) fn probe(lock: &Lock) -> Result<(), Error> {
    let mut guard = Guard::load(lock, None)?;
    // Both of them have to pass the verifier.
    guard.cost(Program::L3)?;
    let link = guard.tcx_link(&Device::find("lo")?)?;

    let receiver =
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| failed("making a socket", &error))?;
    let sender = UdpSocket::bind((STRANGE, 0)).map_err(|error| failed("making a socket", &error))?;
    let send = || {
        let sent = receiver
            .local_addr()
            .and_then(|address| sender.send_to(b"probe", address));
        sent.map_err(|error| failed("sending a datagram", &error))
    };
    receiver
        .set_read_timeout(Some(PATIENCE))
        .map_err(|error| failed("setting up a socket", &error))?;
    send()?;
    receiver
        .recv_from(&mut [0; 16])
        .map_err(|error| failed("receiving a datagram", &error))?;
    guard.deny(strange(), BAN)?;
    send()?;
    let started = Instant::now();
    while !is_counted(&guard, Verdict::Denied)? {
        if started.elapsed() > PATIENCE {
            return Err(unmet("a datagram from a denied address was not counted"));
        }
        thread::yield_now();
    }
    receiver
        .set_nonblocking(true)
        .map_err(|error| failed("setting up a socket", &error))?;
    if receiver.recv_from(&mut [0; 16]).is_ok() {
        return Err(unmet("a datagram from a denied address arrived"));
    }
    drop(link);
    Ok(())
}

pub(super) fn probe_xdp(lock: &Lock) -> Result<(), Error> {
    let mut guard = Guard::load(lock, None)?;
    let frame = frame();
    if !guard.test(Program::Xdp, &frame, 1)?.passed {
        return Err(unmet("a packet was dropped that nothing was said about"));
    }
    guard.deny(strange(), BAN)?;
    if guard.test(Program::Xdp, &frame, 1)?.passed {
        return Err(unmet("a packet from a denied address went on"));
    }
    Ok(())
}

fn strange() -> IpNet {
    Ipv4Net::from(STRANGE).into()
}

fn is_counted(guard: &Guard, verdict: Verdict) -> Result<bool, Error> {
    Ok(guard
        .stats()?
        .iter()
        .any(|(counted, times)| *counted == verdict && *times > 0))
}

/// An Ethernet frame with an ICMP message.
fn frame() -> [u8; 42] {
    let mut frame = [0; 42];
    // IPv4, by the type and by the version; five words, 28 bytes, TTL 64, ICMP.
    frame[12..18].copy_from_slice(&[0x08, 0, 0x45, 0, 0, 28]);
    frame[22..24].copy_from_slice(&[64, 1]);
    frame[26..30].copy_from_slice(&STRANGE.octets());
    frame
}
