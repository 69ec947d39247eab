//! The settings that all requests through one layer share, and the timeouts that follow from them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::outage::log::OutageLog;
use super::outage::policy::OutagePolicy;
use super::rejection::Reason;
use crate::metrics::{LayerMeter, Rejected, RequestOutcome};

/// The settings of a layer.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(crate) timeout: Option<Duration>,
    pub(crate) total_timeout: Option<Duration>,
    pub(crate) max_queue: Option<u32>,
    pub(crate) outage_policy: OutagePolicy,
    pub(crate) outage_after: Duration,
    pub(crate) min_retry_after: Duration,
    pub(crate) outage_log: Arc<OutageLog>,
    pub(crate) meter: Arc<LayerMeter>,
}

impl Settings {
    pub(crate) fn new(meter: LayerMeter) -> Self {
        let meter = Arc::new(meter);
        Self {
            timeout: None,
            total_timeout: None,
            max_queue: None,
            outage_policy: OutagePolicy::FailClosed,
            outage_after: Duration::from_secs(1),
            min_retry_after: Duration::from_secs(1),
            outage_log: Arc::new(OutageLog::new(Arc::clone(&meter))),
            meter,
        }
    }

    /// Returns how much longer a request may wait after it has waited for `waited`. `until` is the deadline
    /// that outer layers have set.
    pub(crate) fn time_left(&self, until: Option<Instant>, waited: Duration) -> Option<Duration> {
        let own = [self.timeout, self.total_timeout].into_iter().flatten();
        own.map(|timeout| timeout.saturating_sub(waited)).chain(until.map(remaining)).min()
    }

    /// Returns how long a request may wait for the look-up of its limit. A `timeout` of zero does not
    /// count: it says not to wait for units.
    pub(crate) fn lookup_timeout(&self, until: Option<Instant>) -> Option<Duration> {
        let timeout = self.timeout.filter(|timeout| !timeout.is_zero());
        [timeout, self.total_timeout, until.map(remaining)].into_iter().flatten().min()
    }

    /// Returns the deadline for waits in inner layers, for a request that began to wait at `started`.
    /// Returns `None` if this layer has no `total_timeout`.
    pub(crate) fn inner_deadline(
        &self,
        until: Option<Instant>,
        started: Instant,
    ) -> Option<Instant> {
        let own = started.checked_add(self.total_timeout?)?;
        Some(until.map_or(own, |until| until.min(own)))
    }

    /// Returns what the metrics count a rejected request as. In a layer that never waits, timeouts count as `full`.
    pub(crate) fn outcome(&self, reason: &Reason) -> RequestOutcome {
        match reason.rejected() {
            Some(Rejected::Timeout) if self.timeout.is_some_and(|timeout| timeout.is_zero()) => {
                RequestOutcome::Rejected(Rejected::Full)
            }
            Some(rejected) => RequestOutcome::Rejected(rejected),
            None => RequestOutcome::Permit, // which it has lost since
        }
    }
}

fn remaining(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}
