//! One wait for a permit, from its first poll to its end.

use tokio::time::Instant;

use super::outcome::WaitOutcome;
use super::semaphore::Meter;
use crate::compact_instant::CompactInstant;

/// When a wait began, if somebody listens; nothing before its first poll, and nothing after its end. So each wait counts
/// once.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Option<CompactInstant>);

impl Waiting {
    pub(crate) fn begin(meter: &Meter, now: Instant) -> Self {
        Self(meter.0.as_ref().map(|_| now.into()))
    }

    /// The wait has ended at `now`.
    pub(crate) fn end(
        &mut self,
        meter: &Meter,
        outcome: WaitOutcome,
        now: impl FnOnce() -> Instant,
    ) {
        if let (Some(began), Some(instruments)) = (self.0.take(), &meter.0) {
            let waited = now().saturating_duration_since(began.into());
            instruments.waited(outcome).record(waited);
        }
    }
}
