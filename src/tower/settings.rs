//! What all requests through one layer have in common.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::error::Reason;
use super::metrics::Metrics;
use super::outage::{OutageLog, OutagePolicy};

#[derive(Debug, Clone)]
pub struct Settings {
    pub(super) timeout: Option<Duration>,
    pub(super) total_timeout: Option<Duration>,
    pub(super) max_queue: Option<u32>,
    pub(super) outage: OutagePolicy,
    pub(super) outage_after: Duration,
    pub(super) retry_floor: Duration,
    pub(super) log: Arc<OutageLog>,
    pub(super) metrics: Arc<Metrics>,
}

impl Settings {
    pub(super) fn new(limit: Arc<str>) -> Self {
        Self {
            timeout: None,
            total_timeout: None,
            max_queue: None,
            outage: OutagePolicy::FailClosed,
            outage_after: Duration::from_secs(1),
            retry_floor: Duration::from_secs(1),
            log: Arc::default(),
            metrics: Arc::new(Metrics::new(limit)),
        }
    }

    /// How much longer a request may wait that has waited for `waited`; outer layers let it wait until
    /// `until`.
    pub(super) fn patience(&self, until: Option<Instant>, waited: Duration) -> Option<Duration> {
        let own = [self.timeout, self.total_timeout].into_iter().flatten();
        own.map(|most| most.saturating_sub(waited)).chain(until.map(left)).min()
    }

    /// How long a request may wait until its limit has been looked up. A timeout of zero is for room
    /// alone.
    pub(super) fn lookup_patience(&self, until: Option<Instant>) -> Option<Duration> {
        let timeout = self.timeout.filter(|timeout| !timeout.is_zero());
        [timeout, self.total_timeout, until.map(left)].into_iter().flatten().min()
    }

    /// Until when inner layers may let a request wait that began to at `started`; `None` where this
    /// layer has nothing to say.
    pub(super) fn common_deadline(
        &self,
        until: Option<Instant>,
        started: Instant,
    ) -> Option<Instant> {
        let own = started.checked_add(self.total_timeout?)?;
        Some(until.map_or(own, |until| until.min(own)))
    }

    /// The label of a rejection: who never waits for room found it full.
    pub(super) fn label(&self, reason: &Reason) -> &'static str {
        match reason.label() {
            "timeout" if self.timeout.is_some_and(|timeout| timeout.is_zero()) => "full",
            label => label,
        }
    }
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}
