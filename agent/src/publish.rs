//! Publish: one task that turns what the sources say into generations.
//!
//! It awaits any source, compiles the latest reading of all of them and swaps one generation in when something really
//! changed. Bursts become one compile: the first change of a quiet time acts at once, the next ones at most every
//! [`THROTTLE`], but for those in which something leaves: they are compiled at once, and the data plane is told who left.
//! A compile that fails as a whole keeps the last good generation, is counted and shown.

mod exchange;
mod inline;
mod leaving;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use constellation_dataplane::metrics::Metrics;
use constellation_dataplane::tls::{TlsContext, TlsView};
use constellation_dataplane::{Generation, Published, departure};
use constellation_table::Snapshot;
use futures_util::future::select_all;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::exchange::{Exchanging, Layer};
use self::inline::Inliner;
use crate::compile::{Changes, Compiled, Compiler, Statics};
use crate::drains::{DrainSet, Drains, Overlay};
use crate::memory;
use crate::peers::Exchange;
use crate::report::Report;
use crate::sources::{Contribution, Problem, SourceState};

/// Least time between two compiles.
const THROTTLE: Duration = Duration::from_millis(20);

/// How long the first generation waits for sources that have said nothing yet; clients get 503 and `Retry-After` in the
/// meantime. An engine with hundreds of containers needs seconds; one that hangs must not hold up the files for long.
const FIRST_READING: Duration = Duration::from_secs(15);

/// The task and what it owns.
#[derive(Debug)]
pub struct Publisher {
    sources: Vec<Source>,
    statics: Statics,
    /// `None` while a compile runs, and after one that panicked.
    compiler: Option<Compiler>,
    compiled: Vec<Arc<Contribution>>,
    drains: watch::Receiver<Arc<DrainSet>>,
    /// The set that was compiled last.
    drained: Arc<DrainSet>,
    overlay: Overlay,
    /// Empty while a compile runs.
    inliner: Inliner,
    /// Where this node serves through others.
    exchanging: Option<Exchanging>,
    /// `None` while a compile runs, and on a node of its own.
    layer: Option<Layer>,
    reread: bool,
    again: Arc<Notify>,
    tls: Arc<TlsContext>,
    published: Published,
    metrics: Arc<Metrics>,
    report: watch::Sender<Arc<Report>>,
    /// What was compiled last, once all sources have read their world.
    merged: watch::Sender<Option<Merged>>,
}

/// The readings of all sources, with other nodes laid over them.
pub type Merged = Arc<Vec<Arc<Contribution>>>;

#[derive(Debug)]
struct Source {
    provider: &'static str,
    state: watch::Receiver<SourceState>,
    /// The count of departures in the last reading that was taken.
    departures: u64,
    ended: bool,
}

/// Asks the publisher to read PEM files again and to compile, as SIGHUP does.
#[derive(Clone, Debug)]
pub struct Recompile(Arc<Notify>);

impl Recompile {
    /// Asks. Returns at once; requests made while one is pending become one.
    pub fn request(&self) {
        self.0.notify_one();
    }
}

impl Publisher {
    /// A publisher for `sources` with `drains` laid over them, and the report it keeps up to date.
    pub fn new(
        sources: Vec<(&'static str, watch::Receiver<SourceState>)>,
        statics: Statics,
        tls: TlsContext,
        published: Published,
        metrics: Arc<Metrics>,
        drains: &Drains,
    ) -> (Self, watch::Receiver<Arc<Report>>) {
        let (report, reports) = watch::channel(Arc::default());
        let sources = sources.into_iter().map(|(provider, state)| Source {
            provider,
            state,
            departures: 0,
            ended: false,
        });
        let publisher = Self {
            sources: sources.collect(),
            compiler: Some(Compiler::new(statics.clone())),
            statics,
            compiled: Vec::new(),
            drains: drains.watch(),
            drained: Arc::default(),
            overlay: Overlay::default(),
            inliner: Inliner::default(),
            exchanging: None,
            layer: None,
            reread: false,
            again: Arc::default(),
            tls: Arc::new(tls),
            published,
            metrics,
            report,
            merged: watch::Sender::default(),
        };
        (publisher, reports)
    }

    /// The same, serving through other nodes as well.
    #[must_use]
    pub fn with_exchange(mut self, exchange: Exchange) -> Self {
        self.exchanging = Some(Exchanging::new(exchange));
        self
    }

    /// What was compiled last; `None` until every source has read its world, and it is known who the other nodes are.
    pub fn merged(&self) -> watch::Receiver<Option<Merged>> {
        self.merged.subscribe()
    }

    /// A handle for [`Recompile::request`].
    pub fn recompile(&self) -> Recompile {
        Recompile(self.again.clone())
    }

    /// Publishes until `stop`. The first generation comes when every source has been heard or [`FIRST_READING`] is over.
    pub async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(self.publish_all()).await;
    }

    async fn publish_all(&mut self) {
        self.refresh_report(|_| {});
        let patience = Instant::now() + FIRST_READING;
        while !self.silent().is_empty() {
            tokio::select! {
                () = self.change() => self.refresh_report(|_| {}),
                () = tokio::time::sleep_until(patience) => {
                    let silent = self.silent();
                    tracing::warn!(sources = ?silent, "serving without a first reading of every source");
                    break;
                }
            }
        }
        loop {
            self.turn().await;
            tokio::select! {
                () = tokio::time::sleep(THROTTLE) => self.change().await,
                () = self.departure() => {}
            }
        }
    }

    /// The sources that have said nothing yet.
    fn silent(&mut self) -> Vec<&'static str> {
        let peers = self.exchanging.as_ref().filter(|peers| !peers.was_heard());
        let peers = peers.map(|_| "peers");
        let sources = self.sources.iter_mut();
        let silent = sources.filter_map(|source| (!source.was_heard()).then_some(source.provider));
        silent.chain(peers).collect()
    }

    /// Waits until a source says something new or a recompile is asked for. Cancellation safe.
    async fn change(&mut self) {
        let again = self.again.clone();
        let mut drains = self.drains.clone();
        let exchanging = self.exchanging.as_mut();
        let peers = async {
            match exchanging {
                Some(exchanging) => exchanging.changed().await,
                None => std::future::pending().await,
            }
        };
        let sources = self.sources.iter_mut().filter(|source| !source.ended);
        let mut changes: Vec<_> = sources.map(|source| Box::pin(source.changed())).collect();
        let change = async {
            if changes.is_empty() {
                std::future::pending().await
            } else {
                select_all(&mut changes).await;
            }
        };
        tokio::select! {
            () = change => {}
            () = peers => {}
            _ = drains.wait_for(|set| !Arc::ptr_eq(set, &self.drained)) => {}
            () = again.notified() => {
                drop(changes);
                self.reread = true;
            }
        }
    }

    /// Waits until a source has a reading in which something left. Cancellation safe.
    async fn departure(&self) {
        let mut departures: Vec<_> = self.sources.iter().map(|s| Box::pin(s.departure())).collect();
        if departures.is_empty() {
            return std::future::pending().await;
        }
        select_all(&mut departures).await;
    }

    /// Compiles when a reading is new, and publishes when that gives something new.
    async fn turn(&mut self) {
        let contributions: Vec<Arc<Contribution>> =
            self.sources.iter_mut().filter_map(Source::contribution).collect();
        let reread = std::mem::take(&mut self.reread);
        let first = self.report.borrow().generation == 0;
        let drained = self.drains.borrow().clone();
        let same_drains = Arc::ptr_eq(&drained, &self.drained);
        self.drained = drained;
        let (peers, same_peers) = match &mut self.exchanging {
            Some(exchanging) => {
                let (peers, changed) = exchanging.peers(Instant::now());
                (peers, !changed)
            }
            None => (Arc::default(), true),
        };
        if !reread && !first && same_drains && same_peers && same_readings(&self.compiled, &contributions) {
            self.refresh_report(|report| report.ready = true);
            return;
        }
        let generation = self.report.borrow().generation + 1;
        let mut compiler = self
            .compiler
            .take()
            .unwrap_or_else(|| Compiler::new(self.statics.clone()));
        if reread {
            compiler.reread_files();
        }
        let readings = self.overlay.lay(&self.drained, &contributions);
        let complete = self.sources.iter().all(Source::was_read);
        let exchanging = self.exchanging.is_some();
        let mut layer = self
            .layer
            .take()
            .or_else(|| self.exchanging.as_ref().map(Exchanging::layer));
        let mut inliner = std::mem::take(&mut self.inliner);
        let tls = Arc::clone(&self.tls);
        // On a thread of its own: a cold compile of many routes takes longer than health may wait.
        let outcome = tokio::task::spawn_blocking(move || {
            let began = std::time::Instant::now();
            let readings = inliner.lay(&readings, reread);
            let exported = (complete && exchanging)
                .then(|| exchange::export(&readings))
                .flatten();
            let readings = match &mut layer {
                Some(layer) => layer.lay(&readings, &peers),
                None => readings,
            };
            let mut compiled = compiler.compile(&readings, generation);
            let (view, problems) = tls.build(&compiled.tls);
            compiled.add_problems(problems.into_iter().map(|problem| Problem {
                subject: problem.subject,
                message: problem.message,
            }));
            let duration = began.elapsed();
            memory::give_back();
            (
                (compiler, inliner, layer),
                exported,
                readings,
                compiled,
                view,
                duration,
            )
        })
        .await;
        match outcome {
            Ok(((compiler, inliner, layer), exported, readings, compiled, view, duration)) => {
                self.compiler = Some(compiler);
                self.inliner = inliner;
                self.layer = layer;
                self.compiled = contributions;
                self.accept(compiled, view, duration, first);
                // Not before it is so: who hears of it comes and asks for it.
                if let (Some(exchanging), Some(exported)) = (&self.exchanging, exported) {
                    exchanging.tell(exported);
                }
                if complete && self.silent().is_empty() {
                    self.merged.send_replace(Some(Arc::new(readings)));
                }
            }
            Err(error) => self.refuse(&error),
        }
    }

    fn accept(&mut self, compiled: Compiled, tls: TlsView, duration: Duration, first: bool) {
        let now = SystemTime::now();
        let generation = compiled.snapshot.generation();
        let Compiled {
            snapshot,
            tls: _,
            problems,
            disabled,
            changes,
        } = compiled;
        let swap = first || !changes.is_empty();
        if swap {
            let before = self.published.load_full();
            self.published.publish(Generation {
                table: snapshot,
                tls,
                published: now,
            });
            // New requests take the new generation from here on.
            let departures = Snapshot::departures(&before.table, &self.published.load().table);
            for left in &departures {
                departure::depart(&left.endpoint.live, leaving::limits(left));
                if let Some(transition) = leaving::transition(left) {
                    self.metrics.transition(&left.service.name, &transition);
                }
            }
            self.metrics.reloaded(now);
            if !changes.removed.is_empty() || changes.services {
                self.metrics.retire(&self.published.load().table);
            }
            log_changes(generation, &changes, duration);
        }
        self.log_new(&problems);
        self.metrics.compiled(duration);
        self.metrics.problems(problems.len());
        self.refresh_report(|report| {
            report.ready = true;
            report.problems = problems;
            report.disabled = disabled;
            report.last_failure = None;
            report.compile_duration = Some(duration);
            if swap {
                report.generation = generation;
                report.published = Some(now);
            }
        });
    }

    /// Logs what compile found and had not found the last time. Sources log their own problems.
    fn log_new(&self, problems: &[Problem]) {
        const SHOWN: usize = 20;
        let order = |a: &Problem, b: &Problem| (&a.subject, &a.message).cmp(&(&b.subject, &b.message));
        let mut of_sources: Vec<&Problem> = self.compiled.iter().flat_map(|c| &c.problems).collect();
        of_sources.sort_by(|a, b| order(a, b));
        let report = self.report.borrow().clone();
        let is_new = |problem: &&Problem| {
            report
                .problems
                .binary_search_by(|known| order(known, problem))
                .is_err()
                && of_sources
                    .binary_search_by(|known| order(known, problem))
                    .is_err()
        };
        let new: Vec<&Problem> = problems.iter().filter(is_new).collect();
        for problem in new.iter().take(SHOWN) {
            tracing::warn!("{}: {}", problem.subject, problem.message);
        }
        if new.len() > SHOWN {
            let more = new.len() - SHOWN;
            tracing::warn!("{more} more problems: `constellation status` lists all of them");
        }
    }

    fn refuse(&mut self, error: &tokio::task::JoinError) {
        let message = format!("compile failed, the last good generation stays: {error}");
        tracing::error!("{message}");
        self.metrics.reload_failed();
        self.refresh_report(|report| {
            report.failures += 1;
            report.last_failure = Some(message);
        });
    }

    /// Sends the report with the sources' present status and what `edit` changes.
    fn refresh_report(&mut self, edit: impl FnOnce(&mut Report)) {
        let sources = self
            .sources
            .iter()
            .map(|source| (source.provider, source.state.borrow().status.clone()))
            .collect();
        self.report.send_modify(|report| {
            let report = Arc::make_mut(report);
            report.sources = sources;
            edit(report);
        });
    }
}

impl Source {
    /// Waits for the next value; a source whose task is gone keeps its last one and is not waited for again.
    async fn changed(&mut self) {
        if self.state.changed().await.is_err() {
            tracing::warn!(
                source = self.provider,
                "the source has ended; its last reading stays"
            );
            self.ended = true;
        }
    }

    /// Waits for a reading in which something left since the last one that was taken.
    async fn departure(&self) {
        let mut state = self.state.clone();
        let left = |state: &SourceState| state.departures != self.departures;
        let ended = state.wait_for(left).await.is_err();
        if ended {
            std::future::pending::<()>().await;
        }
    }

    /// Whether it has read its world, or said why it can't.
    fn was_heard(&mut self) -> bool {
        let state = self.state.borrow();
        self.ended || state.contribution.is_some() || state.status.error.is_some()
    }

    /// Whether it has read its world.
    fn was_read(&self) -> bool {
        self.ended || self.state.borrow().contribution.is_some()
    }

    fn contribution(&mut self) -> Option<Arc<Contribution>> {
        let state = self.state.borrow_and_update();
        self.departures = state.departures;
        state.contribution.clone()
    }
}

fn same_readings(a: &[Arc<Contribution>], b: &[Arc<Contribution>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}

/// One line per publish, with the first names of each list.
fn log_changes(generation: u64, changes: &Changes, duration: Duration) {
    tracing::info!(
        generation,
        added = %Names(&changes.added),
        removed = %Names(&changes.removed),
        changed = %Names(&changes.changed),
        tls = changes.tls,
        ?duration,
        "published"
    );
}

struct Names<'a>(&'a [Arc<str>]);

impl std::fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN: usize = 10;
        for (position, name) in self.0.iter().take(SHOWN).enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{name}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 if self.0.is_empty() => f.write_str("none"),
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests;
