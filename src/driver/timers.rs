//! The driver's timers: one for each semaphore. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::cell::SemaphoreCell;
use super::state::TimerMove;

#[derive(Debug, Default)]
pub(super) struct Timers {
    by_instant: BTreeMap<(Instant, u64), Arc<SemaphoreCell>>,
}

impl Timers {
    /// Moves the timer of a semaphore.
    pub(super) fn set(&mut self, cell: &Arc<SemaphoreCell>, TimerMove { from, to }: TimerMove) {
        if from == to {
            return;
        }
        if let Some(at) = from {
            self.by_instant.remove(&(at, cell.key()));
        }
        if let Some(at) = to {
            self.by_instant.insert((at, cell.key()), Arc::clone(cell));
        }
    }

    /// Forgets the timer that stands at `at`.
    pub(super) fn forget(&mut self, cell: &SemaphoreCell, at: Option<Instant>) {
        if let Some(at) = at {
            self.by_instant.remove(&(at, cell.key()));
        }
    }

    pub(super) fn first(&self) -> Option<Instant> {
        self.by_instant.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the first timer, if it is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Arc<SemaphoreCell>> {
        let first = self.by_instant.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}
