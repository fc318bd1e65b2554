//! The access log: records leave the request path through a bounded queue; a writer thread formats and writes.
//!
//! The request path fills a [`Record`] (names shared, nothing formatted) and hands it to [`AccessLog::record`], which
//! never waits: when the queue is full the line is lost and counted. Only the writer thread knows formats and files.

mod escape;
mod format;
mod record;
mod settings;
mod time;
mod writer;

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use http::HeaderMap;
use prometheus_client::metrics::counter::Counter;

use format::Formatter;
use settings::HeaderModes;
use writer::{Message, Output, Signals, Writer};

pub use record::{AttemptLine, AttemptOutcome, Headers, Record, StreamRecord, TlsDetails};
pub use settings::{FieldMode, Filters, Format, Modes, Settings};

/// A handle to the log. Cloning shares the queue.
#[derive(Clone, Debug, Default)]
pub struct AccessLog(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    queue: SyncSender<Message>,
    signals: Arc<Signals>,
    filters: Filters,
    headers: HeaderModes,
    /// A request is logged when its scrambled number is at most this.
    sampled: u64,
    requests: AtomicU64,
    dropped: Counter,
}

/// The writer thread. Dropping it leaves the thread to end with the last handle; [`AccessLogWriter::stop`] waits.
#[derive(Debug)]
pub struct AccessLogWriter {
    thread: JoinHandle<()>,
    log: AccessLog,
    done: mpsc::Receiver<()>,
}

/// Why there is no access log.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// The file can't be opened.
    #[error(
        "access log {}: cannot be opened for appending: {source}; create its directory, make it writable, or change \
         accessLog.filePath", path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The thread could not be started.
    #[error("access log: its writer thread could not be started: {0}")]
    Thread(io::Error),
}

impl AccessLog {
    /// A log that records nothing.
    pub fn off() -> Self {
        Self(None)
    }

    /// Opens the destination and starts the writer thread. `dropped` counts lines that are lost.
    pub fn start(settings: Settings, dropped: Counter) -> Result<(Self, AccessLogWriter), AccessLogError> {
        let path = settings.file.clone().unwrap_or_default();
        let output = Output::open(settings.file).map_err(|source| AccessLogError::Open { path, source })?;
        let (queue, lines) = mpsc::sync_channel(settings.queue.max(1));
        let signals = Arc::new(Signals::default());
        let writer = Writer {
            queue: lines,
            signals: Arc::clone(&signals),
            output,
            formatter: Formatter {
                format: settings.format,
                fields: settings.fields,
            },
            dropped: dropped.clone(),
            failing: false,
        };
        let (finished, done) = mpsc::sync_channel(1);
        let run = move || {
            writer.run();
            // Nobody waits when the handle was dropped.
            finished.try_send(()).unwrap_or_default();
        };
        let thread = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(run)
            .map_err(AccessLogError::Thread)?;
        let log = Self(Some(Arc::new(Shared {
            queue,
            signals,
            filters: settings.filters,
            headers: HeaderModes::new(&settings.headers),
            sampled: threshold(settings.sampling),
            requests: AtomicU64::new(0),
            dropped,
        })));
        Ok((log.clone(), AccessLogWriter { thread, log, done }))
    }

    /// Whether a request that ended like this is to be logged: filters, then sampling. Counts the request; ask once,
    /// before filling a record.
    pub fn wants(&self, status: u16, duration: Duration, retries: u32) -> bool {
        let Some(shared) = &self.0 else { return false };
        let number = shared.requests.fetch_add(1, Ordering::Relaxed);
        shared.filters.pass(status, duration, retries) && scramble(number) <= shared.sampled
    }

    /// The same of a connection; `failed` says that no back end served it.
    pub fn wants_stream(&self, failed: bool, duration: Duration, retries: u32) -> bool {
        let Some(shared) = &self.0 else { return false };
        let number = shared.requests.fetch_add(1, Ordering::Relaxed);
        shared.filters.pass_stream(failed, duration, retries) && scramble(number) <= shared.sampled
    }

    /// The request headers that the settings keep; free of cost when they keep none.
    pub fn request_headers(&self, headers: &HeaderMap) -> Headers {
        self.select(headers)
    }

    /// The response headers that the settings keep; free of cost when they keep none.
    pub fn response_headers(&self, headers: &HeaderMap) -> Headers {
        self.select(headers)
    }

    fn select(&self, headers: &HeaderMap) -> Headers {
        let Some(shared) = self.0.as_ref().filter(|shared| !shared.headers.drop_all()) else {
            return Headers::default();
        };
        let kept = headers
            .iter()
            .filter_map(|(name, value)| match shared.headers.of(name) {
                FieldMode::Keep => Some((name.clone(), Some(value.clone()))),
                FieldMode::Redact => Some((name.clone(), None)),
                FieldMode::Drop => None,
            });
        Headers(kept.collect())
    }

    /// Queues a record. Never waits: a line that finds the queue full is lost and counted.
    pub fn record(&self, record: Record) {
        let Some(shared) = &self.0 else { return };
        let line = Message::Line(Box::new((record, shared.requests.load(Ordering::Relaxed))));
        shared.queue(line);
    }

    /// Queues the record of a connection, as [`Self::record`] does.
    pub fn record_stream(&self, record: StreamRecord) {
        let Some(shared) = &self.0 else { return };
        let line = Message::Stream(Box::new((record, shared.requests.load(Ordering::Relaxed))));
        shared.queue(line);
    }

    /// Opens the file anew after what is queued, as a log rotation wants it. Does not wait.
    pub fn reopen(&self) {
        if let Some(shared) = &self.0 {
            shared.signals.reopen.store(true, Ordering::Release);
            shared.wake();
        }
    }
}

impl Shared {
    fn queue(&self, line: Message) {
        if self.queue.try_send(line).is_err() {
            self.dropped.inc();
        }
    }

    /// A full queue needs no waking: the writer looks at the signals after every line.
    fn wake(&self) {
        self.queue.try_send(Message::Wake).unwrap_or_default();
    }
}

impl AccessLogWriter {
    /// Writes what is queued and ends the thread; waits for at most `limit` (a pipe may block for ever). Blocking.
    /// Returns whether everything was written.
    pub fn stop(self, limit: Duration) -> bool {
        if let Some(shared) = &self.log.0 {
            shared.signals.stop.store(true, Ordering::Release);
            shared.wake();
        }
        self.done.recv_timeout(limit).is_ok() && self.thread.join().is_ok()
    }
}

/// The share of the range of [`scramble`] that `sampling` asks for.
fn threshold(sampling: f64) -> u64 {
    // `as` saturates; out of range and NaN become none or all.
    #[expect(clippy::cast_sign_loss, reason = "clamped to 0..=1 before")]
    let share = (sampling.clamp(0.0, 1.0) * u64::MAX as f64) as u64;
    share
}

/// Spreads consecutive numbers evenly over all of `u64` (the finaliser of splitmix64), so that sampling takes a fair
/// share of any stretch without a source of random numbers.
fn scramble(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
