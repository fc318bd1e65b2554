//! A connection within the machine to an address that moved, by a name only: it is known, and a packet of another that
//! nobody knows would go to the previous holder.

use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use constellation_ebpf_abi::chase::{Previous, Verdict};
use constellation_ebpf_abi::steer::V4;

use super::{failed, unmet};
use crate::chase::{Action, key};
use crate::guard::Device;
use crate::{BootTime, Chase, Error, Lock};

/// An address of the loopback device that hardly anything else would bind.
const STRANGE: Ipv4Addr = Ipv4Addr::new(127, 83, 84, 86);

pub(super) fn probe(lock: &Lock) -> Result<(), Error> {
    let mut chase = Chase::load(lock, None)?;
    let device = Device::find("lo")?;
    let listener = TcpListener::bind((STRANGE, 0)).map_err(|error| failed("listening", &error))?;
    let target = listener
        .local_addr()
        .map_err(|error| failed("asking for the port", &error))?;
    chase.set_ports(&[target.port()])?;
    let [a, b, c, d] = Ipv4Addr::new(127, 83, 84, 87).octets();
    let mut address = [0; 16];
    address[..4].copy_from_slice(&[a, b, c, d]);
    let previous = Previous {
        until: (BootTime::now() + Duration::from_secs(60)).as_nanos(),
        device: device.index,
        family: V4.into(),
        address,
    };
    chase.write_previous(&key(IpAddr::from(STRANGE).into()), previous)?;
    let link = chase.tcx_link(&device)?;

    let _stream =
        TcpStream::connect_timeout(&target, super::PATIENCE).map_err(|error| failed("connecting", &error))?;
    listener
        .accept()
        .map_err(|error| failed("accepting the connection", &error))?;
    for verdict in [Verdict::Opening, Verdict::Known] {
        if !is_counted(&chase, verdict)? {
            return Err(unmet("a connection to an address that moved was not seen"));
        }
    }
    if is_counted(&chase, Verdict::Chased)? {
        return Err(unmet(
            "a connection of this node was taken for the previous holder's",
        ));
    }
    if chase.test(&frame(target.port()), 1)?.action != Action::Send {
        return Err(unmet(
            "a packet of an unknown connection did not go to the previous holder",
        ));
    }
    drop(link);
    Ok(())
}

fn is_counted(chase: &Chase, verdict: Verdict) -> Result<bool, Error> {
    let stats = chase.stats()?;
    Ok(stats
        .iter()
        .any(|(counted, times)| *counted == verdict && *times > 0))
}

/// An Ethernet frame with a TCP segment that acknowledges something.
fn frame(port: u16) -> [u8; 54] {
    let mut frame = [0; 54];
    // IPv4, by the type and by the version; five words, 40 bytes, TTL 64, TCP.
    frame[12..18].copy_from_slice(&[0x08, 0, 0x45, 0, 0, 40]);
    frame[22..24].copy_from_slice(&[64, 6]);
    frame[26..30].copy_from_slice(&[127, 83, 84, 85]);
    frame[30..34].copy_from_slice(&STRANGE.octets());
    frame[34..36].copy_from_slice(&[0, 1]);
    frame[36..38].copy_from_slice(&port.to_be_bytes());
    // Five words; ACK.
    frame[46..48].copy_from_slice(&[0x50, 0x10]);
    frame
}
