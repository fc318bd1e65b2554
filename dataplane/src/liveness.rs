//! Whether the workers are still there.
//!
//! A panic in the task of a connection ends that connection alone. One that ends a worker, or one of its accept loops,
//! is a defect that nobody repairs at run time: its sockets are closed, so that the kernel gives new connections to the
//! other workers, and who asks for health is told.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};

/// The workers, and what some of them have lost before they were asked to end. Clones share what they know.
#[derive(Clone, Debug)]
pub struct Workers {
    total: usize,
    failed: Arc<Mutex<BTreeMap<usize, Arc<str>>>>,
}

impl Workers {
    /// So many workers, all of which serve.
    pub fn new(total: usize) -> Self {
        Self {
            total,
            failed: Arc::default(),
        }
    }

    /// How many were started.
    pub fn total(&self) -> usize {
        self.total
    }

    /// The numbers of those that do not serve in full, and why: words that follow "worker 1". In order.
    pub fn failures(&self) -> Vec<(usize, Arc<str>)> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed
            .iter()
            .map(|(worker, reason)| (*worker, Arc::clone(reason)))
            .collect()
    }

    /// Notes that a worker has ended or lost a listener; the last reason counts.
    pub fn failed(&self, worker: usize, reason: &str) {
        tracing::error!("worker {worker} {reason}; restart the node");
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.insert(worker, reason.into());
    }

    /// Runs the whole of a worker; a panic is noted and goes on.
    pub(crate) fn watch(&self, worker: usize, work: impl FnOnce()) {
        // What the work leaves behind is dropped with it.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
            self.failed(worker, &format!("has ended: it panicked: {}", message(&*panic)));
            resume_unwind(panic);
        }
    }
}

/// What was said when it panicked.
pub(crate) fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_one_worker_and_is_told() {
        let workers = Workers::new(3);
        let count = 2;
        let threads = [
            std::thread::spawn({
                let workers = workers.clone();
                move || workers.watch(2, || panic!("boom"))
            }),
            std::thread::spawn({
                let workers = workers.clone();
                move || workers.watch(1, || panic!("{count} of two"))
            }),
            std::thread::spawn({
                let workers = workers.clone();
                move || workers.watch(0, || {})
            }),
        ];
        let ended = threads.map(|thread| thread.join().is_ok());
        assert_eq!(ended, [false, false, true]);
        assert_eq!(
            workers.failures(),
            [
                (1, "has ended: it panicked: 2 of two".into()),
                (2, "has ended: it panicked: boom".into())
            ]
        );
    }
}
