//! The lease of a node on its own: it grants itself, for a few seconds at a time.
//!
//! Pure: time is passed in, and what comes out is written to the kernel by somebody else. A lease that is agreed upon
//! between nodes gives the same [`Term`]s, with the fencing token as the epoch.

use std::time::Duration;

use constellation_ebpf_loader::BootTime;

/// What the kernel is told: until when this node may answer, and under which epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Term {
    /// Never goes down, on this host.
    pub(super) epoch: u64,
    /// Of `CLOCK_BOOTTIME`. At this time and after it the kernel refuses new connections.
    pub(super) deadline: BootTime,
}

/// What a renewal came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    /// The lease was held, and is for longer now.
    Extended(Term),
    /// It was not held any more: this is another grant, under an epoch of its own.
    Anew {
        /// The new grant.
        term: Term,
        /// For how long nobody held it; nothing for the first grant of a process.
        gap: Option<Duration>,
    },
}

impl Renewal {
    /// The grant that is in force.
    pub(super) fn term(self) -> Term {
        match self {
            Self::Extended(term) | Self::Anew { term, .. } => term,
        }
    }
}

/// The lease of a cluster of one.
#[derive(Clone, Debug)]
pub(super) struct LocalLease {
    ttl: Duration,
    epoch: u64,
    deadline: Option<BootTime>,
}

impl LocalLease {
    /// The lease after whatever held `epoch` here; 0 for none.
    pub(super) fn after(epoch: u64, ttl: Duration) -> Self {
        Self {
            ttl,
            epoch,
            deadline: None,
        }
    }

    /// Extends the lease, or takes it anew where its deadline has passed: the process was stopped, the machine slept, or
    /// nobody came to renew it.
    ///
    /// The deadline counts from `now`, which has to be read before the call: what takes long afterwards shortens the
    /// grant and never lengthens it.
    pub(super) fn renew(&mut self, now: BootTime) -> Renewal {
        let before = self.deadline.replace(now + self.ttl);
        let held = before.is_some_and(|deadline| deadline.remaining(now).is_some());
        if !held {
            self.epoch += 1;
        }
        let term = Term {
            epoch: self.epoch,
            deadline: now + self.ttl,
        };
        if held {
            Renewal::Extended(term)
        } else {
            Renewal::Anew {
                term,
                gap: before.map(|deadline| now.remaining(deadline).unwrap_or_default()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_renewal_after_the_deadline_is_another_grant() {
        let mut lease = LocalLease::after(7, Duration::from_secs(3));
        let term = |epoch, deadline| Term {
            epoch,
            deadline: at(deadline),
        };
        let first = Renewal::Anew {
            term: term(8, 13),
            gap: None,
        };
        assert_eq!(lease.renew(at(10)), first);
        assert_eq!(lease.renew(at(12)), Renewal::Extended(term(8, 15)));
        // At its deadline the kernel refuses already.
        let late = Renewal::Anew {
            term: term(9, 18),
            gap: Some(Duration::ZERO),
        };
        assert_eq!(lease.renew(at(15)), late);
        let frozen = Renewal::Anew {
            term: term(10, 63),
            gap: Some(Duration::from_secs(42)),
        };
        assert_eq!(lease.renew(at(60)), frozen);
    }
}
