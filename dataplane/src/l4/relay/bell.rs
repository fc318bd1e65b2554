//! A waker that remembers having been rung.
//!
//! A relay is woken for every few kilobytes, and hardly ever for anything but bytes. What it waits for besides (a time
//! limit, the departure of an endpoint, a reset) is polled with a bell, and only when the bell has rung: otherwise
//! every piece of data would pay for timers and for locks that all connections of an endpoint share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// What is rung.
#[derive(Debug)]
pub(super) struct Bell {
    rung: AtomicBool,
    task: Mutex<Waker>,
}

/// Who hears it.
#[derive(Debug)]
pub(super) struct Hearer {
    bell: Arc<Bell>,
    /// To be polled with.
    pub(super) waker: Waker,
    /// The task that the bell wakes.
    task: Waker,
}

impl Hearer {
    /// A bell that has rung: nothing was polled with it yet.
    pub(super) fn new() -> Self {
        let bell = Arc::new(Bell {
            rung: AtomicBool::new(true),
            task: Mutex::new(Waker::noop().clone()),
        });
        Self {
            waker: bell.clone().into(),
            bell,
            task: Waker::noop().clone(),
        }
    }

    /// Whether it has rung since the last time this was asked. From now on it wakes `task`.
    pub(super) fn has_rung(&mut self, task: &Waker) -> bool {
        if !self.task.will_wake(task) {
            self.task.clone_from(task);
            *self.bell.task.lock().unwrap_or_else(PoisonError::into_inner) = task.clone();
        }
        self.bell.rung.load(Ordering::Acquire) && self.bell.rung.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .wake_by_ref();
    }
}
