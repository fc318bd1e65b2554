//! What stands in where the kernel does not steer: under a lease, the data plane looks at the deadline when it accepts.

use constellation_cluster::lease::Held;
use constellation_dataplane::tenure::Tenure;
use constellation_ebpf_loader::BootTime;

use super::Authority;
use super::authority::GrantError;
use super::record::Record;
use super::report::LeaseReport;
use crate::kernel::Reason;

/// The ordinary way, and its end.
#[derive(Debug)]
pub(super) struct StandIn {
    pub(super) reason: Reason,
    authority: Authority,
    tenure: Tenure,
    record: Record,
}

impl StandIn {
    /// Under a lease nobody is answered until it is granted.
    pub(super) fn new(reason: Reason, authority: Authority, tenure: Tenure) -> Self {
        let mut stand_in = Self {
            reason,
            authority,
            tenure,
            record: Record::default(),
        };
        stand_in.set_authority(authority);
        stand_in
    }

    pub(super) fn set_authority(&mut self, authority: Authority) {
        if self.authority != authority {
            self.record = Record::default();
        }
        self.authority = authority;
        match authority {
            Authority::Local => self.tenure.set_endless(),
            Authority::Lease(_) if self.record.holds(BootTime::now()) => {}
            Authority::Lease(_) => self.tenure.end(),
        }
    }

    pub(super) fn grant(&mut self, held: Held) -> Result<(), GrantError> {
        self.under_lease()?;
        let now = BootTime::now();
        self.record
            .check(held, now)
            .inspect_err(|_| self.record.refused += 1)?;
        self.tenure.set_end(held.deadline());
        self.record.granted(held.token().get(), held.deadline(), now);
        Ok(())
    }

    pub(super) fn stand_by(&mut self, until: BootTime) -> Result<(), GrantError> {
        self.under_lease()?;
        self.record.check_stand_by(BootTime::now())?;
        self.tenure.set_end(until);
        self.record.stood_by(until);
        Ok(())
    }

    /// Whoever comes until then is accepted, before anything was granted: whoever accepts lets them wait for that.
    pub(super) fn bridge(&mut self, until: BootTime) {
        if self.authority != Authority::Local && !self.record.holds(BootTime::now()) {
            self.tenure.set_end(until);
        }
    }

    pub(super) fn withdraw(&mut self) -> Result<(), GrantError> {
        self.under_lease()?;
        self.tenure.end();
        self.record.withdrawn();
        Ok(())
    }

    /// Nothing where the node decides by itself: there is no end then.
    pub(super) fn report(&self) -> Option<LeaseReport> {
        let under_lease = self.authority != Authority::Local;
        under_lease.then(|| LeaseReport::of(&self.record, 0, Vec::new()))
    }

    fn under_lease(&self) -> Result<(), GrantError> {
        match self.authority {
            Authority::Local => Err(GrantError::NotUnderLease),
            Authority::Lease(_) => Ok(()),
        }
    }
}
