//! The writer thread: takes lines from the queue, formats them, writes them in batches.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};

use prometheus_client::metrics::counter::Counter;

use super::format::Formatter;
use super::record::{Record, StreamRecord};

/// A batch is written when it has reached this many bytes, or when nothing more waits.
const BATCH: usize = 64 * 1024;

/// What goes through the queue.
#[derive(Debug)]
pub(super) enum Message {
    Line(Box<(Record, u64)>),
    Stream(Box<(StreamRecord, u64)>),
    /// Look at the signals.
    Wake,
}

/// What the writer is told beside the queue, which may be full.
#[derive(Debug, Default)]
pub(super) struct Signals {
    pub(super) reopen: AtomicBool,
    pub(super) stop: AtomicBool,
}

/// Where lines go.
#[derive(Debug)]
pub(super) enum Output {
    Stdout,
    File { path: PathBuf, file: File },
}

impl Output {
    pub(super) fn open(path: Option<PathBuf>) -> io::Result<Self> {
        match path {
            None => Ok(Self::Stdout),
            Some(path) => Ok(Self::File {
                file: append(&path)?,
                path,
            }),
        }
    }

    fn write(&mut self, batch: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(batch)?;
                stdout.flush()
            }
            Self::File { file, .. } => file.write_all(batch),
        }
    }

    /// Opens the path anew: the file may have been renamed by a log rotation.
    fn reopen(&mut self) -> io::Result<()> {
        if let Self::File { path, file } = self {
            *file = append(path)?;
        }
        Ok(())
    }
}

fn append(path: &PathBuf) -> io::Result<File> {
    // Others have no business in it: it holds addresses and paths of clients.
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)
}

pub(super) struct Writer {
    pub(super) queue: Receiver<Message>,
    pub(super) signals: Arc<Signals>,
    pub(super) output: Output,
    pub(super) formatter: Formatter,
    pub(super) dropped: Counter,
    pub(super) failing: bool,
}

impl Writer {
    /// Runs until told to stop and the queue is empty, or until every handle is gone.
    pub(super) fn run(mut self) {
        let mut batch = Vec::with_capacity(2 * BATCH);
        let mut lines = 0;
        loop {
            // Before the look at the queue: what was queued before the stop is then seen, and nothing is lost.
            let stopping = self.signals.stop.load(Ordering::Acquire);
            let message = match self.queue.try_recv() {
                Ok(message) => Some(message),
                Err(TryRecvError::Empty) => {
                    self.write(&mut batch, &mut lines);
                    if stopping {
                        return;
                    }
                    self.queue.recv().ok()
                }
                Err(TryRecvError::Disconnected) => None,
            };
            match message {
                Some(Message::Line(line)) => {
                    self.formatter.line(&mut batch, &line.0, line.1);
                    lines += 1;
                }
                Some(Message::Stream(line)) => {
                    self.formatter.stream(&mut batch, &line.0, line.1);
                    lines += 1;
                }
                Some(Message::Wake) => {}
                None => {
                    self.write(&mut batch, &mut lines);
                    return;
                }
            }
            if batch.len() >= BATCH {
                self.write(&mut batch, &mut lines);
            }
            if self.signals.reopen.swap(false, Ordering::AcqRel) {
                self.write(&mut batch, &mut lines);
                self.reopen();
            }
        }
    }

    /// Writes the batch. One that can't be written is lost and counted; the first such is logged.
    fn write(&mut self, batch: &mut Vec<u8>, lines: &mut u64) {
        if *lines == 0 {
            return;
        }
        match self.output.write(batch) {
            Ok(()) => self.failing = false,
            Err(error) => {
                self.dropped.inc_by(*lines);
                self.failed("written", &error);
            }
        }
        batch.clear();
        batch.shrink_to(4 * BATCH);
        *lines = 0;
    }

    fn reopen(&mut self) {
        if let Err(error) = self.output.reopen() {
            self.failed("reopened, so the old file is written on", &error);
        }
    }

    fn failed(&mut self, what: &str, error: &io::Error) {
        if !self.failing {
            tracing::warn!(%error, "the access log can't be {what}; lost lines are counted in metrics");
            self.failing = true;
        }
    }
}
