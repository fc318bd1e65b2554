//! A session: a client's address, the back end it talks to, and what is known of both.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use constellation_table::{Endpoint, Probe, Running, Service, UdpRouter};
use smallvec::SmallVec;

use crate::metrics::{Carried, InFlight, UdpRouteMetrics};
use crate::sources::Counted;

/// Datagrams of a session that are kept to be sent again.
const KEPT: usize = 16;
/// Bytes of them: as much as the longest datagram has.
const KEPT_BYTES: usize = 65_536;
/// Bytes kept by all sessions of a worker at one entry point.
const KEPT_BY_ALL: usize = 16 << 20;
/// Datagrams that a back end has not refused for so long have reached it.
const REFUSED_WITHIN: Duration = Duration::from_secs(1);

/// What tells sessions apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) client: SocketAddr,
    /// The address that was asked, where the socket is bound to all of them.
    pub(super) asked: Option<IpAddr>,
    /// Which socket of the entry point.
    pub(super) socket: usize,
}

/// A session.
pub(super) struct Session {
    pub(super) place: Place,
    pub(super) router: Arc<UdpRouter>,
    pub(super) route: Arc<UdpRouteMetrics>,
    pub(super) begun: Instant,
    pub(super) received: Carried,
    pub(super) sent: Carried,
    /// What its back end has not replied to, as long as it has never replied.
    pub(super) kept: Kept,
    /// Longest datagrams that may leave in trains, towards the back end and towards the client.
    pub(super) longest: [usize; 2],
    /// Moves in all.
    pub(super) retries: u32,
    /// Refusals since the last reply.
    pub(super) refusals: u8,
    pub(super) moved: Instant,
    /// When its endpoint is looked at again.
    pub(super) look: Instant,
    /// The generation in which it was decided that it may stay at an endpoint that has left.
    pub(super) stayed: Option<u64>,
    /// The kernel joins what its back end sends.
    pub(super) joins: bool,
    pub(super) _open: InFlight,
    pub(super) _source: Option<Counted>,
}

/// The back end that a session talks to.
pub(super) struct Place {
    pub(super) service: Arc<Service>,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) upstream: Upstream,
    pub(super) since: Instant,
    /// Its last reply.
    pub(super) replied: Option<Instant>,
    /// The session finds out whether the endpoint is back.
    pub(super) probe: Option<Probe>,
    pub(super) _running: Running,
    pub(super) _attempt: Option<InFlight>,
}

/// The way to a back end.
pub(super) enum Upstream {
    /// Its name is being looked up.
    Waiting,
    Socket(UdpSocket),
}

/// Datagrams that may have to be sent to another back end.
pub(super) struct Kept {
    bytes: Vec<u8>,
    lens: SmallVec<[usize; 2]>,
    by_all: Arc<AtomicUsize>,
}

impl Kept {
    pub(super) fn new(by_all: Arc<AtomicUsize>) -> Self {
        Self {
            bytes: Vec::new(),
            lens: SmallVec::new(),
            by_all,
        }
    }

    /// Keeps a datagram that was sent to a back end which the session has had since then. Only what may still be
    /// refused is kept, or else the last one.
    pub(super) fn sent(&mut self, datagram: &[u8], since: Instant, now: Instant) {
        let old = now.saturating_duration_since(since) > REFUSED_WITHIN;
        if old || !self.push(datagram) {
            self.clear();
            self.push(datagram);
        }
    }

    /// Keeps a datagram, unless there are too many.
    pub(super) fn push(&mut self, datagram: &[u8]) -> bool {
        let fits = self.lens.len() < KEPT && self.bytes.len() + datagram.len() <= KEPT_BYTES;
        if !fits || self.by_all.load(Ordering::Relaxed) + datagram.len() > KEPT_BY_ALL {
            return false;
        }
        self.by_all.fetch_add(datagram.len(), Ordering::Relaxed);
        self.bytes.extend_from_slice(datagram);
        self.lens.push(datagram.len());
        true
    }

    /// In the order they came.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        self.lens.iter().scan(0, |at, len| {
            let datagram = self.bytes.get(*at..*at + len)?;
            *at += len;
            Some(datagram)
        })
    }

    pub(super) fn len(&self) -> usize {
        self.lens.len()
    }

    /// Forgets them; room for small ones stays.
    pub(super) fn clear(&mut self) {
        const SMALL: usize = 2048;
        self.by_all.fetch_sub(self.bytes.len(), Ordering::Relaxed);
        self.bytes.clear();
        self.bytes.shrink_to(SMALL);
        self.lens.clear();
    }

    /// Forgets them for good.
    pub(super) fn release(&mut self) {
        if self.bytes.capacity() > 0 {
            self.clear();
            self.bytes = Vec::new();
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.by_all.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_still_be_refused_is_kept_and_then_the_last_one() {
        let by_all = Arc::new(AtomicUsize::new(0));
        let mut kept = Kept::new(by_all.clone());
        let (since, second) = (Instant::now(), Duration::from_secs(1));
        let texts = |kept: &Kept| -> Vec<String> {
            kept.datagrams()
                .map(|d| String::from_utf8(d.to_vec()).unwrap())
                .collect()
        };
        for text in ["a", "", "bc"] {
            kept.sent(text.as_bytes(), since, since);
        }
        assert_eq!(texts(&kept), ["a", "", "bc"]);
        kept.sent(b"late", since, since + 2 * second);
        assert_eq!(texts(&kept), ["late"]);
        for number in 0..20 {
            kept.sent(number.to_string().as_bytes(), since, since);
        }
        assert_eq!(
            texts(&kept),
            ["15", "16", "17", "18", "19"],
            "sixteen, and then from the beginning"
        );
        kept.sent(&[7; 65_507], since, since);
        assert_eq!((kept.len(), by_all.load(Ordering::Relaxed)), (6, 65_517));
        assert!(!kept.push(&[7; 30]));
        kept.release();
        assert_eq!((kept.len(), by_all.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn all_sessions_together_keep_so_much() {
        let by_all = Arc::new(AtomicUsize::new(0));
        let mut all: Vec<Kept> = (0..300).map(|_| Kept::new(by_all.clone())).collect();
        let kept = all
            .iter_mut()
            .filter_map(|kept| kept.push(&[0; 65_507]).then_some(()))
            .count();
        assert_eq!(kept, KEPT_BY_ALL / 65_507);
        drop(all);
        assert_eq!(by_all.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn an_idle_session_takes_little_memory() {
        assert!(size_of::<Session>() <= 640, "{}", size_of::<Session>());
        assert!(size_of::<Key>() <= 64, "{}", size_of::<Key>());
    }
}
