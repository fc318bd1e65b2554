//! Tells when something has changed in the watched directories.
//!
//! Only a hint: the reader compares stamps before it reads. Directories are watched one by one rather than
//! recursively, so that a provider next to a large tree doesn't use up the kernel's watches.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tracing::{debug, warn};

/// Watches of the kernel.
#[derive(Debug)]
pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    /// Whether every directory is watched.
    complete: bool,
}

impl Watch {
    /// Watches nothing yet; `hint` is notified on changes. Without help from the kernel the provider polls.
    pub(super) fn new(hint: Arc<Notify>) -> Self {
        let handler = move |event: notify::Result<notify::Event>| match event {
            Ok(event) if matters(event.kind) => hint.notify_one(),
            Ok(_) => {}
            Err(error) => {
                debug!(%error, "watching files");
                hint.notify_one();
            }
        };
        let watcher = notify::recommended_watcher(handler);
        let watcher =
            watcher.inspect_err(|error| warn!(%error, "files can't be watched; they are polled instead"));
        Self {
            complete: false,
            watcher: watcher.ok(),
            watched: BTreeSet::new(),
        }
    }

    /// Watches exactly these directories. Blocks shortly.
    pub(super) fn set(&mut self, directories: BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        for gone in self.watched.difference(&directories) {
            if let Err(error) = watcher.unwatch(gone) {
                // The kernel drops the watch of a directory that was removed.
                debug!(%error, directory = %gone.display(), "ending a watch");
            }
        }
        let mut complete = true;
        for directory in &directories {
            // Also those that are known: a directory that was replaced has lost its watch with the old one.
            if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
                complete = false;
                if self.complete || self.watched.is_empty() {
                    warn!(%error, directory = %directory.display(), "can't be watched; it is polled instead");
                }
            }
        }
        self.complete = complete;
        self.watched = directories;
    }

    /// Whether every change will be told.
    pub(super) fn complete(&self) -> bool {
        self.complete
    }
}

/// Reading a file is an event as well, and our own reading must not wake us.
fn matters(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}
