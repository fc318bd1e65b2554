//! A thread with a network namespace and a BPF file system of its own, and the service's capabilities.
//!
//! Namespaces and capabilities belong to threads, so a test needs no process of its own and leaves nothing behind: with
//! the last thread and descriptor in it, a sandbox is gone with all that was attached and pinned in it.
//!
//! Within one process there is one sandbox at a time: a program that one test starts has copies of all descriptors until
//! it is executed, and a lock or a listener of another test would outlive its end by that.

use std::collections::HashSet;
use std::fs;
use std::panic::resume_unwind;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use caps::{CapSet, Capability};
use constellation_tests::{require, sandbox};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;

static ALONE: Mutex<()> = Mutex::new(());

/// What the unit file grants.
pub(crate) const SERVICE: &[Capability] = &[
    Capability::CAP_BPF,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_PERFMON,
];

/// The service's address on the cable.
pub(crate) const EDGE: &str = "10.9.0.1";
/// The peer's.
pub(crate) const PEER: &str = "10.9.0.2";
/// Another of the peer's.
pub(crate) const NEIGHBOUR: &str = "10.9.0.3";

/// Runs a test as the service would run it; or says what this machine lacks.
pub(crate) fn run(test: impl FnOnce() + Send) -> Result<(), String> {
    run_with(SERVICE, &[], test)
}

/// Runs a test with these capabilities, after these `ip` commands have prepared the namespace.
pub(crate) fn run_with(
    kept: &[Capability],
    prepare: &[&str],
    test: impl FnOnce() + Send,
) -> Result<(), String> {
    require::root().map_err(|_| {
        "needs root to make namespaces and to give up all rights but the service's".to_owned()
    })?;
    require::program("ip")?;
    // One that failed holds nothing any more.
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    thread::scope(|scope| {
        let sandboxed = scope.spawn(|| {
            // A test's listeners may have any port, without a capability that the service can do without.
            sandbox::enter(prepare)?;
            fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")
                .map_err(|error| format!("cannot set up the namespace: {error}"))?;
            keep(kept);
            test();
            Ok(())
        });
        sandboxed.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// A network namespace at the other end of a cable, and the thread in it.
pub(crate) struct Peer {
    jobs: Sender<Job>,
}

type Job = Box<dyn FnOnce() + Send>;

/// Runs a test that makes its own hosts; or says what this machine lacks.
pub(crate) fn run_hosts(test: impl FnOnce()) -> Result<(), String> {
    require::root().map_err(|_| "needs root to make namespaces".to_owned())?;
    require::program("ip")?;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    test();
    Ok(())
}

/// What a host of [`run_hosts`] gives up: everything but the service's rights.
pub(crate) fn like_the_service() {
    fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0").expect("the namespace set up");
    keep(SERVICE);
}

impl Peer {
    /// Runs something there, and waits for its result.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        // A job that panics drops its sender, which fails the receiver here.
        self.jobs
            .send(Box::new(move || drop(done.send(job()))))
            .expect("the peer's thread is there");
        result.recv().expect("the peer's job came to its end")
    }
}

/// Runs a test as the service at [`EDGE`], with a peer at the other end of the device `edge`, at [`PEER`] and
/// [`NEIGHBOUR`].
pub(crate) fn run_with_peer(test: impl FnOnce(&Peer) + Send) -> Result<(), String> {
    let (jobs, received) = channel::<Job>();
    let (says, thread) = channel();
    let peer = thread::spawn(move || {
        let entered = unshare(CloneFlags::CLONE_NEWNET).map(|()| gettid());
        let entered = entered.map_err(|error| format!("cannot make a network namespace: {error}"));
        says.send(entered).expect("the test's thread is there");
        received.into_iter().for_each(|job| job());
    });
    let thread = thread.recv().expect("the peer's thread starts")?;
    let peer_end = format!("link add edge type veth peer name peer netns {thread}");
    let prepare = [
        peer_end.as_str(),
        "addr add 10.9.0.1/24 dev edge",
        "addr add fd09::1/64 dev edge nodad",
        "link set edge up",
    ];
    let outcome = run_with(SERVICE, &prepare, || {
        let peer = Peer { jobs };
        peer.run(|| {
            let prepare = [
                "link set lo up",
                "addr add 10.9.0.2/24 dev peer",
                "addr add 10.9.0.3/24 dev peer",
                "addr add fd09::2/64 dev peer nodad",
                "link set peer up",
            ];
            for command in prepare {
                sandbox::ip(command).expect("the peer's network");
            }
        });
        test(&peer);
    });
    // With the test its sender is gone, and with that the peer.
    peer.join().unwrap_or_else(|panic| resume_unwind(panic));
    outcome
}

/// Gives up everything else.
pub(crate) fn keep(kept: &[Capability]) {
    let kept: HashSet<_> = kept.iter().copied().collect();
    caps::clear(None, CapSet::Inheritable).expect("fewer capabilities");
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &kept).expect("fewer capabilities");
    }
}
