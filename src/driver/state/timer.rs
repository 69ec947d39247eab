//! Where the driver's timer for one semaphore stands. Pure.

use tokio::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Timer {
    set_to: Option<Instant>,
    /// The earliest instant at which an inline turn wants the driver to look, even if the cause is over by
    /// then.
    look_by: Option<Instant>,
}

impl Timer {
    /// Returns whether `next` comes before the timer does.
    pub(super) fn is_late_for(&self, next: Option<Instant>) -> bool {
        next.is_some_and(|at| self.set_to.is_none_or(|set_to| at < set_to))
    }

    /// Wants the driver to look earlier than its timer says; returns whether it must.
    pub(super) fn hasten(&mut self, next: Option<Instant>) -> bool {
        let sooner = self.is_late_for(next);
        if sooner {
            self.look_by = next;
        }
        sooner
    }

    /// The timer has fired.
    pub(super) fn fired(&mut self) {
        self.set_to = None;
    }

    /// The state gets another driver. Returns the instant to which the present one has set the timer.
    pub(super) fn take(&mut self) -> Option<Instant> {
        self.set_to.take()
    }

    /// Sets the timer, and returns its old and its new instant. The timer is not moved to a later instant,
    /// because the next permit would move it forward again. So it may fire in vain, once.
    pub(super) fn set(&mut self, next: Option<Instant>) -> TimerMove {
        let from = self.set_to;
        self.set_to = [next, self.look_by.take(), from].into_iter().flatten().min();
        TimerMove { from, to: self.set_to }
    }
}

/// A change of a timer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimerMove {
    pub(crate) from: Option<Instant>,
    pub(crate) to: Option<Instant>,
}
