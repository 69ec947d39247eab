//! The log lines for look-ups that fail: one for all keys, and one when they succeed again.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::limit::LookupError;
use crate::sync::lock;

/// After this long without a failure, any success ends the failures.
const QUIET: Duration = Duration::from_secs(60);

/// The log of the look-ups of one keyed limit.
#[derive(Debug, Default)]
pub(super) struct LookupLog {
    failing: Mutex<Option<Failing>>,
}

#[derive(Debug, Clone, Copy)]
struct Failing {
    since: Instant,
    latest: Instant,
    failures: u64,
}

impl LookupLog {
    /// Returns whether look-ups fail at present.
    pub(super) fn is_failing(&self) -> bool {
        lock(&self.failing).is_some()
    }

    pub(super) fn failed(&self, limit: &str, error: &LookupError) {
        if self.note_failure(Instant::now()) {
            tracing::warn!(
                limit,
                error = %error,
                "the limit of a key could not be looked up; limits that are known stay in force"
            );
        }
    }

    /// Notes a success. `retried` says whether the look-up of that key had failed before.
    pub(super) fn succeeded(&self, limit: &str, retried: bool) {
        if let Some(Failing { since, failures, .. }) = self.note_success(Instant::now(), retried) {
            let lasted = since.elapsed();
            tracing::info!(limit, failures, ?lasted, "limits are looked up again");
        }
    }

    /// Returns whether it is the first failure.
    fn note_failure(&self, now: Instant) -> bool {
        let mut failing = lock(&self.failing);
        let is_first = failing.is_none();
        let failing = failing.get_or_insert(Failing { since: now, latest: now, failures: 0 });
        failing.latest = now;
        failing.failures += 1;
        is_first
    }

    /// Returns the failures that this success ends. A key that never failed does not end them, since the
    /// source may still fail for other keys.
    fn note_success(&self, now: Instant, retried: bool) -> Option<Failing> {
        let mut failing = lock(&self.failing);
        let latest = failing.as_ref()?.latest;
        if retried || now.saturating_duration_since(latest) >= QUIET {
            return failing.take();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn failures_are_logged_once_and_their_end_with_the_count() {
        let log = LookupLog::default();
        let start = Instant::now();
        assert!(log.note_success(start, false).is_none());
        assert!(log.note_failure(start));
        assert!(!log.note_failure(start + QUIET / 2));
        assert!(log.note_success(start + QUIET, false).is_none(), "another key");
        assert!(!log.note_failure(start + QUIET));
        assert_eq!(log.note_success(start + QUIET, true).unwrap().failures, 3);
        assert!(log.note_success(start + QUIET, true).is_none());

        assert!(log.note_failure(start + QUIET));
        assert!(log.is_failing());
        assert_eq!(log.note_success(start + 2 * QUIET, false).unwrap().failures, 1);
        assert!(!log.is_failing());
    }
}
