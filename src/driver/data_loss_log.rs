//! One log line for all semaphores of a client that have a new incarnation. Pure, except for the log line.

use std::time::Duration;

use tokio::time::Instant;

/// A loss is logged when no other semaphore has noticed it for this time,
const QUIET: Duration = Duration::from_millis(500);
/// or when the first one noticed it this long ago.
const LONGEST: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct DataLossLog {
    tell_at: Option<Instant>,
    tell_by: Option<Instant>,
    semaphores: usize,
    held: usize,
}

impl DataLossLog {
    /// The data of one more semaphore was lost, under `held` permits.
    pub(super) fn note(&mut self, held: usize, now: Instant) {
        let by = *self.tell_by.get_or_insert(now + LONGEST);
        self.tell_at = Some(by.min(now + QUIET));
        self.semaphores += 1;
        self.held += held;
    }

    /// Returns when to write the log line, if there is one to write.
    pub(super) fn tell_at(&self) -> Option<Instant> {
        self.tell_at
    }

    pub(super) fn tell(&mut self, store: &str) {
        let Self { semaphores, held, .. } = std::mem::take(self);
        if semaphores > 0 {
            tracing::warn!(
                store,
                semaphores,
                held,
                "another server took over, or one that lost its data; putting permits and waiters back"
            );
        }
    }
}
