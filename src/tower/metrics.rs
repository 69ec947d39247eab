//! Counts what becomes of a request, once.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::{LayerMeter, RequestOutcome};

/// A drop guard that counts a request exactly once: with the [recorded](Self::record) outcome, or as
/// cancelled if it is dropped before one is recorded.
#[derive(Debug)]
pub(crate) struct OutcomeGuard {
    meter: Arc<LayerMeter>,
    started: Option<Instant>,
    recorded: bool,
}

impl OutcomeGuard {
    pub(crate) fn new(meter: &Arc<LayerMeter>) -> Self {
        Self { meter: Arc::clone(meter), started: None, recorded: false }
    }

    /// Turns the guard off: the request is not counted.
    pub(crate) fn disarm(&mut self) {
        self.recorded = true;
    }

    /// Returns when the wait began; the first call begins it at `now`.
    pub(crate) fn start(&mut self, now: Instant) -> Instant {
        *self.started.get_or_insert(now)
    }

    pub(crate) fn record(&mut self, outcome: RequestOutcome) {
        if !self.recorded {
            self.recorded = true;
            let waited = self.started.map_or(Duration::ZERO, |started| started.elapsed());
            self.meter.request(outcome, waited);
        }
    }
}

impl Drop for OutcomeGuard {
    fn drop(&mut self) {
        self.record(RequestOutcome::Cancelled);
    }
}
