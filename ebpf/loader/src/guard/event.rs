//! What the programs tell: rare by construction, since a source and a prefix are told of once in a while only, and all
//! together at a limited rate.

use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use aya::maps::{MapData, RingBuf};
use constellation_ebpf_abi::guard::{self as abi, Verdict};

use super::Guard;
use crate::shared::take;
use crate::{BootTime, Error};

/// A source ran into a ban or into its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: BootTime,
    /// Which of the verdicts that drop a packet.
    pub verdict: Verdict,
    /// Of the ban; 0 for a limit.
    pub reason: u32,
    /// The source.
    pub source: IpAddr,
    /// Destination port and protocol number, where they were looked at: a ban needs neither.
    pub port: Option<(u8, u16)>,
}

/// The events of all devices. One reader at a time; without one, the programs go on and only count.
pub struct Events {
    ring: RingBuf<MapData>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Guard {
    /// The events, once: whoever has them reads them all.
    ///
    /// # Errors
    /// [`Error::Object`] the second time.
    pub fn events(&mut self) -> Result<Events, Error> {
        Ok(Events {
            ring: take(&mut self.ebpf, abi::EVENTS)?,
        })
    }
}

/// Readable when there are events (`epoll`, level-triggered).
impl AsFd for Events {
    #[expect(unsafe_code, reason = "aya hands the ring's descriptor out only as a number")]
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring is open for as long as it is borrowed here.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }
}

/// Takes the events that are there; never waits.
impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            let item = self.ring.next()?;
            // Of another size it is not from this version of the programs.
            if let Some(event) = parse(&item) {
                return Some(event);
            }
        }
    }
}

/// Reads `abi::Event`.
fn parse(bytes: &[u8]) -> Option<Event> {
    if bytes.len() != size_of::<abi::Event>() {
        return None;
    }
    let (at, rest) = bytes.split_first_chunk::<8>()?;
    let (verdict, rest) = rest.split_first_chunk::<4>()?;
    let (reason, rest) = rest.split_first_chunk::<4>()?;
    let (source, rest) = rest.split_first_chunk::<16>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let protocol = *rest.first()?;
    let verdict = *Verdict::ALL.get(u32::from_ne_bytes(*verdict) as usize)?;
    Some(Event {
        at: BootTime::from_nanos(u64::from_ne_bytes(*at)),
        verdict,
        reason: u32::from_ne_bytes(*reason),
        source: Ipv6Addr::from(*source).to_canonical(),
        port: (protocol != 0).then(|| (protocol, u16::from_be_bytes(*port))),
    })
}
