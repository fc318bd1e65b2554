//! Under a cluster's lease: what whoever holds it, lets go of it or stands by has done in the kernel.

use constellation_cluster::lease::Held;
use constellation_ebpf_loader::{BootTime, Error};

use super::active::{Active, Granting, borrowed};
use super::authority::GrantError;
use super::silence::Silence;

impl Active {
    pub(super) fn grant(&mut self, held: Held) -> Result<(), GrantError> {
        self.under_lease()?;
        let granted = self.try_grant(held);
        if granted.is_err() {
            self.record.refused += 1;
        }
        granted
    }

    fn try_grant(&mut self, held: Held) -> Result<(), GrantError> {
        self.record.check(held, BootTime::now())?;
        self.end_silence()?;
        // Read before it is written: what takes long in between shortens nothing but the holder's own idea of it.
        let now = BootTime::now();
        self.kernel.grant(held.token().get(), held.deadline())?;
        if self.record.granted(held.token().get(), held.deadline(), now) {
            tracing::warn!(
                token = held.token().get(),
                "the lease had ended here before it was renewed: new connections were refused meanwhile"
            );
        }
        Ok(())
    }

    pub(super) fn stand_by(&mut self, until: BootTime) -> Result<(), GrantError> {
        self.under_lease()?;
        self.record.check_stand_by(BootTime::now())?;
        self.end_silence()?;
        self.kernel.stand_by(until)?;
        self.record.stood_by(until);
        Ok(())
    }

    pub(super) fn withdraw(&mut self) -> Result<(), GrantError> {
        self.under_lease()?;
        self.kernel.revoke()?;
        self.record.withdrawn();
        Ok(())
    }

    pub(super) fn fall_silent(&mut self, until: BootTime) -> Result<(), GrantError> {
        self.under_lease()?;
        let silence = Silence::new().map_err(GrantError::Silence)?;
        for (dest, _) in &self.listeners {
            let socket = silence.of(self.layout.protocol(*dest));
            self.kernel.insert_listeners(*dest, &[socket])?;
        }
        self.granting = Granting::Lease(Some(silence));
        self.kernel.let_go(until)?;
        self.record.stood_by(until);
        Ok(())
    }

    /// Gives the listeners their places back.
    pub(super) fn end_silence(&mut self) -> Result<(), Error> {
        if let Granting::Lease(Some(_)) = &self.granting {
            for (dest, listeners) in &self.listeners {
                self.kernel.insert_listeners(*dest, &borrowed(listeners))?;
            }
            self.granting = Granting::Lease(None);
        }
        Ok(())
    }

    fn under_lease(&self) -> Result<(), GrantError> {
        match &self.granting {
            Granting::Local(_) => Err(GrantError::NotUnderLease),
            Granting::Lease(_) => Ok(()),
        }
    }
}
