//! Counts of what became of requests, for the recorder of the process if there is one.

use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "metrics")]
const REQUESTS: &str = "zset_semaphore_requests_total";
#[cfg(feature = "metrics")]
const WAIT: &str = "zset_semaphore_wait_seconds";

/// What became of a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome {
    Permit,
    Local,
    Open,
    Weightless,
    Rejected,
}

/// Counts under the name of the limit: keys of requests never become labels.
#[derive(Debug)]
pub(super) struct Metrics {
    #[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "nobody counts"))]
    limit: Arc<str>,
}

impl Metrics {
    pub(super) fn new(limit: Arc<str>) -> Self {
        #[cfg(feature = "metrics")]
        {
            metrics::describe_counter!(REQUESTS, "Requests, by what became of them.");
            let unit = metrics::Unit::Seconds;
            metrics::describe_histogram!(WAIT, unit, "How long requests waited for their permit.");
        }
        Self { limit }
    }

    #[cfg(feature = "metrics")]
    pub(super) fn count(&self, outcome: Outcome, waited: Duration) {
        let outcome = match outcome {
            Outcome::Permit => "permit",
            Outcome::Local => "local",
            Outcome::Open => "uncounted",
            Outcome::Weightless => "weightless",
            Outcome::Rejected => "rejected",
        };
        let limit = || Arc::clone(&self.limit);
        metrics::counter!(REQUESTS, "limit" => limit(), "outcome" => outcome).increment(1);
        metrics::histogram!(WAIT, "limit" => limit(), "outcome" => outcome).record(waited);
    }

    #[cfg(not(feature = "metrics"))]
    #[expect(clippy::unused_self, reason = "nobody counts")]
    pub(super) fn count(&self, _: Outcome, _: Duration) {}
}
