//! Signals of the process: stop (SIGTERM, SIGINT) and reload (SIGHUP).

use std::io;

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// Drain and end; the second time: end now.
    Stop,
    /// Read everything again.
    Reload,
}

/// The signals this process listens to.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Stream,
    interrupt: Stream,
    hangup: Stream,
}

/// Signals that ask for a reload, from now on.
#[derive(Debug)]
pub(super) struct Reloads(Stream);

impl Reloads {
    /// To be called before anything listens: whoever sees a node listen may ask it to reload, and must not end it by that.
    pub(super) fn install() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }
}

impl Signals {
    /// A reload that was asked for meanwhile comes first.
    pub(super) fn install(Reloads(hangup): Reloads) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup,
        })
    }

    /// The next signal. Cancellation safe.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.hangup.recv() => Signal::Reload,
        }
    }

    /// The next signal that asks to stop; reloads are too late by now.
    pub(super) async fn stop(&mut self) {
        while self.next().await != Signal::Stop {}
    }
}
