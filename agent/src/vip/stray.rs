//! What to do with frames that come while the network may not know yet that an address has moved on. Pure.
//!
//! A [`Porter`] keeps what begins a connection to one of the addresses, unless this host has answered it, until
//! another host announces the address; then that one gets it, and whatever strays here after it. It reads frames of
//! anybody: whatever it can't read in full it leaves alone, and what it keeps has its bounds.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::frame::Mac;

/// Most frames that are kept: some tens of milliseconds of a very busy edge. What is beyond comes again by itself.
const MOST: usize = 4096;
/// The longest frame that is kept: a SYN with all its options takes 134 bytes, and one that brings data comes again without.
const LONGEST: usize = 256;

const ETHERNET: usize = 14;
const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const ADVERTISEMENT: u8 = 136;

/// Passes frames on to who has the addresses now.
#[derive(Debug)]
pub struct Porter {
    own: Mac,
    /// Each with where it is now, once that is known.
    addresses: BTreeMap<IpAddr, Option<Mac>>,
    waiting: Vec<Opening>,
}

/// What begins a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Opening {
    to: IpAddr,
    /// Both addresses and both ports, the client's first.
    ends: Vec<u8>,
    frame: Vec<u8>,
}

/// What a frame says.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// This address is there now.
    Announced(IpAddr, Mac),
    /// Somebody begins a connection; the checksum is made right.
    Opening(Opening),
    /// This host has answered a client, by both ends.
    Answered(Vec<u8>),
}

impl Porter {
    /// For addresses that have been at this hardware address.
    #[must_use]
    pub fn new(own: Mac, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            own,
            addresses: addresses.into_iter().map(|address| (address, None)).collect(),
            waiting: Vec::new(),
        }
    }

    /// A frame was seen; says what to send.
    pub fn saw(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        match self.read(frame) {
            Some(Seen::Announced(address, mac)) => {
                self.addresses.insert(address, Some(mac));
                let all = std::mem::take(&mut self.waiting).into_iter();
                let (gone, waiting): (Vec<Opening>, Vec<Opening>) = all.partition(|one| one.to == address);
                self.waiting = waiting;
                gone.into_iter()
                    .map(|one| self.addressed(one.frame, mac))
                    .collect()
            }
            Some(Seen::Opening(opening)) => match self.addresses.get(&opening.to) {
                Some(Some(mac)) => vec![self.addressed(opening.frame, *mac)],
                Some(None) if self.waiting.len() < MOST => {
                    self.waiting.push(opening);
                    Vec::new()
                }
                _ => Vec::new(),
            },
            Some(Seen::Answered(ends)) => {
                self.waiting.retain(|one| one.ends != ends);
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    fn addressed(&self, mut frame: Vec<u8>, to: Mac) -> Vec<u8> {
        frame.splice(..12, to.into_iter().chain(self.own));
        frame
    }

    fn read(&self, frame: &[u8]) -> Option<Seen> {
        let (to, from, packet) = (frame.get(..6)?, frame.get(6..12)?, frame.get(ETHERNET..)?);
        let (is_for_us, is_ours) = (to == self.own, from == self.own);
        let seen = match u16_at(frame, 12)? {
            ARP => announced4(packet),
            IPV4 if is_for_us || is_ours => handshake4(frame, packet),
            IPV6 if is_for_us || is_ours => handshake6(frame, packet).or_else(|| announced6(packet)),
            IPV6 => announced6(packet),
            _ => None,
        }?;
        match &seen {
            // Said by this host itself.
            Seen::Announced(_, mac) if *mac == self.own => None,
            Seen::Announced(address, _) => self.addresses.contains_key(address).then_some(seen),
            Seen::Opening(opening) => (is_for_us && self.addresses.contains_key(&opening.to)).then_some(seen),
            Seen::Answered(_) => is_ours.then_some(seen),
        }
    }
}

/// Who announces an address asks for it, or answers, as its sender.
fn announced4(packet: &[u8]) -> Option<Seen> {
    // Ethernet and IPv4, request or reply.
    let is_ours = packet.get(..6)? == [0, 1, 0x08, 0, 6, 4] && matches!(u16_at(packet, 6)?, 1 | 2);
    let (sender, target) = (packet.get(14..18)?, packet.get(24..28)?);
    if !is_ours || sender != target {
        return None;
    }
    let address = Ipv4Addr::from(<[u8; 4]>::try_from(sender).ok()?);
    Some(Seen::Announced(address.into(), host(packet.get(8..14)?)?))
}

fn announced6(packet: &[u8]) -> Option<Seen> {
    // Hop limit 255: no router has passed it on.
    if *packet.get(6)? != ICMPV6 || *packet.get(7)? != 255 {
        return None;
    }
    let message = packet.get(40..)?;
    // Its only option is where the target is.
    if *message.first()? != ADVERTISEMENT || message.get(24..26)? != [2, 1] {
        return None;
    }
    let address = Ipv6Addr::from(<[u8; 16]>::try_from(message.get(8..24)?).ok()?);
    Some(Seen::Announced(address.into(), host(message.get(26..32)?)?))
}

/// A hardware address of one host.
fn host(bytes: &[u8]) -> Option<Mac> {
    let mac = Mac::try_from(bytes).ok()?;
    (mac[0] & 1 == 0 && mac != [0; 6]).then_some(mac)
}

fn handshake4(frame: &[u8], packet: &[u8]) -> Option<Seen> {
    let first = *packet.first()?;
    let (header, total) = (usize::from(first & 0xf) * 4, usize::from(u16_at(packet, 2)?));
    let is_whole = u16_at(packet, 6)? & 0x3fff == 0;
    if first >> 4 != 4 || header < 20 || !is_whole || *packet.get(9)? != TCP {
        return None;
    }
    let addresses = packet.get(12..20)?;
    let address = Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(16..20)?).ok()?);
    handshake(
        frame,
        address.into(),
        addresses,
        packet.get(header..total)?,
        ETHERNET + header,
    )
}

fn handshake6(frame: &[u8], packet: &[u8]) -> Option<Seen> {
    if *packet.first()? >> 4 != 6 || *packet.get(6)? != TCP {
        return None;
    }
    let total = 40 + usize::from(u16_at(packet, 4)?);
    let address = Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(24..40)?).ok()?);
    handshake(
        frame,
        address.into(),
        packet.get(8..40)?,
        packet.get(40..total)?,
        ETHERNET + 40,
    )
}

/// A frame whose TCP segment, at this place in it, begins a connection, or answers what did.
fn handshake(frame: &[u8], to: IpAddr, addresses: &[u8], segment: &[u8], at: usize) -> Option<Seen> {
    let end = at + segment.len();
    if segment.len() < 20 {
        return None;
    }
    match segment.get(13)? & (SYN | ACK) {
        SYN if end <= LONGEST => {}
        both if both == SYN | ACK => {
            let (server, client) = addresses.split_at_checked(addresses.len() / 2)?;
            let ends = [client, server, segment.get(2..4)?, segment.get(..2)?].concat();
            return Some(Seen::Answered(ends));
        }
        _ => return None,
    }
    let ends = [addresses, segment.get(..4)?].concat();
    // What a card would have put in may not be there yet.
    let mut segment = segment.to_vec();
    segment[16..18].fill(0);
    let sum = checksum(addresses, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    let mut frame = frame.get(..at)?.to_vec();
    frame.extend(segment);
    Some(Seen::Opening(Opening { to, ends, frame }))
}

/// RFC 9293, section 3.1, and RFC 8200, section 8.1: the sum is the same.
fn checksum(addresses: &[u8], segment: &[u8]) -> u16 {
    let pairs = |bytes: &[u8]| -> u32 {
        let words = bytes.chunks(2);
        words
            .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
            .sum()
    };
    let length = u32::try_from(segment.len()).unwrap_or(u32::MAX);
    let mut sum = pairs(addresses) + u32::from(TCP) + length + pairs(segment);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::super::frame::announcements;
    use super::*;

    const OWN: Mac = [2, 0, 0, 0, 7, 2];
    const NEXT: Mac = [2, 0, 0, 0, 7, 3];

    fn porter() -> Porter {
        Porter::new(
            OWN,
            ["192.0.2.10", "2001:db8::10"].map(|address| address.parse().unwrap()),
        )
    }

    fn segment(flags: u8) -> Vec<u8> {
        let mut segment = vec![
            0x9c, 0x40, 1, 0xbb, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff,
        ];
        segment.extend([0xde, 0xad, 0, 0]);
        segment
    }

    fn v4(to: [u8; 4], flags: u8) -> Vec<u8> {
        let mut frame = [&OWN[..], &[2, 0, 0, 0, 7, 9], &[8, 0]].concat();
        frame.extend([0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, TCP, 0, 0, 192, 0, 2, 99]);
        frame.extend(to);
        frame.extend(segment(flags));
        // As Ethernet pads it.
        frame.resize(60, 0);
        frame
    }

    fn v6(flags: u8) -> Vec<u8> {
        let mut frame = [&OWN[..], &[2, 0, 0, 0, 7, 9], &[0x86, 0xdd]].concat();
        frame.extend([0x60, 0, 0, 0, 0, 20, TCP, 64]);
        frame.extend("2001:db8::99".parse::<Ipv6Addr>().unwrap().octets());
        frame.extend("2001:db8::10".parse::<Ipv6Addr>().unwrap().octets());
        frame.extend(segment(flags));
        frame
    }

    fn announced(address: &str, mac: Mac) -> Vec<u8> {
        announcements(address.parse().unwrap(), mac).remove(0)
    }

    #[test]
    fn what_begins_waits_for_the_next_holder_and_goes_to_it_from_then_on() {
        for (address, opening) in [
            ("192.0.2.10", v4([192, 0, 2, 10], SYN)),
            ("2001:db8::10", v6(SYN)),
        ] {
            let mut porter = porter();
            assert!(porter.saw(&opening).is_empty());
            assert!(
                porter.saw(&announced(address, OWN)).is_empty(),
                "this host itself"
            );
            let sent = porter.saw(&announced(address, NEXT));
            assert_eq!(sent.len(), 1, "{address}");
            assert_eq!((&sent[0][..6], &sent[0][6..12]), (&NEXT[..], &OWN[..]));
            assert_eq!(
                porter.saw(&opening),
                sent,
                "the next one at once, and the same way"
            );
            // With its own checksum in it a segment sums up to nothing.
            let (addresses, at) = if address.contains(':') {
                (22..54, 54)
            } else {
                (26..34, 34)
            };
            assert_eq!(checksum(&sent[0][addresses], &sent[0][at..]), 0);
            assert_eq!(sent[0].len(), at + 20, "without what pads it");
        }
    }

    #[test]
    fn whom_this_host_has_answered_is_not_passed_on() {
        let mut porter = porter();
        let opening = v4([192, 0, 2, 10], SYN);
        porter.saw(&opening);
        let mut other = opening.clone();
        other[35] ^= 1;
        porter.saw(&other);
        // The answer: everything the other way round.
        let mut answer = v4([192, 0, 2, 10], SYN | ACK);
        answer[..12].rotate_left(6);
        answer[26..34].rotate_left(4);
        answer[34..38].rotate_left(2);
        porter.saw(&answer);
        let sent = porter.saw(&announced("192.0.2.10", NEXT));
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0][35], other[35], "the one without an answer");
    }

    #[test]
    fn everything_else_is_left_alone() {
        let mut porter = porter();
        for kept in [
            v4([192, 0, 2, 10], SYN | ACK),
            v4([192, 0, 2, 10], ACK),
            v4([192, 0, 2, 11], SYN),
            v6(ACK),
        ] {
            assert!(porter.saw(&kept).is_empty());
        }
        // For somebody else, at this network; a question for the address; a group for a host.
        let mut elsewhere = v4([192, 0, 2, 10], SYN);
        elsewhere[..6].copy_from_slice(&NEXT);
        assert!(porter.saw(&elsewhere).is_empty());
        let mut question = announced("192.0.2.10", NEXT);
        question[28..32].copy_from_slice(&[192, 0, 2, 99]);
        assert!(porter.saw(&question).is_empty());
        assert!(porter.saw(&announced("192.0.2.10", [0xff; 6])).is_empty());
        assert!(porter.waiting.is_empty());
        assert!(porter.addresses.values().all(Option::is_none));
    }

    #[test]
    fn what_is_cut_short_or_too_much_is_not_kept() {
        let mut porter = porter();
        for frame in [
            v4([192, 0, 2, 10], SYN),
            v6(SYN),
            announced("192.0.2.10", NEXT),
            announced("2001:db8::10", NEXT),
        ] {
            // The shortest IPv4 frame ends with its segment, before what pads it.
            for length in 0..frame.len().min(53) {
                assert!(porter.saw(&frame[..length.min(frame.len() - 1)]).is_empty() || length >= 42);
            }
        }
        let mut porter = self::porter();
        for _ in 0..MOST + 10 {
            porter.saw(&v6(SYN));
        }
        assert_eq!(porter.saw(&announced("2001:db8::10", NEXT)).len(), MOST);
    }
}
