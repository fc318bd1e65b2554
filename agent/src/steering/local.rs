//! The lease of a node on its own, renewed by a thread that does nothing else.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, PoisonError, Weak};

use constellation_ebpf_loader::{BootTime, Error};

use super::active::{Active, Granting};
use super::lease::{LocalLease, Renewal};
use super::{Shared, State};

/// What the thread works with, and what ends it.
pub(super) struct Local {
    lease: LocalLease,
    /// Whether the last renewal failed, so that one is told of once.
    failing: bool,
    /// Dropped to end the renewals; nothing once that is done.
    renewing: Option<mpsc::Sender<()>>,
}

impl Local {
    /// Renews this lease, which was granted just now, until this is dropped.
    pub(super) fn begin(shared: &Arc<Shared>, lease: LocalLease) -> io::Result<Self> {
        let (sender, stop) = mpsc::channel();
        let every = shared.lease.renew;
        let shared: Weak<Shared> = Arc::downgrade(shared);
        let renew = move || {
            while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(every) {
                let Some(shared) = shared.upgrade() else { return };
                let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
                // It was ended while this waited for the state.
                if !matches!(stop.try_recv(), Err(mpsc::TryRecvError::Empty)) {
                    return;
                }
                if let State::Active(active) = &mut *state {
                    active.renew();
                }
            }
        };
        std::thread::Builder::new()
            .name("lease".to_owned())
            .spawn(renew)?;
        Ok(Self {
            lease,
            failing: false,
            renewing: Some(sender),
        })
    }
}

impl Active {
    /// Renews the node's own lease, or takes it anew where it was lost.
    fn renew(&mut self) {
        let Granting::Local(local) = &mut self.granting else {
            return;
        };
        if local.renewing.is_none() {
            return;
        }
        let now = BootTime::now();
        let mut lease = local.lease.clone();
        let renewal = lease.renew(now);
        let term = renewal.term();
        match self.kernel.grant(term.epoch, term.deadline) {
            Ok(()) => {}
            Err(error @ (Error::StaleEpoch { .. } | Error::OtherIssuer)) => {
                tracing::info!(%error, "another process holds the lease: this one renews it no more");
                local.renewing = None;
                self.record.refused += 1;
                return;
            }
            Err(error) => {
                self.record.refused += 1;
                if !std::mem::replace(&mut local.failing, true) {
                    tracing::error!(%error, "the lease can't be renewed; new connections are refused once it has ended");
                }
                return;
            }
        }
        local.lease = lease;
        local.failing = false;
        self.record.granted(term.epoch, term.deadline, now);
        if let Renewal::Anew { gap, .. } = renewal {
            self.record.losses += 1;
            tracing::warn!(
                epoch = term.epoch,
                ?gap,
                "the lease had ended before it was renewed (the process was stopped, or the machine slept or was too \
                 busy): new connections were refused meanwhile. It is granted anew"
            );
        }
    }
}
