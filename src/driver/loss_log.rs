//! The log lines about losses: one for all semaphores of a place that notice theirs at about the same time.
//! Pure, except for the log lines.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::state::LostPermits;

/// A loss is logged when no other semaphore has noticed one for this time,
const QUIET: Duration = Duration::from_millis(500);
/// or when the first one noticed it this long ago.
const LONGEST: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct LossLog {
    tell_at: Option<Instant>,
    tell_by: Option<Instant>,
    data: LostData,
    permits: LostPermits,
    /// The semaphore of the oldest permit that was lost.
    oldest_of: Option<Arc<str>>,
}

/// What the store has lost.
#[derive(Debug, Default)]
struct LostData {
    semaphores: usize,
    held: usize,
}

impl LossLog {
    /// The data of one more semaphore was lost, under `held` permits.
    pub(super) fn note_data(&mut self, held: usize, now: Instant) {
        self.data.semaphores += 1;
        self.data.held += held;
        self.tell_soon(now);
    }

    /// Permits of a semaphore were lost.
    pub(super) fn note_permits(&mut self, name: &Arc<str>, lost: LostPermits, now: Instant) {
        if self.permits.add(lost) {
            self.oldest_of = Some(Arc::clone(name));
        }
        self.tell_soon(now);
    }

    fn tell_soon(&mut self, now: Instant) {
        let by = *self.tell_by.get_or_insert(now + LONGEST);
        self.tell_at = Some(by.min(now + QUIET));
    }

    /// Returns when to write the log lines, if there are any to write.
    pub(super) fn tell_at(&self) -> Option<Instant> {
        self.tell_at
    }

    pub(super) fn tell(&mut self, store: &str) {
        let Self { data, permits, oldest_of, .. } = std::mem::take(self);
        if data.semaphores > 0 {
            tracing::warn!(
                store,
                semaphores = data.semaphores,
                held = data.held,
                "another server took over, or one that lost its data; putting permits and waiters back"
            );
        }
        if let Some((token, id)) = permits.oldest() {
            tracing::warn!(
                store,
                permits = permits.len(),
                why = %permits,
                oldest = %id,
                token = token.get(),
                semaphore = oldest_of.as_deref(),
                "permits were lost before they were released"
            );
        }
    }
}
