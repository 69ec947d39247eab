//! The log lines of an outage: one when it begins, one when it ends. The gauge of outages moves with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::policy::OutagePolicy;
use crate::StoreError;
use crate::metrics::LayerMeter;

/// Whether the present outage was logged.
#[derive(Debug)]
pub(crate) struct OutageLog {
    logged: AtomicBool,
    meter: Arc<LayerMeter>,
}

impl OutageLog {
    pub(crate) fn new(meter: Arc<LayerMeter>) -> Self {
        Self { logged: AtomicBool::new(false), meter }
    }

    /// Logs that the policy decides now, unless that was logged for this outage.
    pub(crate) fn began(
        &self,
        limit_name: &str,
        policy: OutagePolicy,
        since: Duration,
        error: Option<&StoreError>,
    ) {
        if !self.logged.load(Ordering::Relaxed) && !self.logged.swap(true, Ordering::Relaxed) {
            self.meter.outage_began();
            tracing::warn!(
                limit = limit_name,
                ?policy,
                ?since,
                error = error.map(tracing::field::display),
                "the store is unavailable; the outage policy decides about requests"
            );
        }
    }

    /// Logs the end of the outage, if its begin was logged.
    pub(crate) fn ended(&self, limit_name: &str) {
        if self.logged.load(Ordering::Relaxed) && self.logged.swap(false, Ordering::Relaxed) {
            self.meter.outage_ended();
            tracing::info!(limit = limit_name, "the store is back; requests are counted again");
        }
    }
}

/// A layer that is gone is in no outage.
impl Drop for OutageLog {
    fn drop(&mut self) {
        if *self.logged.get_mut() {
            self.meter.outage_ended();
        }
    }
}
