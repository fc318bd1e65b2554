//! A disk in memory that runs full, whose `fsync` fails, and that loses power between two writes.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fastrand::Rng;
use redb::StorageBackend;

/// What is written at once or not at all.
const SECTOR: usize = 512;

/// Its copies are the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<Platter>>);

#[derive(Debug, Default)]
struct Platter {
    /// As it is read now.
    seen: Vec<u8>,
    /// As it was with the last `fsync`.
    durable: Vec<u8>,
    /// Written since.
    dirty: Vec<(usize, Vec<u8>)>,
    /// The most bytes there may be.
    room: Option<u64>,
    sync_fails: bool,
    /// After so many writes more the power is gone.
    power: Option<usize>,
    writes: usize,
    syncs: usize,
}

impl Disk {
    fn lock(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has_room_for(&self, bytes: Option<u64>) {
        self.lock().room = bytes;
    }

    pub(crate) fn next_sync_fails(&self) {
        self.lock().sync_fails = true;
    }

    pub(crate) fn loses_power_after(&self, writes: usize) {
        self.lock().power = Some(writes);
    }

    pub(crate) fn len(&self) -> u64 {
        self.lock().seen.len() as u64
    }

    /// How often it was written to, and synced.
    pub(crate) fn used(&self) -> (usize, usize) {
        let platter = self.lock();
        (platter.writes, platter.syncs)
    }

    /// The disk as it is found after the power came back: what was synced, and any of the sectors written since.
    pub(crate) fn after_power_loss(&self, rng: &mut Rng) -> Self {
        let platter = self.lock();
        let mut durable = platter.durable.clone();
        durable.resize(durable.len().max(platter.seen.len()), 0);
        for (start, bytes) in &platter.dirty {
            let mut at = *start;
            let end = start + bytes.len();
            while at < end {
                let next = ((at / SECTOR + 1) * SECTOR).min(end);
                if rng.bool() {
                    durable[at..next].copy_from_slice(&bytes[at - start..next - start]);
                }
                at = next;
            }
        }
        Self(Arc::new(Mutex::new(Platter {
            seen: durable.clone(),
            durable,
            ..Platter::default()
        })))
    }
}

impl Platter {
    fn powered(&mut self) -> io::Result<()> {
        match &mut self.power {
            Some(0) => Err(io::Error::other("no power")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).expect("in memory");
        let platter = self.lock();
        let bytes = platter
            .seen
            .get(start..start + out.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.lock();
        platter.powered()?;
        if platter.room.is_some_and(|room| len > room) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        platter.seen.resize(usize::try_from(len).expect("in memory"), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.lock();
        platter.powered()?;
        platter.syncs += 1;
        if std::mem::take(&mut platter.sync_fails) {
            return Err(io::Error::other("input/output error"));
        }
        platter.durable = platter.seen.clone();
        platter.dirty.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).expect("in memory");
        let mut platter = self.lock();
        platter.powered()?;
        platter.writes += 1;
        platter.seen[start..start + data.len()].copy_from_slice(data);
        platter.dirty.push((start, data.to_vec()));
        Ok(())
    }
}
