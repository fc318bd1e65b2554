//! Who has offended too often, and how long they are banned for it. Pure: the time is passed in.
//!
//! A source is an IPv4 address or an IPv6 /64. Offences count within a window that begins with the first; the length of
//! a ban doubles with each. The table is bounded: when it is full, those whose window is over make room, and if there
//! are none, a new source is not counted.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use constellation_config::GuardFeed;
use constellation_dataplane::offence::Offence;
use constellation_ebpf_loader::BootTime;
use ipnet::{IpNet, Ipv6Net};

/// Sources that are counted at once: 6 MB.
const MAX_SOURCES: usize = 65_536;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Offenders {
    sources: HashMap<IpNet, Record>,
    /// Offences of sources that there was no room for.
    pub(super) uncounted: u64,
}

#[derive(Debug)]
struct Record {
    /// When the window began.
    since: BootTime,
    offences: u32,
    /// Bans so far.
    bans: u32,
    /// From then on it begins anew.
    forgotten_at: BootTime,
}

impl Offenders {
    /// Counts an offence: the length of the ban, if it is one too many.
    pub(super) fn count(&mut self, source: IpNet, now: BootTime, feed: &GuardFeed) -> Option<Duration> {
        if !self.sources.contains_key(&source) && self.sources.len() >= MAX_SOURCES {
            self.make_room(now);
            if self.sources.len() >= MAX_SOURCES {
                self.uncounted += 1;
                return None;
            }
        }
        let record = self.sources.entry(source).or_insert(Record {
            since: now,
            offences: 0,
            bans: 0,
            forgotten_at: now + feed.within,
        });
        if now >= record.forgotten_at {
            record.bans = 0;
        }
        if now >= record.since + feed.within {
            (record.since, record.offences) = (now, 0);
        }
        record.offences += 1;
        if record.offences < feed.offences {
            record.forgotten_at = record.forgotten_at.max(now + feed.within);
            return None;
        }
        let doubled = feed
            .ban
            .saturating_mul(1_u32.checked_shl(record.bans).unwrap_or(u32::MAX));
        let length = doubled.min(feed.longest);
        record.bans = record.bans.saturating_add(1);
        record.offences = 0;
        record.forgotten_at = now + length + feed.longest;
        Some(length)
    }

    fn make_room(&mut self, now: BootTime) {
        self.sources.retain(|_, record| now < record.forgotten_at);
    }
}

/// What counts as one source.
pub(super) fn source_of(address: IpAddr) -> IpNet {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4).into(),
        // A length of 64 always fits.
        IpAddr::V6(v6) => Ipv6Net::new_assert(v6, 64).trunc().into(),
    }
}

/// In the list of bans.
pub(super) fn reason(offence: Offence, feed: &GuardFeed) -> String {
    format!(
        "{}: {} offences within {}",
        offence.as_str(),
        feed.offences,
        constellation_config::duration::format(feed.within)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEED: GuardFeed = GuardFeed {
        enabled: true,
        offences: 3,
        within: Duration::from_secs(10),
        ban: Duration::from_secs(60),
        longest: Duration::from_secs(200),
    };

    fn at(seconds: u64) -> BootTime {
        BootTime::from_nanos(seconds * 1_000_000_000)
    }

    fn source(text: &str) -> IpNet {
        source_of(text.parse().unwrap())
    }

    #[test]
    fn too_many_in_the_window_are_a_ban_and_the_next_one_is_longer() {
        let mut offenders = Offenders::default();
        let one = source("192.0.2.1");
        let mut count = |seconds: u64| {
            offenders
                .count(one, at(seconds), &FEED)
                .map(|length| length.as_secs())
        };
        // Spread out, they never are too many.
        assert_eq!([count(100), count(109), count(110), count(111)], [None; 4]);
        assert_eq!(count(119), Some(60));
        assert_eq!([count(200), count(201), count(202)], [None, None, Some(120)]);
        assert_eq!([count(400), count(400), count(400)], [None, None, Some(200)]);
        // Good for as long as the longest ban after the end of the last one: forgotten.
        assert_eq!([count(800), count(800), count(800)], [None, None, Some(60)]);
    }

    #[test]
    fn each_source_counts_alone_and_a_network_of_ipv6_is_one() {
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:2"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        let mut offenders = Offenders::default();
        for host in 0..200_u32 {
            let source = source_of(IpAddr::V4(host.into()));
            assert_eq!(offenders.count(source, at(1), &FEED), None);
        }
        assert_eq!(offenders.sources.len(), 200);
    }

    #[test]
    fn the_table_is_bounded_and_makes_room() {
        let mut offenders = Offenders::default();
        let most = u32::try_from(MAX_SOURCES).unwrap();
        for host in 0..most + 5 {
            offenders.count(source_of(IpAddr::V4(host.into())), at(1), &FEED);
        }
        assert_eq!((offenders.sources.len(), offenders.uncounted), (MAX_SOURCES, 5));
        offenders.count(source("203.0.113.1"), at(12), &FEED);
        assert_eq!((offenders.sources.len(), offenders.uncounted), (1, 5));
    }
}
