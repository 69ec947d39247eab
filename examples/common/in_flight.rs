//! How much runs at once, counted where it runs: the proof that a limit was kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

#[derive(Clone, Default)]
pub(crate) struct InFlight(Arc<Counts>);

#[derive(Default)]
struct Counts {
    now: AtomicUsize,
    peak: AtomicUsize,
}

impl InFlight {
    /// Counts `units` until the guard is dropped.
    pub(crate) fn enter(&self, units: usize) -> InFlightGuard {
        let now = self.0.now.fetch_add(units, SeqCst) + units;
        self.0.peak.fetch_max(now, SeqCst);
        InFlightGuard { counts: Arc::clone(&self.0), units }
    }

    pub(crate) fn now(&self) -> usize {
        self.0.now.load(SeqCst)
    }

    pub(crate) fn peak(&self) -> usize {
        self.0.peak.load(SeqCst)
    }
}

pub(crate) struct InFlightGuard {
    counts: Arc<Counts>,
    units: usize,
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.counts.now.fetch_sub(self.units, SeqCst);
    }
}
