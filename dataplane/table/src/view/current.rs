//! The view of a service that is in force, and when it is computed anew.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::{ArcSwapOption, Guard};

use crate::{Endpoint, Policy, View};

/// The view in force of one generation of a service.
///
/// While nothing is known against any endpoint, which is nearly always, reading costs one comparison: the untroubled
/// view lies in the service itself. Changes are counted on the live side, which all generations of the service share,
/// so a fact learned through one generation reaches the others.
#[derive(Debug)]
pub(crate) struct Current {
    untroubled: View,
    /// The count of changes at which the untroubled view was found to hold.
    settled: AtomicU64,
    troubled: ArcSwapOption<View>,
    renewal: Mutex<()>,
    generation: u64,
}

/// A view that was read; holds for as long as the request that read it wants it to.
#[derive(Debug)]
pub struct ViewRef<'s>(Source<'s>);

#[derive(Debug)]
enum Source<'s> {
    Untroubled(&'s View),
    Troubled(Guard<Option<Arc<View>>>, &'s View),
    Computed(Box<View>),
}

impl Deref for ViewRef<'_> {
    type Target = View;

    #[inline]
    fn deref(&self) -> &View {
        match &self.0 {
            Source::Untroubled(view) => view,
            Source::Troubled(guard, fallback) => guard.as_deref().unwrap_or(fallback),
            Source::Computed(view) => view,
        }
    }
}

impl Current {
    /// `fresh`: nothing can be known against these endpoints yet.
    pub(crate) fn new(endpoints: &[Arc<Endpoint>], policy: &Policy, generation: u64, fresh: bool) -> Self {
        Self {
            untroubled: View::untroubled(endpoints, policy),
            settled: AtomicU64::new(if fresh { 0 } else { u64::MAX }),
            troubled: ArcSwapOption::empty(),
            renewal: Mutex::default(),
            generation,
        }
    }

    /// The view at this count of changes and this time, if it was computed.
    #[inline]
    pub(crate) fn read(&self, epoch: u64, now: Instant) -> Option<ViewRef<'_>> {
        if self.settled.load(Ordering::Relaxed) == epoch {
            return Some(ViewRef(Source::Untroubled(&self.untroubled)));
        }
        self.read_troubled(epoch, now)
    }

    fn read_troubled(&self, epoch: u64, now: Instant) -> Option<ViewRef<'_>> {
        let troubled = self.troubled.load();
        let view = troubled.as_deref()?;
        (view.epoch == epoch && view.next_change.is_none_or(|at| now < at))
            .then(|| ViewRef(Source::Troubled(troubled, &self.untroubled)))
    }

    /// A view of one's own, for a question that must change nothing.
    pub(crate) fn compute(endpoints: &[Arc<Endpoint>], policy: &Policy, now: Instant) -> ViewRef<'static> {
        ViewRef(Source::Computed(Box::new(View::compute(endpoints, policy, now))))
    }

    /// Which generation of the service this is.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Puts a newly computed view in force, unless somebody else just did. `epoch` reads the count of changes.
    pub(crate) fn renew(
        &self,
        now: Instant,
        epoch: impl Fn() -> u64,
        compute: impl FnOnce() -> View,
    ) -> ViewRef<'_> {
        let _one_at_a_time = self.renewal.lock().unwrap_or_else(PoisonError::into_inner);
        // Read before the facts are: what changes meanwhile counts up again and makes this view stale.
        let epoch = epoch();
        if let Some(view) = self.read(epoch, now) {
            return view;
        }
        let mut view = compute();
        view.epoch = epoch;
        if view.is_like(&self.untroubled) {
            self.settled.store(epoch, Ordering::Relaxed);
            return ViewRef(Source::Untroubled(&self.untroubled));
        }
        self.troubled.store(Some(Arc::new(view)));
        ViewRef(Source::Troubled(self.troubled.load(), &self.untroubled))
    }
}
