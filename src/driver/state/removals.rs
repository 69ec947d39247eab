//! The list of ids that the next turns remove from the store: released, cancelled, lost. Pure.
//!
//! # Implementation
//!
//! An id stays on the list until a turn that names it is answered, or until the store has forgotten it by
//! itself. It goes out only after all turns that may name it have landed, because such a turn may run later
//! and bring the id back.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashSet;
use tokio::time::Instant;

use crate::error::ReleaseError;
use crate::id::PermitId;
use crate::numbers::Incarnation;
use crate::shrink::Shrink;
use crate::store::CLAIM;

use super::super::deferred::{Effect, Effects, ReleaseDone};
use super::after_turn::{AfterTurn, OldestInFlight};
use super::batch::Batch;
use super::removal::{Ended, Grant, Removal, RemovalKind};

/// The minimum time between two searches of the list for ids that the store has forgotten.
const FORGET_EVERY: Duration = Duration::from_millis(10);

#[derive(Debug, Default)]
pub(super) struct Removals {
    list: VecDeque<Removal>,
    /// Nothing is to be forgotten before this.
    forget_at: Option<Instant>,
    /// The driver has ended: nobody removes anything any more.
    closed: bool,
}

impl Removals {
    /// Removes an id from the queue or from the permits, wherever it is. `held_until` is how long the
    /// store may keep it as things stand.
    pub(super) fn cancel(&mut self, ended: Ended, after: AfterTurn, held_until: Instant) {
        let Some(id) = ended.into_removable() else { return };
        let forget_at = held_until + longest_grant(id) * 2;
        let (kind, retried, done) = (RemovalKind::Cancel, false, None);
        self.list_if_open(Removal { id, kind, after, forget_at, retried, done }, &mut Vec::new());
    }

    /// As [`cancel`](Self::cancel), of an id that may be on the list already.
    pub(super) fn cancel_stray(&mut self, id: PermitId, after: AfterTurn, held_until: Instant) {
        if !self.list.iter().any(|removal| removal.id == id) {
            self.cancel(Ended::sent(id), after, held_until);
        }
    }

    /// Removes again what was removed from data that a server may have lost.
    pub(super) fn cancel_again(&mut self, removed: impl Iterator<Item = Removal>) {
        let listed: FxHashSet<PermitId> = self.list.iter().map(|removal| removal.id).collect();
        for removal in removed.filter(|removal| !listed.contains(&removal.id)) {
            self.list_if_open(removal, &mut Vec::new());
        }
    }

    /// Removes a permit that was released.
    pub(super) fn release(
        &mut self,
        ended: Ended,
        grant: Grant,
        after: AfterTurn,
        forget_at: Instant,
        done: Option<ReleaseDone>,
        effects: &mut Effects,
    ) {
        let Some(id) = ended.into_removable() else { return };
        let (kind, retried) = (RemovalKind::Release(grant), false);
        self.list_if_open(Removal { id, kind, after, forget_at, retried, done }, effects);
    }

    /// Puts back on the list what a turn has named that did nothing or had no answer.
    pub(super) fn list_again(&mut self, removal: Removal, effects: &mut Effects) {
        self.list_if_open(removal, effects);
    }

    fn list_if_open(&mut self, removal: Removal, effects: &mut Effects) {
        if self.closed {
            effects.extend(removal.done.map(closed));
            return;
        }
        let at = removal.forget_at;
        self.forget_at = Some(self.forget_at.map_or(at, |other| other.min(at)));
        self.list.push_back(removal);
    }

    /// Drops the ids that the store has forgotten by itself.
    pub(super) fn forget(&mut self, oldest: OldestInFlight, now: Instant, effects: &mut Effects) {
        if self.forget_at.is_none_or(|at| at > now) {
            return;
        }
        let held_up = |it: &&mut Removal| it.is_cancel() && !oldest.is_past(it.after);
        for removal in self.list.iter_mut().filter(held_up) {
            // The turn that names it may run only now.
            removal.forget_at = removal.forget_at.max(now + longest_grant(removal.id));
        }
        let (over, left) = std::mem::take(&mut self.list)
            .into_iter()
            .partition::<VecDeque<_>, _>(|removal| removal.forget_at <= now);
        self.list = left;
        // The list is not searched again at once: in an outage it may have many ids that end at different
        // times.
        let next = self.list.iter().map(|removal| removal.forget_at).min();
        self.forget_at = next.map(|at| at.max(now + FORGET_EVERY));
        let unconfirmed = |done| Effect::Released(done, Err(ReleaseError::Unconfirmed));
        effects.extend(over.into_iter().filter_map(|removal| removal.done).map(unconfirmed));
    }

    /// Returns when the list is next searched for ids that the store has forgotten.
    pub(super) fn forget_at(&self) -> Option<Instant> {
        self.forget_at
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Returns how many of the first `most` may go out now.
    pub(super) fn ready(&self, oldest: OldestInFlight, most: usize) -> usize {
        self.list.iter().take(most).filter(|removal| oldest.is_past(removal.after)).count()
    }

    /// Puts what may go out into the turn. Its answer is awaited until `answered_by`.
    pub(super) fn put(
        &mut self,
        batch: &mut Batch,
        oldest: OldestInFlight,
        answered_by: Instant,
        incarnation: Option<Incarnation>,
    ) {
        let mut releases = Vec::new();
        let mut room = batch.room_for_removals();
        while room > 0
            && self.list.front().is_some_and(|next| oldest.is_past(next.after))
            && let Some(removal) = self.list.pop_front()
        {
            room -= 1;
            if removal.is_cancel() {
                batch.cancel(removal);
            } else {
                releases.push(removal);
            }
        }
        self.list.shrink_in_use();
        batch.release(releases, |removal| removal.vouched_token(answered_by, incarnation));
    }

    /// Gives back the memory of a burst, while nothing is left to remove.
    pub(super) fn shrink_idle(&mut self) {
        self.list.shrink_idle();
    }

    /// The driver has ended: `carried` are the releases that turns in flight carry.
    pub(super) fn close(&mut self, carried: impl Iterator<Item = Removal>, effects: &mut Effects) {
        self.closed = true;
        let unanswered = carried.chain(self.list.drain(..)).filter_map(|removal| removal.done);
        effects.extend(unanswered.map(closed));
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }
}

fn closed(done: ReleaseDone) -> Effect {
    Effect::Released(done, Err(ReleaseError::Closed))
}

/// Returns how long an id that the store has just heard of may be held there: for its lease, or while a
/// waiter of a silent client can still be granted a claim.
fn longest_grant(id: PermitId) -> Duration {
    id.lease().max(CLAIM.duration() * 2)
}
