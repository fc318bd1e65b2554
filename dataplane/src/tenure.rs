//! Until when new connections are taken, where the kernel does not see to it.
//!
//! It stands in for the grant of `edge_steer`, and is asked after the handshake: whoever comes later than the end is
//! reset, whether or not anybody was awake to notice that it has passed. What is open stays open. Without an end it costs
//! one load.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use constellation_boot_time::BootTime;

/// Stands for no end.
const ENDLESS: u64 = u64::MAX;

/// The end in force. Clones share it. At first there is none.
#[derive(Clone, Debug)]
pub struct Tenure(Arc<AtomicU64>);

impl Default for Tenure {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(ENDLESS)))
    }
}

impl Tenure {
    /// Takes everybody from now on.
    pub fn set_endless(&self) {
        self.0.store(ENDLESS, Ordering::Release);
    }

    /// Takes nobody from this time on.
    pub fn set_end(&self, end: BootTime) {
        self.0.store(end.as_nanos(), Ordering::Release);
    }

    /// Takes nobody from now on.
    pub fn end(&self) {
        self.0.store(0, Ordering::Release);
    }

    /// Whether who comes now is to be refused.
    pub(crate) fn is_over(&self) -> bool {
        let end = self.0.load(Ordering::Acquire);
        end != ENDLESS && BootTime::from_nanos(end).remaining(BootTime::now()).is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_is_over_at_its_end_and_begins_anew_with_a_later_one() {
        let tenure = Tenure::default();
        assert!(!tenure.is_over(), "nobody has said anything");
        let shared = tenure.clone();
        shared.set_end(BootTime::now());
        assert!(tenure.is_over());
        shared.set_end(BootTime::now() + Duration::from_secs(3600));
        assert!(!tenure.is_over());
        shared.end();
        assert!(tenure.is_over());
        shared.set_endless();
        assert!(!tenure.is_over());
    }
}
