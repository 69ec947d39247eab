//! The permits that are held: inserted by a grant, renewed, and removed by a release or a loss. Pure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use crate::hold::Hold;
use crate::lease;
use crate::lost_reason::LostReason;
use crate::numbers::{Incarnation, Millis, TurnNumber};
use crate::options::{Options, Renew};
use crate::store::CLAIM;

use super::super::deferred::{Effect, Effects, ExtendDone};
use super::after_turn::{AfterTurn, OldestInFlight};
use super::batch::{Batch, SHARE};
use super::deadlines::Deadlines;
use super::lease_counts::LeaseCounts;
use super::removal::{Ended, Grant};

/// How many renewals that are not due yet are piggybacked on a turn at the most.
const PIGGYBACK: usize = 64;
/// By how much a list may be longer than twice what it stands for.
const SLACK: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Permits {
    held: FxHashMap<u64, Held>,
    deadlines: Deadlines,
    leases: LeaseCounts,
    /// Due for renewal. May name permits that have gone.
    renewing: VecDeque<u64>,
    recovery: Recovery,
}

/// Whether waiters stand back, so that they do not take the room of those who hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Recovery {
    #[default]
    None,
    /// The store may have lost its data: the next answer tells.
    Reconnected,
    /// The store has lost its data: permits are being put back.
    DataLost,
}

#[derive(Debug)]
struct Held {
    hold: Arc<Hold>,
    options: Arc<Options>,
    /// Under which the store last had it.
    incarnation: Option<Incarnation>,
    renewal: Renewal,
    /// The end of its lease, counted from when the turn that gave it was sent.
    lease_end: Instant,
    /// How long the store may keep it, if a renewal was sent.
    server_until: Instant,
    /// The last turn that may name it as a waiter: it is not named before that has landed.
    named_by: AfterTurn,
    /// The last turn that was to renew it.
    renewed_by: AfterTurn,
    /// Granted by a foreign turn, and not confirmed yet.
    claim: bool,
    extends: Vec<(Millis, ExtendDone)>,
    /// When it next needs a look, as `deadlines` has it.
    next_look: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Renewal {
    At(Instant),
    /// In `renewing`, or named by a turn in flight.
    UnderWay,
    Never,
}

/// A grant to a waiter.
#[derive(Debug)]
pub(super) struct NewPermit {
    pub(super) hold: Arc<Hold>,
    pub(super) options: Arc<Options>,
    pub(super) incarnation: Option<Incarnation>,
    /// The earliest that the lease can have begun.
    pub(super) counted_from: Instant,
    /// What the grant gives: a full lease, or a claim.
    pub(super) lease: Duration,
    pub(super) named_by: AfterTurn,
}

/// A permit that is no longer held here.
#[must_use = "a permit that has ended here must end in the store"]
#[derive(Debug)]
pub(super) struct EndedPermit {
    pub(super) ended: Ended,
    pub(super) hold: Arc<Hold>,
    pub(super) grant: Grant,
    /// A turn up to this one may bring it back.
    pub(super) after: AfterTurn,
    /// How long the store may keep it.
    pub(super) server_until: Instant,
    pub(super) extends: Vec<(Millis, ExtendDone)>,
}

impl Held {
    fn new(new: NewPermit, now: Instant) -> Self {
        let NewPermit { hold, options, incarnation, counted_from, lease, named_by } = new;
        let until = hold.lease_until();
        let claim = lease < hold.id.lease();
        let renewal = match options.renew {
            _ if claim => Renewal::At(lease::confirm_at(now, until)),
            Renew::Auto => Renewal::At(lease::renew_at(counted_from, lease)),
            Renew::Manual => Renewal::Never,
        };
        let mut held = Self {
            hold,
            options,
            incarnation,
            renewal,
            lease_end: counted_from + lease,
            server_until: until,
            named_by,
            renewed_by: AfterTurn::NONE,
            claim,
            extends: Vec::new(),
            next_look: until,
        };
        held.next_look = held.next();
        held
    }

    /// When it next needs a look, as things stand.
    fn next(&self) -> Instant {
        let mut next = self.hold.deadline();
        if let Renewal::At(at) = self.renewal {
            next = next.min(at);
        }
        next
    }

    /// The lease that it is renewed for, or the claim that it is until then.
    fn counted_as(&self) -> Duration {
        if self.claim { CLAIM.duration() } else { self.hold.id.lease() }
    }

    /// Whether the outcome of that turn is what its renewal waits for.
    fn is_renewed_by(&self, turn: TurnNumber) -> bool {
        self.renewal == Renewal::UnderWay && self.renewed_by.is(turn)
    }

    /// For how long from `now` a renewal is to hold it: as long as those who extend it ask, and at least
    /// for its own lease. A fixed lease is named so that it can be put back, but gets no longer.
    fn lease_to_ask(&self, now: Instant) -> Millis {
        let own = if self.options.renew == Renew::Auto || self.claim {
            self.hold.id.lease_ms()
        } else {
            Millis::from(self.lease_end.saturating_duration_since(now))
        };
        self.extends.iter().map(|&(lease, _)| lease).max().map_or(own, |asked| own.max(asked))
    }

    /// Puts its renewal into the turn.
    fn put(&mut self, batch: &mut Batch, slack: Duration) {
        let lease = self.lease_to_ask(batch.sent());
        self.server_until = self.server_until.max(batch.sent() + slack + lease.duration());
        self.renewal = Renewal::UnderWay;
        self.renewed_by = batch.number().into();
        batch.renew(self.hold.id, lease, self.incarnation);
    }

    /// Why it is lost by the clock, if it is.
    fn lost_by_clock(&self, now: Instant) -> Option<LostReason> {
        let ended = self.hold.has_ended().then(|| by_lease(&self.options));
        ended.or_else(|| self.hold.lost_by_clock(now))
    }
}

/// Why a permit is lost when its lease is over.
pub(super) fn by_lease(options: &Options) -> LostReason {
    match options.renew {
        Renew::Auto => LostReason::RenewalTimeout,
        Renew::Manual => LostReason::Expired,
    }
}

impl Permits {
    pub(super) fn insert(&mut self, new: NewPermit, now: Instant) {
        let counter = new.hold.id.counter();
        let held = Held::new(new, now);
        self.deadlines.put(held.next_look, counter);
        self.leases.add(held.counted_as());
        self.held.insert(counter, held);
    }

    pub(super) fn remove(&mut self, counter: u64) -> Option<EndedPermit> {
        let held = self.held.remove(&counter)?;
        self.leases.remove(held.counted_as());
        self.shrink_lists();
        Some(EndedPermit {
            ended: Ended::sent(held.hold.id),
            grant: Grant {
                token: held.hold.token,
                incarnation: held.incarnation,
                alive_until: held.hold.lease_until(),
            },
            hold: held.hold,
            after: held.named_by.max(held.renewed_by),
            server_until: held.server_until,
            extends: held.extends,
        })
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
        if let Some(held) = self.held.get_mut(&counter) {
            held.extends.push((lease, done));
            self.renew_now(counter);
        }
    }

    /// Takes out what asks for a longer lease.
    pub(super) fn take_extends(&mut self) -> impl Iterator<Item = ExtendDone> {
        let extends = self.held.values_mut().flat_map(|held| held.extends.drain(..));
        extends.map(|(_, done)| done)
    }

    pub(super) fn renew_now(&mut self, counter: u64) {
        let Some(held) = self.held.get_mut(&counter) else { return };
        if held.renewal != Renewal::UnderWay {
            held.renewal = Renewal::UnderWay;
            self.renewing.push_back(counter);
            self.move_deadline(counter);
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

    /// Whether waiters stand back until permits are put back.
    pub(super) fn is_recovering(&self) -> bool {
        self.recovery != Recovery::None
    }

    /// Ends the recovery where all permits are named by this turn or by those before it.
    pub(super) fn end_recovery_if_all_are_named(&mut self) {
        if self.renewing.is_empty() {
            self.recovery = Recovery::None;
        }
    }

    /// Ends the recovery once all that is held is known under the present incarnation: where leases are
    /// short next to the round trip, some renewal is in flight at any time.
    pub(super) fn end_recovery_if_all_are_known(&mut self, incarnation: Option<Incarnation>) {
        if self.recovery == Recovery::DataLost
            && self.renewing.len() <= SHARE // else there are more, and to look at all costs too much
            && self.held.values().all(|held| held.incarnation == incarnation)
        {
            self.recovery = Recovery::None;
        }
    }

    /// Whether something is due for renewal. Forgets first what needs none any more.
    pub(super) fn has_due_renewals(&mut self) -> bool {
        let waits = |held: &Held| held.renewal == Renewal::UnderWay;
        while self.renewing.front().is_some_and(|it| !self.held.get(it).is_some_and(waits)) {
            self.renewing.pop_front();
        }
        !self.renewing.is_empty()
    }

    /// As [`has_due_renewals`](Self::has_due_renewals), without a look at each: it may err on the side
    /// of yes.
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
            if held.renewal != Renewal::UnderWay || held.renewed_by.is(batch.number()) {
                continue; // answered meanwhile, or on the list twice
            }
            let is_named = !oldest.is_past(held.named_by) && !batch.is_renewals_only();
            if is_named || !batch.fits_incarnation(held.incarnation) {
                others.push(counter);
            } else {
                held.put(batch, slack);
            }
        }
        self.renewing.extend(others);
        self.piggyback(batch, oldest, slack);
    }

    /// Puts renewals into the turn that are nearly due: a claim becomes a full lease without a turn of
    /// its own, and permits granted at different times come to be renewed together.
    fn piggyback(&mut self, batch: &mut Batch, oldest: OldestInFlight, slack: Duration) {
        let most = SHARE.saturating_sub(batch.renewals()).min(PIGGYBACK);
        let (mut looked_at, mut named) = (Vec::new(), Vec::new());
        while looked_at.len() < most
            && let Some((at, counter)) = self.next_due()
            && let Some(held) = self.held.get_mut(&counter)
            && at <= batch.sent() + lease::piggyback(held.hold.id.lease())
        {
            self.deadlines.pop();
            looked_at.push((at, counter));
            if held.renewal == Renewal::At(at)
                && batch.fits_incarnation(held.incarnation)
                && oldest.is_past(held.named_by)
            {
                held.put(batch, slack);
                named.push(counter);
            }
        }
        for (at, counter) in looked_at {
            self.deadlines.put(at, counter);
        }
        for counter in named {
            self.move_deadline(counter);
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
        if held.hold.deadline() <= now {
            return; // lost already: the next tick says so
        }
        held.incarnation = Some(incarnation);
        if std::mem::take(&mut held.claim) {
            self.leases.remove(CLAIM.duration());
            self.leases.add(held.hold.id.lease());
        }
        held.lease_end = held.lease_end.max(sent + lease.duration());
        held.hold.extend(lease::provable_until(sent, lease.duration()));
        // More was asked for while this turn was under way.
        let (more, done): (Vec<_>, Vec<_>) =
            std::mem::take(&mut held.extends).into_iter().partition(|(asked, _)| *asked > lease);
        held.extends = more;
        effects.extend(done.into_iter().map(|(_, done)| Effect::Extended(done, Ok(()))));
        let more_asked = !held.extends.is_empty();
        held.renewal = match held.options.renew {
            Renew::Auto => Renewal::At(lease::renew_at(sent, held.hold.id.lease())),
            Renew::Manual => Renewal::Never,
        };
        self.move_deadline(counter);
        if more_asked {
            self.renew_now(counter);
        }
    }

    /// The permit that next needs a look, and when.
    fn next_due(&mut self) -> Option<(Instant, u64)> {
        self.deadlines.first(|counter| Some(self.held.get(&counter)?.next_look))
    }

    /// When some permit next needs a look.
    pub(super) fn next_look(&mut self) -> Option<Instant> {
        self.next_due().map(|(at, _)| at)
    }

    fn move_deadline(&mut self, counter: u64) {
        let Some(held) = self.held.get_mut(&counter) else { return };
        let next = held.next();
        if next != held.next_look {
            held.next_look = next;
            self.deadlines.put(next, counter);
        }
    }

    /// Makes what is due for renewal so, and returns the next permit that is over by the clock, with
    /// the reason.
    pub(super) fn next_lost(&mut self, now: Instant) -> Option<(u64, LostReason)> {
        while let Some((at, counter)) = self.next_due()
            && at <= now
            && let Some(held) = self.held.get(&counter)
        {
            if let Some(reason) = held.lost_by_clock(now) {
                return Some((counter, reason));
            }
            self.renew_now(counter);
        }
        self.shrink_deadlines();
        None
    }

    fn shrink_deadlines(&mut self) {
        let held = &self.held;
        self.deadlines.forget(held.len(), |counter| Some(held.get(&counter)?.next_look));
    }

    /// Keeps the lists that may name permits that have gone in proportion, also while no turn empties
    /// them.
    fn shrink_lists(&mut self) {
        self.shrink_deadlines();
        if self.renewing.len() > 2 * self.held.len() + SLACK {
            self.renewing.retain(|counter| self.held.contains_key(counter));
        }
    }
}

#[cfg(test)]
impl Permits {
    pub(super) fn ids(&self) -> impl Iterator<Item = crate::id::PermitId> {
        self.held.values().map(|held| held.hold.id)
    }

    pub(super) fn deadlines(&mut self) -> &mut Deadlines {
        &mut self.deadlines
    }
}
