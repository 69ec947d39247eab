//! The permits that are held: inserted by a grant, renewed, and removed by a release or a loss. Pure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use crate::compact_instant::CompactInstant;
use crate::hold::Hold;
use crate::lease;
use crate::lost_reason::LostReason;
use crate::numbers::{Incarnation, Millis, TurnNumber};
use crate::shrink::Shrink;

use super::super::deferred::{Effect, Effects, ExtendDone};
use super::after_turn::OldestInFlight;
use super::batch::{Batch, SHARE};
use super::deadlines::Deadlines;
use super::extends::Extends;
use super::held::{EndedPermit, Held, NewPermit};
use super::lease_counts::LeaseCounts;

/// How many renewals that are not due yet are piggybacked on a turn at the most.
const PIGGYBACK: usize = 64;
/// By how much a list may be longer than twice the number of its living entries.
const SLACK: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Permits {
    held: FxHashMap<u64, Held>,
    deadlines: Deadlines,
    leases: LeaseCounts,
    extends: Extends,
    /// Due for renewal. May name permits that have gone.
    renewing: VecDeque<u64>,
    recovery: Recovery,
}

/// Whether waiters are held back, so that they do not take the units of permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Recovery {
    #[default]
    None,
    /// The store may have lost its data: the next answer tells.
    Reconnected,
    /// The store has lost its data: permits are being put back.
    DataLost,
}

impl Permits {
    pub(super) fn insert(&mut self, new: NewPermit, now: Instant) {
        let counter = new.hold.id.counter();
        let held = Held::new(new, now);
        self.deadlines.put(held.next_look(), counter);
        self.leases.add(held.counted_as());
        self.held.insert(counter, held);
    }

    #[must_use]
    pub(super) fn remove(&mut self, counter: u64) -> Option<EndedPermit> {
        let held = self.held.remove(&counter)?;
        self.leases.remove(held.counted_as());
        self.shrink_lists();
        Some(held.ended())
    }

    pub(super) fn hold(&self, counter: u64) -> Option<Arc<Hold>> {
        self.held.get(&counter).map(Held::hold)
    }

    /// Ends the renewals of a permit that its holder still has to give back.
    pub(super) fn leave_to_holder(&mut self, counter: u64) {
        let Some(held) = self.held.get_mut(&counter) else { return };
        held.end_renewals();
        self.deadlines.put(held.next_look(), counter);
    }

    pub(super) fn contains(&self, counter: u64) -> bool {
        self.held.contains_key(&counter)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn counters(&self) -> Vec<u64> {
        self.held.keys().copied().collect()
    }

    /// The shortest lease of a permit that is held.
    pub(super) fn shortest_lease(&self) -> Option<Duration> {
        self.leases.shortest()
    }

    /// Asks for a longer lease; drops `done` where the permit is not held.
    pub(super) fn extend(&mut self, counter: u64, lease: Millis, done: ExtendDone) {
        if self.held.contains_key(&counter) {
            self.extends.add(counter, lease, done);
            self.renew_now(counter);
        }
    }

    /// Takes out those who ask for a longer lease of a permit.
    pub(super) fn take_extends(
        &mut self,
        counter: u64,
    ) -> impl Iterator<Item = ExtendDone> + use<> {
        self.extends.take(counter)
    }

    /// Takes out all who ask for a longer lease.
    pub(super) fn take_all_extends(&mut self) -> impl Iterator<Item = ExtendDone> + use<> {
        self.extends.take_all()
    }

    pub(super) fn renew_now(&mut self, counter: u64) {
        let held = self.held.get_mut(&counter);
        if held.is_some_and(Held::begin_renewal) {
            self.renewing.push_back(counter);
        }
    }

    fn renew_all(&mut self) {
        for counter in self.counters() {
            self.renew_now(counter);
        }
    }

    /// On a new connection: whether the store has kept its data is not known.
    pub(super) fn reconnected(&mut self) {
        if self.recovery == Recovery::None {
            self.recovery = Recovery::Reconnected;
        }
        self.renew_all();
    }

    /// The store has lost its data: all that is held is to be put back.
    pub(super) fn data_lost(&mut self) {
        self.recovery = Recovery::DataLost;
        self.renew_all();
    }

    /// The store has kept its data.
    pub(super) fn data_kept(&mut self) {
        if self.recovery == Recovery::Reconnected {
            self.recovery = Recovery::None;
        }
    }

    /// Returns whether waiters are held back until permits are put back.
    pub(super) fn is_recovering(&self) -> bool {
        self.recovery != Recovery::None
    }

    /// Ends the recovery where all permits are named by this turn or by those before it.
    pub(super) fn end_recovery_if_all_are_named(&mut self) {
        if self.renewing.is_empty() {
            self.recovery = Recovery::None;
        }
    }

    /// Ends the recovery once all permits held are known under the present incarnation. It cannot wait until
    /// no renewal is in flight: if leases are short compared with the round trip, one always is.
    pub(super) fn end_recovery_if_all_are_known(&mut self, incarnation: Option<Incarnation>) {
        if self.recovery == Recovery::DataLost
            && self.renewing.len() <= SHARE // else there are more, and to look at all costs too much
            && self.held.values().all(|held| {
                held.incarnation() == incarnation || held.is_left_to_holder()
            })
        {
            self.recovery = Recovery::None;
        }
    }

    /// Returns whether a permit is due for renewal. It first drops entries that need no renewal any more.
    pub(super) fn has_due_renewals(&mut self) -> bool {
        let held = &self.held;
        let is_due = |counter: &u64| held.get(counter).is_some_and(Held::is_under_renewal);
        while self.renewing.front().is_some_and(|counter| !is_due(counter)) {
            self.renewing.pop_front();
        }
        !self.renewing.is_empty()
    }

    /// A cheap form of [`has_due_renewals`](Self::has_due_renewals). It does not look at each permit, so it
    /// may wrongly return true.
    pub(super) fn may_have_due_renewals(&self) -> bool {
        !self.renewing.is_empty()
    }

    /// Puts what is due for renewal into the turn, and what is nearly due. Its answer is awaited for
    /// `slack` at the most.
    pub(super) fn put(&mut self, batch: &mut Batch, oldest: OldestInFlight, slack: Duration) {
        let mut others = Vec::new(); // for the next turn
        while batch.fits_renewal()
            && let Some(counter) = self.renewing.pop_front()
        {
            let Some(held) = self.held.get_mut(&counter) else { continue };
            if !held.is_under_renewal() || held.was_named_to_renew(batch.number()) {
                continue; // answered meanwhile, or on the list twice
            }
            let is_named = !held.may_be_named(oldest) && !batch.is_renewals_only();
            if is_named || !batch.fits_incarnation(held.incarnation()) {
                others.push(counter);
            } else {
                held.put(batch, self.extends.longest(counter), slack);
            }
        }
        self.renewing.extend(others);
        self.piggyback(batch, oldest, slack);
    }

    /// Puts renewals into the turn that are nearly due: a claim becomes a full lease without a turn of
    /// its own, and permits granted at different times come to be renewed together.
    fn piggyback(&mut self, batch: &mut Batch, oldest: OldestInFlight, slack: Duration) {
        let most = SHARE.saturating_sub(batch.renewals()).min(PIGGYBACK);
        let mut looked_at = Vec::new();
        while looked_at.len() < most
            && let Some((at, counter)) = self.next_due()
            && let Some(held) = self.held.get_mut(&counter)
            && at <= (batch.sent() + lease::piggyback(held.lease())).into()
        {
            self.deadlines.pop();
            if held.is_renewed_at(at)
                && batch.fits_incarnation(held.incarnation())
                && held.may_be_named(oldest)
            {
                held.put_early(batch, self.extends.longest(counter), slack);
            }
            looked_at.push((held.next_look(), counter));
        }
        for (at, counter) in looked_at {
            self.deadlines.put(at, counter);
        }
    }

    /// The answer to the turn is late: what it renews is due again, and may be named beside it.
    pub(super) fn due_again(&mut self, turn: TurnNumber, renewed: &[(u64, Millis)]) {
        let waits = |counter: &u64| self.held.get(counter).is_some_and(|it| it.is_renewed_by(turn));
        self.renewing.extend(renewed.iter().map(|&(counter, _)| counter).filter(waits));
    }

    /// The turn that was sent at `sent` has renewed the permit for `lease`.
    pub(super) fn renewed(
        &mut self,
        counter: u64,
        (lease, sent): (Millis, Instant),
        incarnation: Incarnation,
        now: Instant,
        effects: &mut Effects,
    ) {
        let Some(held) = self.held.get_mut(&counter) else { return };
        if held.is_over(now) || held.is_left_to_holder() {
            return; // lost already: the next tick says so, or has said so
        }
        let (counted_as, looked_at) = (held.counted_as(), held.next_look());
        held.renewed(lease, sent, incarnation);
        if held.counted_as() != counted_as {
            self.leases.remove(counted_as);
            self.leases.add(held.counted_as());
        }
        if held.next_look() != looked_at {
            self.deadlines.put(held.next_look(), counter);
        }
        let satisfied = self.extends.take_satisfied(counter, lease);
        effects.extend(satisfied.map(|done| Effect::Extended(done, Ok(()))));
        if self.extends.asks(counter) {
            self.renew_now(counter);
        }
    }

    /// The permit that next needs a look, and when.
    fn next_due(&mut self) -> Option<(CompactInstant, u64)> {
        self.deadlines.first(|counter| Some(self.held.get(&counter)?.next_look()))
    }

    /// Returns when the next permit needs a look.
    pub(super) fn next_look(&mut self) -> Option<Instant> {
        self.next_due().map(|(at, _)| at.into())
    }

    /// Marks the permits that have become due for renewal. Returns the next permit that the clock has ended,
    /// with the reason.
    pub(super) fn next_lost(&mut self, now: Instant) -> Option<(u64, LostReason)> {
        while let Some((at, counter)) = self.next_due()
            && at <= now.into()
            && let Some(held) = self.held.get_mut(&counter)
        {
            if let Some(reason) = held.lost_by_clock(now) {
                return Some((counter, reason));
            }
            self.deadlines.pop();
            if held.look(now) {
                self.renewing.push_back(counter);
            }
            self.deadlines.put(held.next_look(), counter);
        }
        self.shrink_deadlines();
        None
    }

    fn shrink_deadlines(&mut self) {
        let held = &self.held;
        self.deadlines.forget(held.len(), |counter| Some(held.get(&counter)?.next_look()));
    }

    /// Keeps the lists that may name permits that have gone in proportion, also while no turn empties
    /// them.
    fn shrink_lists(&mut self) {
        self.shrink_deadlines();
        if self.renewing.len() > 2 * self.held.len() + SLACK {
            self.renewing.retain(|counter| self.held.contains_key(counter));
        }
        self.held.shrink_in_use();
        self.renewing.shrink_in_use();
    }

    /// Gives back the memory of a burst, while nothing is held.
    pub(super) fn shrink_idle(&mut self) {
        self.held.shrink_idle();
        self.renewing.shrink_idle();
        self.deadlines.shrink_idle();
    }
}

#[cfg(test)]
impl Permits {
    pub(super) fn ids(&self) -> impl Iterator<Item = crate::id::PermitId> {
        self.held.values().map(Held::id)
    }

    pub(super) fn deadlines(&mut self) -> &mut Deadlines {
        &mut self.deadlines
    }
}
