//! One wait for a permit, from its first poll to its end.

use std::sync::Arc;

use tokio::time::Instant;

use super::outcome::WaitOutcome;
use super::semaphore::{Instruments, Meter};
use crate::compact_instant::CompactInstant;

/// A drop guard that counts a wait exactly once: by its [end](Self::end), or as cancelled if it is dropped before. The
/// caller is a waiter of this process until then.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Option<Begun>);

#[derive(Debug)]
struct Begun {
    instruments: Arc<Instruments>,
    at: CompactInstant,
}

impl Waiting {
    pub(crate) fn begin(meter: &Meter, now: Instant) -> Self {
        Self(meter.0.as_ref().map(|instruments| {
            instruments.waiters.increment(1.0);
            Begun { instruments: Arc::clone(instruments), at: now.into() }
        }))
    }

    /// The wait has ended.
    pub(crate) fn end(&mut self, outcome: WaitOutcome) {
        if let Some(Begun { instruments, at }) = self.0.take() {
            instruments.waiters.decrement(1.0);
            instruments.waited(outcome).record(Instant::from(at).elapsed());
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.end(WaitOutcome::Cancelled);
    }
}
