//! What all requests through one layer have in common.

use std::sync::Arc;
use std::time::Duration;

use super::error::Reason;
use super::metrics::Metrics;
use super::outage::{Outage, OutageLog};

#[derive(Debug, Clone)]
pub struct Settings {
    pub(super) timeout: Option<Duration>,
    pub(super) max_queue: Option<u32>,
    pub(super) outage: Outage,
    pub(super) away_after: Duration,
    pub(super) retry_floor: Duration,
    pub(super) log: Arc<OutageLog>,
    pub(super) metrics: Arc<Metrics>,
}

impl Settings {
    pub(super) fn new(limit: Arc<str>) -> Self {
        Self {
            timeout: None,
            max_queue: None,
            outage: Outage::Closed,
            away_after: Duration::from_secs(1),
            retry_floor: Duration::from_secs(1),
            log: Arc::default(),
            metrics: Arc::new(Metrics::new(limit)),
        }
    }

    /// The label of a rejection: who never waits for room found it full.
    pub(super) fn label(&self, reason: &Reason) -> &'static str {
        match reason.label() {
            "timeout" if self.timeout.is_some_and(|timeout| timeout.is_zero()) => "full",
            label => label,
        }
    }
}
