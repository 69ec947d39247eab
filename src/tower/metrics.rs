//! Counts the outcomes of requests, for the metrics recorder of the process.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

#[cfg(feature = "metrics")]
const REQUESTS: &str = "zset_semaphore_requests_total";
#[cfg(feature = "metrics")]
const WAIT: &str = "zset_semaphore_wait_seconds";

/// The outcome of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    Permit,
    Local,
    Open,
    Weightless,
    /// Rejected, with the [label](super::Reason::label) of the reason.
    Rejected(
        #[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "nobody counts"))]
        &'static str,
    ),
    /// The future was dropped while the request waited, most likely because its client went away.
    Cancelled,
}

/// The metrics of one limit, labelled with its name. Keys of requests never become labels.
#[derive(Debug)]
pub(crate) struct Metrics {
    #[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "nobody counts"))]
    limit: Arc<str>,
}

impl Metrics {
    pub(crate) fn new(limit: Arc<str>) -> Self {
        #[cfg(feature = "metrics")]
        {
            metrics::describe_counter!(REQUESTS, "Requests, by outcome and reason.");
            let unit = metrics::Unit::Seconds;
            metrics::describe_histogram!(WAIT, unit, "How long requests waited for their permit.");
        }
        Self { limit }
    }

    #[cfg(feature = "metrics")]
    fn count(&self, outcome: Outcome, waited: Duration) {
        let (outcome, reason) = match outcome {
            Outcome::Permit => ("permit", ""),
            Outcome::Local => ("local", ""),
            Outcome::Open => ("uncounted", ""),
            Outcome::Weightless => ("weightless", ""),
            Outcome::Rejected(reason) => ("rejected", reason),
            Outcome::Cancelled => ("cancelled", ""),
        };
        let limit = || Arc::clone(&self.limit);
        // All series of a metric have the same labels. To Prometheus an empty label is the same as a missing
        // one.
        metrics::counter!(REQUESTS, "limit" => limit(), "outcome" => outcome, "reason" => reason)
            .increment(1);
        metrics::histogram!(WAIT, "limit" => limit(), "outcome" => outcome).record(waited);
    }

    #[cfg(not(feature = "metrics"))]
    #[expect(clippy::unused_self, reason = "nobody counts")]
    fn count(&self, _: Outcome, _: Duration) {}
}

/// A drop guard that counts a request exactly once: with the [recorded](Self::record) outcome, or as
/// cancelled if it is dropped before one is recorded.
#[derive(Debug)]
pub(crate) struct OutcomeGuard {
    metrics: Arc<Metrics>,
    started: Option<Instant>,
    recorded: bool,
}

impl OutcomeGuard {
    pub(crate) fn new(metrics: &Arc<Metrics>) -> Self {
        Self { metrics: Arc::clone(metrics), started: None, recorded: false }
    }

    /// Turns the guard off: the request is not counted.
    pub(crate) fn disarm(&mut self) {
        self.recorded = true;
    }

    /// Returns when the wait began; the first call begins it at `now`.
    pub(crate) fn start(&mut self, now: Instant) -> Instant {
        *self.started.get_or_insert(now)
    }

    pub(crate) fn record(&mut self, outcome: Outcome) {
        if !self.recorded {
            self.recorded = true;
            let waited = self.started.map_or(Duration::ZERO, |started| started.elapsed());
            self.metrics.count(outcome, waited);
        }
    }
}

impl Drop for OutcomeGuard {
    fn drop(&mut self) {
        self.record(Outcome::Cancelled);
    }
}
