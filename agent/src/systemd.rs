//! What systemd is told (`Type=notify`); without a service manager every call does nothing.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use crate::handover::Sockets;

/// The node serves.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload begins; [`ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "cannot read the monotonic clock for systemd"),
    }
}

/// The node drains. Asks for `drain` of time on top of a margin before the unit's stop time-out strikes.
pub fn stopping(drain: Duration) {
    let margin = Duration::from_secs(5);
    let extend = u32::try_from((drain + margin).as_micros()).unwrap_or(u32::MAX);
    notify(&[
        NotifyState::Stopping,
        NotifyState::Status("draining"),
        NotifyState::ExtendTimeoutUsec(extend),
    ]);
}

/// Gives the service manager copies of the listening sockets (`FileDescriptorStoreMax=` in the unit): the next process
/// gets them, and what waits in their queues meanwhile is served. `outdated`: names of sockets it may have from before.
pub fn keep(sockets: &Sockets, outdated: &[String]) {
    // Without a limit it keeps nothing.
    if !keeps_sockets() {
        return;
    }
    let known = sockets.names();
    for name in known.iter().copied().chain(outdated.iter().map(String::as_str)) {
        notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
    }
    for (name, socket) in sockets.iter() {
        let states = [NotifyState::FdStore, NotifyState::FdName(name)];
        if let Err(error) = sd_notify::notify_with_fds(&states, &[socket]) {
            tracing::warn!(%error, name, "cannot store a listening socket with systemd");
        }
    }
}

/// Whether there is a service manager to keep sockets.
pub fn keeps_sockets() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Another process is the main one of the service from now on.
pub fn main_process(pid: u32) {
    notify(&[NotifyState::MainPid(pid)]);
}

/// Sends keep-alives while the control runtime turns, at half the interval systemd asks for. Ends with `stop`.
pub async fn watchdog(stop: CancellationToken) {
    let Some(interval) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut ticks = tokio::time::interval(interval / 2);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        notify(&[NotifyState::Watchdog]);
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}
