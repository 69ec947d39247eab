//! The log lines of an outage: one when it begins, one when it ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::policy::OutagePolicy;
use crate::StoreError;

/// Whether the present outage was logged.
#[derive(Debug, Default)]
pub(crate) struct OutageLog {
    logged: AtomicBool,
}

impl OutageLog {
    /// Logs that the policy decides now, unless that was logged for this outage.
    pub(crate) fn began(
        &self,
        limit_name: &str,
        policy: OutagePolicy,
        since: Duration,
        error: Option<&StoreError>,
    ) {
        if !self.logged.load(Ordering::Relaxed) && !self.logged.swap(true, Ordering::Relaxed) {
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
            tracing::info!(limit = limit_name, "the store is back; requests are counted again");
        }
    }
}
