//! What clients do that nobody does in good faith again and again, told to whoever keeps count of it.
//!
//! The data plane tells and judges nothing: how much is too much, and what comes of it, is decided elsewhere. It tells
//! of the peer of a connection only, and of no peer that may speak for others: a load balancer is not to blame for who
//! comes through it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::metrics::Refusal;
use crate::settings::EntryPoint;

/// What somebody did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Offence {
    /// More of something in HTTP/2 than any client needs: resets, pings, settings, headers.
    Flood,
    /// A request whose headers or body trickle in until the time is over.
    Slow,
    /// Something that is no request, no TLS and no PROXY protocol where it should be, or one beyond every limit.
    Malformed,
    /// More connections at once than a source may have.
    Connections,
    /// More requests than a rate admits.
    Rate,
}

impl Offence {
    /// In metrics and in reasons.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Flood => "flood",
            Self::Slow => "slow",
            Self::Malformed => "malformed",
            Self::Connections => "connections",
            Self::Rate => "rate",
        }
    }

    /// The offence in a refusal, if it is one. What also happens to an honest client with a bad line, an old program or
    /// an outdated idea of our hosts is none.
    pub(crate) const fn of(refusal: Refusal) -> Option<Self> {
        match refusal {
            Refusal::H2Streams
            | Refusal::H2Resets
            | Refusal::H2Pings
            | Refusal::H2Settings
            | Refusal::H2Priority
            | Refusal::H2WindowUpdates
            | Refusal::H2Headers
            | Refusal::H2EmptyData
            | Refusal::H2Error
            | Refusal::H2Unknown => Some(Self::Flood),
            Refusal::HeaderTimeout | Refusal::SlowBody => Some(Self::Slow),
            Refusal::Malformed
            | Refusal::Framing
            | Refusal::Host
            | Refusal::Path
            | Refusal::Method
            | Refusal::HeaderTooLarge
            | Refusal::TooManyHeaders
            | Refusal::UriTooLong
            | Refusal::ProxyProtocol
            | Refusal::ClientHello => Some(Self::Malformed),
            Refusal::TooManyFromSource => Some(Self::Connections),
            _ => None,
        }
    }
}

/// Whoever keeps count. Called from the threads that serve, so it must not wait.
pub trait Report: Send + Sync {
    /// `source` has done this once.
    fn report(&self, source: IpAddr, offence: Offence);
}

/// Where offences are told; by default nowhere. Clones tell the same one.
#[derive(Clone, Default)]
pub struct Offences(Option<Arc<dyn Report>>);

impl Offences {
    /// Tells `report`.
    pub fn to(report: Arc<dyn Report>) -> Self {
        Self(Some(report))
    }

    /// Tells of an offence, where the refusal is one and the peer may be blamed: the other end of the TCP connection,
    /// whatever it said about itself.
    pub(crate) fn tell(&self, entry_point: &EntryPoint, peer: IpAddr, refusal: Refusal) {
        let peer = peer.to_canonical();
        if let (Some(report), Some(offence)) = (&self.0, Offence::of(refusal))
            && may_be_blamed(entry_point, peer)
        {
            report.report(peer, offence);
        }
    }
}

impl fmt::Debug for Offences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Offences(told)"
        } else {
            "Offences(not told)"
        })
    }
}

/// Whether a peer speaks for itself alone.
fn may_be_blamed(entry_point: &EntryPoint, peer: IpAddr) -> bool {
    let trusted = entry_point.forwarded.insecure
        || entry_point.proxy_protocol.trusts(peer)
        || entry_point
            .forwarded
            .trusted_ips
            .iter()
            .chain(&entry_point.exempt_sources)
            .any(|net| net.contains(&peer));
    !trusted && !peer.is_loopback()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use constellation_table::EntryPointId;

    use super::*;
    use crate::settings::{ForwardedHeaders, Limits, Protocol, ProxyProtocolTrust, TcpSettings, UdpSettings};

    fn entry_point() -> EntryPoint {
        EntryPoint {
            id: EntryPointId(0),
            name: "web".into(),
            protocol: Protocol::Tcp,
            addresses: Vec::new(),
            key: "entryPoints.web.address".into(),
            forwarded: ForwardedHeaders {
                insecure: false,
                trusted_ips: vec!["10.0.0.0/8".parse().unwrap()],
            },
            proxy_protocol: ProxyProtocolTrust {
                insecure: false,
                trusted_ips: vec!["192.0.2.1/32".parse().unwrap()],
            },
            limits: Limits::default(),
            tcp: TcpSettings::default(),
            udp: UdpSettings::default(),
            exempt_sources: vec!["2001:db8::/32".parse().unwrap()],
            default_tls_options: "default".into(),
            tenure: Default::default(),
            by_service: false,
            shared: false,
        }
    }

    #[derive(Default)]
    struct Told(Mutex<Vec<(IpAddr, Offence)>>);

    impl Report for Told {
        fn report(&self, source: IpAddr, offence: Offence) {
            self.0.lock().unwrap().push((source, offence));
        }
    }

    #[test]
    fn nobody_is_blamed_who_speaks_for_others() {
        let told = Arc::new(Told::default());
        let offences = Offences::to(told.clone());
        let mut entry_point = entry_point();
        let peers = [
            "203.0.113.1",
            "10.1.2.3",
            "::ffff:10.1.2.3",
            "192.0.2.1",
            "2001:db8::1",
            "::1",
            "2001:db9::1",
        ];
        for peer in peers {
            let peer = peer.parse().unwrap();
            offences.tell(&entry_point, peer, Refusal::H2Resets);
            // What an honest client may do as well.
            offences.tell(&entry_point, peer, Refusal::BodyTimeout);
            offences.tell(&entry_point, peer, Refusal::SlowReader);
        }
        let blamed = ["203.0.113.1", "2001:db9::1"].map(|peer| (peer.parse().unwrap(), Offence::Flood));
        assert_eq!(*told.0.lock().unwrap(), blamed);
        // Everybody is believed: whoever comes may be somebody's proxy.
        entry_point.forwarded.insecure = true;
        let peer = "203.0.113.1".parse().unwrap();
        offences.tell(&entry_point, peer, Refusal::H2Resets);
        assert_eq!(told.0.lock().unwrap().len(), blamed.len());
        // To nobody, which is no error.
        Offences::default().tell(&entry_point, peer, Refusal::H2Resets);
    }
}
