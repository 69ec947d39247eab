//! Counts of what became of requests, for the recorder of the process if there is one.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

#[cfg(feature = "metrics")]
const REQUESTS: &str = "zset_semaphore_requests_total";
#[cfg(feature = "metrics")]
const WAIT: &str = "zset_semaphore_wait_seconds";

/// What became of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    Permit,
    Local,
    Open,
    Weightless,
    /// With the [label](super::Reason::label) of the reason.
    Rejected(
        #[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "nobody counts"))]
        &'static str,
    ),
    /// Its future was dropped while it waited: most likely its client went away.
    Cancelled,
}

/// Counts under the name of the limit: keys of requests never become labels.
#[derive(Debug)]
pub(crate) struct Metrics {
    #[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "nobody counts"))]
    limit: Arc<str>,
}

impl Metrics {
    pub(crate) fn new(limit: Arc<str>) -> Self {
        #[cfg(feature = "metrics")]
        {
            metrics::describe_counter!(REQUESTS, "Requests, by what became of them and why.");
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
        // Every series of a name has the same labels: an empty one is none to Prometheus.
        metrics::counter!(REQUESTS, "limit" => limit(), "outcome" => outcome, "reason" => reason)
            .increment(1);
        metrics::histogram!(WAIT, "limit" => limit(), "outcome" => outcome).record(waited);
    }

    #[cfg(not(feature = "metrics"))]
    #[expect(clippy::unused_self, reason = "nobody counts")]
    fn count(&self, _: Outcome, _: Duration) {}
}

/// Counts one request once: as what it is [settled](Self::settle) to be, or as cancelled when it is
/// dropped before.
#[derive(Debug)]
pub(crate) struct OutcomeGuard {
    metrics: Arc<Metrics>,
    started: Option<Instant>,
    settled: bool,
}

impl OutcomeGuard {
    pub(crate) fn new(metrics: &Arc<Metrics>) -> Self {
        Self { metrics: Arc::clone(metrics), started: None, settled: false }
    }

    /// Counts it as nothing.
    pub(crate) fn leave_out(&mut self) {
        self.settled = true;
    }

    /// When the wait began, which is `now` if it has not.
    pub(crate) fn start(&mut self, now: Instant) -> Instant {
        *self.started.get_or_insert(now)
    }

    pub(crate) fn settle(&mut self, outcome: Outcome) {
        if !self.settled {
            self.settled = true;
            let waited = self.started.map_or(Duration::ZERO, |started| started.elapsed());
            self.metrics.count(outcome, waited);
        }
    }
}

impl Drop for OutcomeGuard {
    fn drop(&mut self) {
        self.settle(Outcome::Cancelled);
    }
}
