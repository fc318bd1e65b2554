//! Hosts beside the test: threads with namespaces of their own, in which whatever they start is, too.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use nix::unistd::gettid;
use tokio::runtime::{Builder, Handle};

use crate::sandbox;

/// A host, and the thread in it. It ends with its handle, once nothing else holds its namespaces.
pub struct Host {
    jobs: Sender<Job>,
    runtime: Handle,
    thread: i32,
}

type Job = Box<dyn FnOnce() + Send>;

impl Host {
    /// A host with its loopback device up, after something was done there: giving up rights, for instance.
    ///
    /// # Panics
    /// When the kernel refuses.
    #[must_use]
    pub fn start(prepare: impl FnOnce() + Send + 'static) -> Self {
        let (jobs, received) = channel::<Job>();
        let (says, started) = channel();
        thread::spawn(move || {
            sandbox::enter(&[]).expect("a sandbox");
            prepare();
            // Its threads are in the namespaces of the one that makes it.
            let runtime = Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .expect("a runtime");
            says.send((runtime.handle().clone(), gettid().as_raw()))
                .expect("somebody waits for the host");
            received.into_iter().for_each(|job| job());
            runtime.shutdown_background();
        });
        let (runtime, thread) = started.recv().expect("the host starts");
        Self {
            jobs,
            runtime,
            thread,
        }
    }

    /// The thread's number, by which `ip` finds its network namespace.
    #[must_use]
    pub fn thread(&self) -> i32 {
        self.thread
    }

    /// Does something there, and waits for its result.
    ///
    /// # Panics
    /// When that does.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        let job = move || {
            // Whoever asked is told, and the host lives on.
            drop(done.send(catch_unwind(AssertUnwindSafe(job))));
        };
        self.jobs.send(Box::new(job)).expect("the host's thread is there");
        let result = result.recv().expect("the host's job came to its end");
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Does something there that waits.
    ///
    /// # Panics
    /// When it does.
    pub fn wait<T: Send + 'static>(&self, job: impl AsyncFnOnce() -> T + Send + 'static) -> T {
        let runtime = self.runtime.clone();
        self.run(move || runtime.block_on(job()))
    }

    /// Runs `ip` commands there.
    ///
    /// # Panics
    /// When `ip` refuses one.
    pub fn ip<C: ToString>(&self, commands: impl IntoIterator<Item = C>) {
        let commands: Vec<String> = commands.into_iter().map(|command| command.to_string()).collect();
        self.run(move || {
            for command in commands {
                sandbox::ip(&command).expect("the network");
            }
        });
    }
}
