//! Who may answer until when, as the kernel has it: under which issuer's epoch, as a holder or standing by.
//!
//! Epochs of one issuer never go down, and those of two have nothing to do with each other: a node that joins a cluster, or
//! leaves it for another, begins anew under that one's. The issuer is a part of the word that the kernel keeps as the
//! epoch, so that a grant never changes hands half. Whether the grant is a lease's is, too: a node that stands by gets
//! connections, in order to pass them on, and must not be taken for the holder by whoever reads the map.

use constellation_ebpf_abi::steer::{Grant, ON_LOSS_PASS, ON_LOSS_REFUSE};

use super::{OnLoss, Steering};
use crate::layout::Shared;
use crate::{BootTime, Error};

/// Of the word: a counter of grants, or an index in a cluster's log. At ten thousand entries a second 40 bits last three years
/// and a half, at a hundred, which is a busy cluster, 350.
const EPOCH_BITS: u32 = 40;
/// The highest epoch that there is room for.
pub const MAX_EPOCH: u64 = (1 << EPOCH_BITS) - 1;
const ISSUER_BITS: u32 = 23;
/// The highest bit: no lease is behind it.
const STANDS_BY: u64 = 1 << 63;

/// Who gives the epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Issuer(u32);

impl Issuer {
    /// This host itself.
    pub const LOCAL: Self = Self(0);

    /// A cluster, by what it is known by for all of its life. Two are the same to the kernel in one of eight million cases;
    /// then the epochs of the first have to be reached before the second may grant.
    #[must_use]
    pub fn of_cluster(id: &[u8]) -> Self {
        // FNV-1a, folded to the bits that there are; never what stands for the host itself.
        let hash = id.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mask = (1 << ISSUER_BITS) - 1;
        let folded = (hash ^ (hash >> ISSUER_BITS) ^ (hash >> (2 * ISSUER_BITS))) & mask;
        Self(u32::try_from(folded.max(1)).unwrap_or(1))
    }

    /// Whether it is a cluster.
    #[must_use]
    pub fn is_cluster(self) -> bool {
        self != Self::LOCAL
    }
}

/// What the kernel goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Who has given the epoch.
    pub issuer: Issuer,
    /// The highest under which this node was the holder; 0 for none.
    pub epoch: u64,
    /// The end, which may have passed.
    pub valid_until: BootTime,
    /// Connections come to be passed on to the holder. This node is not the holder, whatever the epoch.
    pub stands_by: bool,
}

impl Granted {
    /// From the map.
    pub(crate) fn of(grant: Grant) -> Self {
        let issuer = (grant.epoch & !STANDS_BY) >> EPOCH_BITS;
        Self {
            issuer: Issuer(u32::try_from(issuer).unwrap_or_default()),
            epoch: grant.epoch & MAX_EPOCH,
            valid_until: BootTime::from_nanos(grant.valid_until),
            stands_by: grant.epoch & STANDS_BY != 0,
        }
    }

    fn word(self) -> u64 {
        let flag = if self.stands_by { STANDS_BY } else { 0 };
        flag | u64::from(self.issuer.0) << EPOCH_BITS | self.epoch & MAX_EPOCH
    }

    /// Until when this node is the holder from `now` on; nothing for one that is not.
    fn held(self, now: BootTime) -> Option<BootTime> {
        let is_held = !self.stands_by && self.valid_until.remaining(now).is_some();
        is_held.then_some(self.valid_until)
    }
}

impl Steering {
    /// Grants under the epochs of this issuer from now on. Where another one granted before, that grant ends now, and
    /// epochs begin anew; says so. What the same one has granted to a process before this goes on.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn act_for(&mut self, issuer: Issuer) -> Result<bool, Error> {
        let changed = self.granted()?.issuer != issuer;
        if changed {
            self.write(Granted {
                issuer,
                epoch: 0,
                valid_until: BootTime::from_nanos(0),
                stands_by: false,
            })?;
        }
        self.issuer = issuer;
        Ok(changed)
    }

    /// What is in force, also what a process before left.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn granted(&self) -> Result<Granted, Error> {
        let Shared(grant) = self
            .grant
            .get(&0, 0)
            .map_err(|error| Error::kernel("reading the grant", &error))?;
        Ok(Granted::of(grant))
    }

    /// Lets this node answer for its addresses until a deadline, under a lease's epoch (its fencing token). Renewing is
    /// granting again.
    ///
    /// # Errors
    /// [`Error::StaleEpoch`] when a later lease was granted here before, [`Error::OtherIssuer`] when the epochs are another's
    /// by now; then nothing changes.
    pub fn grant(&mut self, epoch: u64, valid_until: BootTime) -> Result<(), Error> {
        let before = self.granted_by_us()?;
        if epoch < before.epoch {
            return Err(Error::StaleEpoch {
                given: epoch,
                held: before.epoch,
            });
        }
        if epoch > MAX_EPOCH {
            return Err(Error::EpochTooHigh(epoch));
        }
        self.write(Granted {
            epoch,
            valid_until,
            stands_by: false,
            ..before
        })
    }

    /// Lets the listeners have connections until a deadline without this node being the holder: to pass them on, or to
    /// leave them unanswered.
    ///
    /// # Errors
    /// [`Error::Held`] while this node is the holder, whose time would be made longer otherwise;
    /// [`Error::OtherIssuer`]. Then nothing changes.
    pub fn stand_by(&mut self, valid_until: BootTime) -> Result<(), Error> {
        let before = self.granted_by_us()?;
        if before.held(BootTime::now()).is_some() {
            return Err(Error::Held(before.epoch));
        }
        self.write(Granted {
            valid_until,
            stands_by: true,
            ..before
        })
    }

    /// Lets go and stands by, in one step: no client is refused in between.
    ///
    /// # Errors
    /// [`Error::OtherIssuer`], and those of the kernel; then the grant still ends at its deadline.
    pub fn let_go(&mut self, valid_until: BootTime) -> Result<(), Error> {
        let before = self.granted_by_us()?;
        self.write(Granted {
            valid_until,
            stands_by: true,
            ..before
        })
    }

    /// Ends the grant now. Connections that are established go on; the epoch stays, so that no older lease comes back.
    ///
    /// # Errors
    /// Those of the kernel; then the grant still ends at its deadline.
    pub fn revoke(&mut self) -> Result<(), Error> {
        let before = self.granted()?;
        self.write(Granted {
            valid_until: BootTime::from_nanos(0),
            stands_by: false,
            ..before
        })
    }

    /// What happens to new connections without a grant. Takes effect at once.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn set_on_loss(&mut self, on_loss: OnLoss) -> Result<(), Error> {
        self.on_loss = on_loss;
        let granted = self.granted()?;
        self.write(granted)
    }

    fn granted_by_us(&self) -> Result<Granted, Error> {
        let before = self.granted()?;
        // A map that is new was written by nobody.
        if before.issuer == self.issuer {
            Ok(before)
        } else {
            Err(Error::OtherIssuer)
        }
    }

    fn write(&mut self, granted: Granted) -> Result<(), Error> {
        let on_loss = match self.on_loss {
            OnLoss::Refuse => ON_LOSS_REFUSE,
            OnLoss::Pass => ON_LOSS_PASS,
        };
        let grant = Grant {
            epoch: granted.word(),
            valid_until: granted.valid_until.as_nanos(),
            on_loss,
            reserved: 0,
        };
        let written = self.grant.set(0, Shared(grant), 0);
        written.map_err(|error| Error::kernel("writing the grant", &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_read_as_it_was_written() {
        let cluster = Issuer::of_cluster(&[7; 16]);
        assert!(cluster.is_cluster() && !Issuer::LOCAL.is_cluster());
        assert_ne!(cluster, Issuer::of_cluster(&[8; 16]));
        for issuer in [Issuer::LOCAL, cluster, Issuer((1 << ISSUER_BITS) - 1)] {
            for (epoch, stands_by) in [(0, false), (1, true), (MAX_EPOCH, false), (MAX_EPOCH, true)] {
                let granted = Granted {
                    issuer,
                    epoch,
                    valid_until: BootTime::from_nanos(5),
                    stands_by,
                };
                let grant = Grant {
                    epoch: granted.word(),
                    valid_until: 5,
                    ..Grant::default()
                };
                assert_eq!(Granted::of(grant), granted);
            }
        }
    }

    #[test]
    fn what_earlier_versions_wrote_is_an_epoch_of_the_host() {
        let grant = Grant {
            epoch: 41,
            valid_until: 9,
            ..Grant::default()
        };
        let granted = Granted::of(grant);
        assert_eq!(
            (granted.issuer, granted.epoch, granted.word()),
            (Issuer::LOCAL, 41, 41)
        );
    }

    #[test]
    fn only_a_lease_that_lasts_makes_a_holder() {
        let now = BootTime::from_nanos(10);
        let granted = |until, stands_by| Granted {
            issuer: Issuer::LOCAL,
            epoch: 1,
            valid_until: BootTime::from_nanos(until),
            stands_by,
        };
        assert_eq!(granted(11, false).held(now), Some(BootTime::from_nanos(11)));
        assert_eq!(granted(10, false).held(now), None);
        assert_eq!(granted(11, true).held(now), None);
    }
}
