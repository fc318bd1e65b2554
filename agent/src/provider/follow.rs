//! The task that keeps the document up to date: from the publisher's readings to what the server sends.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::document::{Terms, document};
use super::keeper::{Keeper, Verdict};
use super::rendered::Rendered;
use super::store::{self, Mark};
use crate::publish::Merged;

/// Least time between two documents; a Traefik looks every five seconds.
const PAUSE: Duration = Duration::from_millis(100);

/// What there is to tell now.
#[derive(Clone, Debug, Default)]
pub(super) struct Latest {
    /// The document; `None`: there was none yet.
    pub(super) rendered: Option<Arc<Rendered>>,
    /// Since a start nothing was found although there was something before.
    pub(super) waiting: bool,
    /// What is wrong with the file, if it is written and could not be.
    pub(super) file_error: Option<String>,
}

/// The task and what it owns.
pub(super) struct Follower {
    pub(super) merged: watch::Receiver<Option<Merged>>,
    pub(super) terms: Terms,
    pub(super) latest: watch::Sender<Latest>,
    pub(super) mark: Mark,
    pub(super) keeper: Keeper,
    pub(super) file: Option<PathBuf>,
    /// Tells that there is nothing, whatever there is.
    pub(super) withdraw: bool,
}

impl Follower {
    /// Follows until `stop`, or until there is nobody to follow.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(self.follow()).await;
    }

    async fn follow(&mut self) {
        loop {
            let wake = self.turn().await;
            tokio::time::sleep(PAUSE).await;
            let again = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.merged.changed() => if changed.is_err() { return },
                () = again => {}
            }
        }
    }

    /// Makes the document of what there is, and says when to look again although nothing has changed.
    async fn turn(&mut self) -> Option<Instant> {
        let readings = match self.withdraw {
            true => Merged::default(),
            false => self.merged.borrow_and_update().clone()?,
        };
        let terms = self.terms.clone();
        // On a thread of its own: a document of thousands of routes takes longer than health may wait.
        let made = tokio::task::spawn_blocking(move || Rendered::of(document(&readings, &terms))).await;
        let rendered = match made {
            Ok(rendered) => Arc::new(rendered),
            Err(error) => {
                tracing::error!(%error, "the document for Traefik could not be made: the last one stays");
                return None;
            }
        };
        let verdict = match self.withdraw {
            true => Verdict::Tell,
            false => self.keeper.judge(rendered.document.routers, Instant::now()),
        };
        match verdict {
            Verdict::Tell => {
                self.tell(rendered).await;
                None
            }
            Verdict::Wait(until) => {
                if !self.latest.borrow().waiting {
                    tracing::warn!(
                        "no routes were found, and there were some before this start: Traefik keeps what it has; if there \
                         are to be none, that is told later"
                    );
                }
                self.latest.send_modify(|latest| latest.waiting = true);
                Some(until)
            }
        }
    }

    async fn tell(&mut self, rendered: Arc<Rendered>) {
        let (mark, routers) = (self.mark.clone(), rendered.document.routers);
        let before = self.latest.borrow().rendered.clone();
        let same = before.as_ref().is_some_and(|before| before.tag == rendered.tag);
        let failed_before = self.latest.borrow().file_error.is_some();
        let file = self.file.clone().filter(|_| !same || failed_before);
        let bytes = rendered.bytes.clone();
        let written = tokio::task::spawn_blocking(move || {
            if let Err(error) = mark.set(routers) {
                tracing::debug!(%error, "it can't be remembered that there are routes");
            }
            file.map(|file| write(&file, &bytes))
        });
        let written = written.await.ok().flatten();
        if !same {
            let document = &rendered.document;
            tracing::info!(
                routers = document.routers,
                services = document.services,
                left_out = document.left_out.len(),
                bytes = rendered.bytes.len(),
                "a document for Traefik"
            );
            self.log_new(before.as_deref(), &rendered);
        }
        self.latest.send_modify(|latest| {
            latest.rendered = Some(rendered);
            latest.waiting = false;
            match written {
                Some(Ok(())) => latest.file_error = None,
                Some(Err(error)) => latest.file_error = Some(error),
                None => {}
            }
        });
    }

    /// Logs what was not left out the last time.
    fn log_new(&self, before: Option<&Rendered>, now: &Rendered) {
        const SHOWN: usize = 20;
        let known = |problem| before.is_some_and(|before| before.document.left_out.contains(problem));
        let new: Vec<_> = now
            .document
            .left_out
            .iter()
            .filter(|problem| !known(problem))
            .collect();
        for problem in new.iter().take(SHOWN) {
            tracing::warn!("{}: {}", problem.subject, problem.message);
        }
        if new.len() > SHOWN {
            tracing::warn!(
                "{} more: `constellation status` lists all of them",
                new.len() - SHOWN
            );
        }
    }
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), String> {
    store::replace(file, bytes).map_err(|error| {
        let text = format!(
            "traefikProvider.file {}: {error}; the file there stays",
            file.display()
        );
        tracing::error!("{text}");
        text
    })
}
