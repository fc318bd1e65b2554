//! A thread with a network namespace and a BPF file system of its own, for tests of what a node does with the kernel.
//!
//! Namespaces belong to threads, and threads and processes that one starts are in them, too: a test's clients, its back
//! ends and its nodes are all inside, tests run in parallel, and with the last of them everything that was attached or
//! pinned is gone.

use std::panic::resume_unwind;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::require;

/// Runs a test in namespaces of its own, after these `ip` commands have prepared the network; or says what this machine
/// lacks. The loopback device is up.
///
/// # Panics
/// When the test does.
pub fn run<T: Send>(prepare: &[&str], test: impl AsyncFnOnce() -> T + Send) -> Result<T, String> {
    require::root().map_err(|_| "needs root to make namespaces".to_owned())?;
    require::program("ip")?;
    std::thread::scope(|scope| {
        let sandboxed = scope.spawn(|| {
            enter(prepare)?;
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .map_err(|error| format!("cannot start a runtime: {error}"))?;
            Ok(runtime.block_on(test()))
        });
        sandboxed.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Moves the calling thread into namespaces of its own, with the loopback device up, and prepares the network by these
/// `ip` commands.
///
/// # Errors
/// In words, when the kernel or `ip` refuses.
pub fn enter(prepare: &[&str]) -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
        .map_err(|error| format!("cannot make namespaces: {error}"))?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(|error| format!("cannot part the mounts: {error}"))?;
    mount(
        Some("bpf"),
        "/sys/fs/bpf",
        Some("bpf"),
        MsFlags::empty(),
        Some("mode=700"),
    )
    .map_err(|error| format!("cannot mount a BPF file system: {error}"))?;
    ip("link set lo up")?;
    prepare.iter().try_for_each(|command| ip(command))
}

/// Runs one `ip` command.
///
/// # Errors
/// What it says against it.
pub fn ip(command: &str) -> Result<(), String> {
    let output = Command::new(require::program("ip")?)
        .args(command.split(' '))
        .output()
        .map_err(|error| format!("ip {command}: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!(
            "ip {command}: {}",
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}
