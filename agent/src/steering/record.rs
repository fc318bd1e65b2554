//! What was granted and when, for status and metrics; and whether a grant may be used at all.

use constellation_cluster::lease::Held;
use constellation_ebpf_loader::BootTime;

use super::authority::GrantError;

/// The grant in force, and how it came to be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Record {
    /// The epoch or token.
    pub(super) epoch: u64,
    /// The end; may have passed.
    pub(super) deadline: BootTime,
    /// Without being the holder.
    pub(super) stands_by: bool,
    /// Grants, extensions included.
    pub(super) renewals: u64,
    /// How often it had ended before it was renewed.
    pub(super) losses: u64,
    /// Grants that were refused.
    pub(super) refused: u64,
}

impl Record {
    /// Whether the node is the holder at `now`.
    pub(super) fn holds(&self, now: BootTime) -> bool {
        !self.stands_by && self.deadline.remaining(now).is_some()
    }

    /// Whether a lease can be used at `now`.
    pub(super) fn check(&self, held: Held, now: BootTime) -> Result<(), GrantError> {
        if held.remaining(now).is_none() {
            return Err(GrantError::Over {
                token: held.token().get(),
            });
        }
        if held.token().get() < self.epoch {
            return Err(GrantError::Stale {
                given: held.token().get(),
                seen: self.epoch,
            });
        }
        Ok(())
    }

    /// Whether the node may stand by at `now`: not while it is the holder, whose time would be made longer.
    pub(super) fn check_stand_by(&self, now: BootTime) -> Result<(), GrantError> {
        if self.holds(now) {
            return Err(GrantError::Holding { token: self.epoch });
        }
        Ok(())
    }

    /// It was granted, at `now`. Says whether the grant before it, of the same lease, had ended by then.
    pub(super) fn granted(&mut self, epoch: u64, deadline: BootTime, now: BootTime) -> bool {
        let late = !self.stands_by
            && self.epoch == epoch
            && self.deadline != BootTime::default()
            && self.deadline.remaining(now).is_none();
        self.losses += u64::from(late);
        self.renewals += 1;
        self.epoch = epoch;
        self.deadline = deadline;
        self.stands_by = false;
        late
    }

    /// The node gets connections until then, without being the holder.
    pub(super) fn stood_by(&mut self, until: BootTime) {
        self.deadline = until;
        self.stands_by = true;
    }

    /// It is over, by the node's own doing.
    pub(super) fn withdrawn(&mut self) {
        self.deadline = BootTime::default();
        self.stands_by = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_renewal_that_comes_late_is_a_loss() {
        let at = BootTime::from_nanos;
        let mut record = Record::default();
        assert!(!record.granted(4, at(20), at(10)), "the first one");
        assert!(!record.granted(4, at(30), at(19)));
        assert!(record.holds(at(29)) && !record.holds(at(30)));
        assert!(record.granted(4, at(50), at(40)), "frozen meanwhile");
        record.withdrawn();
        assert!(!record.holds(at(41)));
        assert!(!record.granted(9, at(90), at(80)), "let go of, and another lease");
        record.stood_by(at(200));
        assert!(!record.holds(at(100)));
        assert!(!record.granted(9, at(400), at(300)), "was no holder meanwhile");
        assert_eq!((record.renewals, record.losses), (5, 1));
    }
}
