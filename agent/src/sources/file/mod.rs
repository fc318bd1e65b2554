//! The file provider: documents of Traefik dynamic configuration to routes.
//!
//! `discover` finds the files, `read` keeps the last good content of each, `merge` makes one contribution of them,
//! `reference` follows certificates and keys, and `watch` tells when to look again.

mod discover;
mod merge;
mod read;
mod reference;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use constellation_config::{FileProvider, FileSource};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::publication::Publication;
use super::{Contribution, Reload, SourceHandle};
use read::{Reader, Reading};
use watch::Watch;

/// The name of the provider, which qualifies everything files define.
const PROVIDER: &str = "file";

/// A change is read when this long nothing more has changed, and after `SETTLE_LIMIT` in any case: editors and
/// deployments write in several steps.
const SETTLE: Duration = Duration::from_millis(50);
const SETTLE_LIMIT: Duration = Duration::from_millis(500);

/// How soon a file that was found empty is looked at again.
const EMPTY_AGAIN: Duration = Duration::from_millis(500);

/// How often stamps are compared when the kernel tells of changes, for network file systems on which it doesn't, and
/// when it can't.
const POLL_WATCHED: Duration = Duration::from_secs(10);
const POLL_UNWATCHED: Duration = Duration::from_secs(1);

/// Reads everything once, for offline commands. Blocks on the file system.
pub fn read_once(source: &FileSource) -> Contribution {
    Reader::new(source.clone()).read().contribution
}

/// Starts the provider. It runs until `cancel`.
pub fn spawn(provider: FileProvider, cancel: CancellationToken) -> SourceHandle {
    let (publication, state) = Publication::new(PROVIDER);
    let reload = Reload::default();
    let task = tokio::spawn({
        let reload = reload.clone();
        async move {
            cancel
                .run_until_cancelled_owned(run(provider, publication, reload))
                .await;
        }
    });
    SourceHandle { state, reload, task }
}

/// What reads and watches; it goes to a blocking thread and back, for file systems may be slow.
struct Desk {
    reader: Reader,
    watch: Option<Watch>,
}

async fn run(provider: FileProvider, mut publication: Publication, reload: Reload) {
    let hint = Arc::new(Notify::new());
    let open = || Desk {
        reader: Reader::new(provider.source.clone()),
        watch: provider.watch.then(|| Watch::new(hint.clone())),
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
            _ if unsettled => EMPTY_AGAIN,
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

impl Desk {
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
        (self, Some(reading))
    }
}

/// Waits until changes pause.
async fn settle(hint: &Notify) {
    let quiet = async { while timeout(SETTLE, hint.notified()).await.is_ok() {} };
    // Out of patience is as good as quiet.
    timeout(SETTLE_LIMIT, quiet).await.unwrap_or_default();
}
