//! Sources that read the file system: when to look, how often to poll, what a reading is worth.
//!
//! A [`Read`] knows what to read and whether it has changed; the rest is here. [`watch`] tells when to look again, and
//! [`stamp`] tells changes apart from mere hints.

pub(super) mod stamp;
#[cfg(test)]
pub(super) mod testing;
mod watch;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::publication::Publication;
use super::{Contribution, Reload, SourceHandle};
use crate::memory;
use watch::Watch;

/// A change is read when this long nothing more has changed, and after `SETTLE_LIMIT` in any case: editors and
/// deployments write in several steps.
const SETTLE: Duration = Duration::from_millis(50);
pub(super) const SETTLE_LIMIT: Duration = Duration::from_millis(500);

/// How soon a file that was found half written is looked at again.
const UNSETTLED_AGAIN: Duration = Duration::from_millis(500);

/// How often stamps are compared when the kernel tells of changes, for network file systems on which it doesn't, and
/// when it can't.
const POLL_WATCHED: Duration = Duration::from_secs(10);
const POLL_UNWATCHED: Duration = Duration::from_secs(1);

/// What a provider reads. Both methods block on the file system.
pub(super) trait Read: Send + 'static {
    /// Whether anything that the last reading looked at has changed.
    fn changed(&self) -> bool;

    /// Reads everything.
    fn read(&mut self) -> Reading;
}

/// What a reading gave.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) contribution: Contribution,
    /// Why the reading is not complete.
    pub(super) error: Option<String>,
    /// Directories in which a change would change the reading.
    pub(super) watched: BTreeSet<PathBuf>,
    /// A file was found empty where it had content: an editor may be in the middle of writing it, so look again soon.
    pub(super) unsettled: bool,
}

/// Starts the source called `provider`, which runs until `cancel`. `open` makes what reads, once more after a panic in
/// it. Without `watching` only a reload reads again.
pub(super) fn spawn<R: Read>(
    provider: &'static str,
    watching: bool,
    open: impl Fn() -> R + Send + Sync + 'static,
    cancel: CancellationToken,
) -> SourceHandle {
    let (publication, state) = Publication::new(provider);
    let reload = Reload::default();
    let task = tokio::spawn({
        let reload = reload.clone();
        async move {
            cancel
                .run_until_cancelled_owned(run(open, watching, publication, reload))
                .await;
        }
    });
    SourceHandle { state, reload, task }
}

/// What reads and watches; it goes to a blocking thread and back, for file systems may be slow.
struct Desk<R> {
    reader: R,
    watch: Option<Watch>,
}

async fn run<R: Read>(open: impl Fn() -> R, watching: bool, mut publication: Publication, reload: Reload) {
    let hint = Arc::new(Notify::new());
    let open = || Desk {
        reader: open(),
        watch: watching.then(|| Watch::new(hint.clone())),
    };
    let mut desk = open();
    let mut forced = true;
    loop {
        let look = tokio::task::spawn_blocking(move || desk.look(forced));
        let unsettled = match look.await {
            Ok((returned, reading)) => {
                desk = returned;
                match reading {
                    Some(reading) => {
                        let unsettled = reading.unsettled;
                        publication.publish_partly(reading.contribution, reading.error);
                        unsettled
                    }
                    None => {
                        publication.read_again();
                        false
                    }
                }
            }
            Err(failure) => {
                error!(%failure, "reading files failed; starting over");
                publication.fail(format!("reading files failed: {failure}"));
                desk = open();
                sleep(POLL_UNWATCHED).await;
                true
            }
        };
        forced = unsettled;
        let pause = match &desk.watch {
            _ if unsettled => UNSETTLED_AGAIN,
            Some(watch) if watch.complete() => POLL_WATCHED,
            Some(_) => POLL_UNWATCHED,
            None => Duration::MAX,
        };
        tokio::select! {
            () = reload.requested() => forced = true,
            () = hint.notified() => settle(&hint).await,
            () = sleep(pause) => {}
        }
    }
}

impl<R: Read> Desk<R> {
    /// Reads if there is something new, or if `forced`.
    fn look(mut self, forced: bool) -> (Self, Option<Reading>) {
        if !forced && !self.reader.changed() {
            return (self, None);
        }
        let mut reading = self.reader.read();
        if let Some(watch) = &mut self.watch {
            watch.set(std::mem::take(&mut reading.watched));
            // What changed between reading and watching would not be told.
            if self.reader.changed() {
                reading = self.reader.read();
            }
        }
        memory::give_back();
        (self, Some(reading))
    }
}

/// Waits until changes pause.
async fn settle(hint: &Notify) {
    let quiet = async { while timeout(SETTLE, hint.notified()).await.is_ok() {} };
    // Out of patience is as good as quiet.
    timeout(SETTLE_LIMIT, quiet).await.unwrap_or_default();
}

/// The directories in which changes of `paths` show: the one around each, and the one around what a link leads to.
pub(super) fn around<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> BTreeSet<PathBuf> {
    let mut watched = BTreeSet::new();
    let mut add_parent = |path: &Path| {
        let parent = path.parent().map(|parent| match parent.as_os_str().is_empty() {
            true => Path::new("."),
            false => parent,
        });
        // What doesn't exist yet will appear in the nearest directory that does.
        if let Some(existing) = parent.and_then(|parent| parent.ancestors().find(|path| path.is_dir())) {
            watched.insert(existing.to_owned());
        }
    };
    for path in paths {
        add_parent(path);
        if let Ok(real) = std::fs::canonicalize(path)
            && real != *path
        {
            add_parent(&real);
        }
    }
    watched
}
