//! Reads and changes of the state that only tests make.

use crate::error::StoreError;
use crate::id::PermitId;
use crate::numbers::Incarnation;

use super::deadlines::Deadlines;
use super::{Instant, SemaphoreState};

impl SemaphoreState {
    pub(in super::super) fn waiter_ids(&self) -> impl Iterator<Item = PermitId> {
        self.waiters.ids()
    }

    pub(in super::super) fn waiter_id(&self, counter: u64) -> Option<PermitId> {
        self.waiters.id(counter)
    }

    pub(in super::super) fn has_waiters(&self) -> bool {
        !self.waiters.is_empty()
    }

    pub(in super::super) fn queue_len(&self) -> usize {
        self.waiters.queue_len()
    }

    pub(in super::super) fn remembered_newcomers(&self) -> usize {
        self.waiters.newcomers()
    }

    pub(in super::super) fn held_ids(&self) -> impl Iterator<Item = PermitId> {
        self.permits.ids()
    }

    pub(in super::super) fn holds(&self, counter: u64) -> bool {
        self.permits.contains(counter)
    }

    pub(in super::super) fn deadlines(&mut self) -> &mut Deadlines {
        self.permits.deadlines()
    }

    pub(in super::super) fn removals(&self) -> usize {
        self.removals.len()
    }

    pub(in super::super) fn incarnation(&self) -> Option<Incarnation> {
        self.known.incarnation()
    }

    pub(in super::super) fn renew_now(&mut self, counter: u64) {
        self.permits.renew_now(counter);
    }

    /// Puts permits before waiters, as on a new connection.
    pub(in super::super) fn recover_permits(&mut self) {
        self.permits.reconnected();
    }

    pub(in super::super) fn turn_failed(&mut self, error: &StoreError, now: Instant) {
        let change = self.outage.turn_failed(error, now, now);
        self.wake_on(change);
    }

    pub(in super::super) fn pause(&mut self, now: Instant) {
        self.outage.pause(now, None);
    }
}
