//! Tells the network again and again, for some seconds, that the addresses are here.
//!
//! A thread of its own, which says nothing any more once its handle is dropped. It looks at the lease's deadline before each word: a process that was
//! stopped in between must not take an address from who has it by now.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use constellation_ebpf_loader::BootTime;

use super::frame::{Mac, announcements};
use super::wire::Wire;

/// Pauses between announcements, after the first, which is sent at once: at 100 ms, 1 s and 5 s. Each may be lost, and some switches
/// forward nothing for a moment after a change.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(900),
    Duration::from_secs(4),
];
/// From the first announcement to the last.
pub(crate) const ALL: Duration = Duration::from_secs(5);

/// Until when the addresses are here, for everything that says so.
#[derive(Clone, Debug, Default)]
pub(super) struct Here(Arc<AtomicU64>);

impl Here {
    pub(super) fn until(&self, deadline: BootTime) {
        self.0.store(deadline.as_nanos(), Ordering::Release);
    }

    pub(super) fn is_over(&self) -> bool {
        let deadline = BootTime::from_nanos(self.0.load(Ordering::Acquire));
        deadline.remaining(BootTime::now()).is_none()
    }
}

/// One address, and where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) address: IpAddr,
    pub(super) device: u32,
    pub(super) mac: Mac,
}

/// The announcements under way.
#[derive(Debug)]
pub(super) struct Announcer {
    /// Dropped to end it.
    stop: Option<mpsc::Sender<()>>,
    /// Closed when the thread is done with its words. It then has a socket to close, for which the kernel takes some
    /// ten milliseconds; nobody waits for that.
    done: mpsc::Receiver<()>,
}

impl Announcer {
    /// Sends the first announcements before it returns.
    pub(super) fn start(places: Vec<Place>, here: Here) -> io::Result<Self> {
        let mut frames: BTreeMap<u32, Vec<Vec<u8>>> = BTreeMap::new();
        for place in &places {
            let own = frames.entry(place.device).or_default();
            own.extend(announcements(place.address, place.mac));
        }
        let wires = frames
            .into_iter()
            .map(|(device, frames)| Ok((Wire::at(device)?, frames)));
        let wires = wires.collect::<io::Result<Vec<(Wire, Vec<Vec<u8>>)>>>()?;
        say(&wires, &here)?;
        let (stop, stopped) = mpsc::channel();
        let (says_done, done) = mpsc::channel::<()>();
        let again = move || {
            for pause in PAUSES {
                if !matches!(stopped.recv_timeout(pause), Err(RecvTimeoutError::Timeout)) {
                    break;
                }
                if let Err(error) = say(&wires, &here) {
                    tracing::warn!(%error, "virtual addresses can't be announced once more");
                }
            }
            drop(says_done);
            drop(wires);
        };
        std::thread::Builder::new()
            .name("announcer".to_owned())
            .spawn(again)?;
        Ok(Self {
            stop: Some(stop),
            done,
        })
    }
}

impl Drop for Announcer {
    /// Afterwards nothing is said any more.
    fn drop(&mut self) {
        self.stop = None;
        // It sends nothing, so that this is when it is done, also by a panic.
        if self.done.recv().is_ok() {
            tracing::debug!("the announcer has said something");
        }
    }
}

fn say(wires: &[(Wire, Vec<Vec<u8>>)], here: &Here) -> io::Result<()> {
    for (wire, frames) in wires {
        for frame in frames {
            if here.is_over() {
                return Ok(());
            }
            wire.send(frame)?;
        }
    }
    Ok(())
}
