//! What the log tells of look-ups that fail: one line for all, and one when they succeed again.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::sync::lock;
use crate::tower::keyed::limit::LookupError;

/// After this long without a failure, any success says that all is well again.
const QUIET: Duration = Duration::from_secs(60);

/// The look-ups of one keyed limit.
#[derive(Debug, Default)]
pub(crate) struct LookupLog {
    trouble: Mutex<Option<Trouble>>,
}

#[derive(Debug, Clone, Copy)]
struct Trouble {
    since: Instant,
    latest: Instant,
    failures: u64,
}

impl LookupLog {
    /// Whether look-ups fail just now.
    pub(crate) fn is_in_trouble(&self) -> bool {
        lock(&self.trouble).is_some()
    }

    pub(crate) fn failed(&self, limit: &str, error: &LookupError) {
        if self.note_failure(Instant::now()) {
            tracing::warn!(
                limit,
                error = %error,
                "the limit of a key could not be looked up; limits that are known stay in force"
            );
        }
    }

    /// `retried` says whether the look-up of that key had failed before.
    pub(crate) fn succeeded(&self, limit: &str, retried: bool) {
        if let Some(Trouble { since, failures, .. }) = self.note_success(Instant::now(), retried) {
            let lasted = since.elapsed();
            tracing::info!(limit, failures, ?lasted, "limits are looked up again");
        }
    }

    /// True for the first one.
    fn note_failure(&self, now: Instant) -> bool {
        let mut trouble = lock(&self.trouble);
        let is_first = trouble.is_none();
        let trouble = trouble.get_or_insert(Trouble { since: now, latest: now, failures: 0 });
        trouble.latest = now;
        trouble.failures += 1;
        is_first
    }

    /// The trouble that is over by it. The success of a key that never failed says nothing: others
    /// may be ones that the source does not know.
    fn note_success(&self, now: Instant, retried: bool) -> Option<Trouble> {
        let mut trouble = lock(&self.trouble);
        let latest = trouble.as_ref()?.latest;
        if retried || now.saturating_duration_since(latest) >= QUIET {
            return trouble.take();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn trouble_is_told_once_and_its_end_with_the_count() {
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
        assert!(log.is_in_trouble());
        assert_eq!(log.note_success(start + 2 * QUIET, false).unwrap().failures, 1);
        assert!(!log.is_in_trouble());
    }
}
