//! The state: all that one client knows about one semaphore. Pure: it awaits nothing, calls no store, and
//! gets the time from its caller.
//!
//! # Implementation
//!
//! Each part has its own fields. This file has the moves *between* parts: a waiter becomes a permit, a
//! permit becomes a removal. [`turns`] makes the next turn from the state, and takes in the outcome of a
//! turn. Four rules keep the state correct:
//!
//! - *What ends here ends in the store.* Whatever takes a waiter or a permit out of its part yields an
//!   [`Ended`](removal::Ended), which only [`Removals`] takes; that is emptied only by answered turns or
//!   by time.
//! - *A reply names ids, not places in a list.* If a waiter or a permit has ended before the reply, it is
//!   not found, and its id is already among the removals.
//! - *No id is named by two turns in flight, and none follows a question.* So it does not matter which of
//!   them runs first.
//! - *A wake-up is a hint.* It is a grant only if its token is above the last number of the last turn that
//!   answered "queued" for the id; anything else makes the next turn ask.

mod after_turn;
mod batch;
mod deadlines;
mod declaration;
mod epochs;
mod extends;
mod held;
mod in_flight;
mod known;
mod lease_counts;
mod limits;
mod lost_permits;
mod meetings;
mod outage;
mod permits;
#[cfg(test)]
mod probe;
mod removal;
mod removals;
mod removed;
mod timer;
mod turns;
mod waiter;
mod waiters;

use std::sync::Arc;
use std::task::{Poll, Waker};
#[cfg(feature = "tower")]
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{ExtendError, StoreError};
use crate::hold::Hold;
use crate::id::{ClientId, PermitId};
use crate::lease;
use crate::lost_reason::LostReason;
use crate::metrics::{Meter, StateMeter};
use crate::numbers::{Millis, Replicas, Seq};
use crate::options::Options;
use crate::released::Released;
use crate::store::{WakeUp, WhenFull};

use super::deferred::{Effect, Effects, ExtendDone, ReleaseDone};
use after_turn::AfterTurn;
use declaration::Declaration;
use epochs::Epochs;
use held::{EndedPermit, NewPermit, Term, by_lease};
use in_flight::InFlight;
use known::Known;
use limits::Limits;
use meetings::Meetings;
use outage::{Change, Outage};
use permits::Permits;
use removals::Removals;
use removed::Removed;
use timer::Timer;
use waiter::Left;
use waiters::Waiters;

#[cfg(test)]
pub(super) use deadlines::Deadlines;
pub(super) use lost_permits::LostPermits;
pub(super) use timer::TimerMove;
pub(super) use turns::{Outgoing, STRETCH};
pub(crate) use waiter::WaitEnd;

#[derive(Debug)]
pub(crate) struct SemaphoreState {
    name: Arc<str>,
    client: ClientId,
    label: Arc<str>,
    declaration: Declaration,
    limits: Limits,
    meetings: Meetings,
    /// No new waiters enter.
    closed: bool,
    waiters: Waiters,
    permits: Permits,
    removals: Removals,
    removed: Removed,
    in_flight: InFlight,
    epochs: Epochs,
    known: Known,
    outage: Outage,
    /// Whether a turn is wanted although there may be nothing to say.
    requested: bool,
    timer: Timer,
    notices: Notices,
    meter: StateMeter,
    /// Run by [`SemaphoreCell::with`](super::cell::SemaphoreCell::with), outside the lock.
    effects: Effects,
}

/// Events that the driver is told once.
#[derive(Debug, Default)]
struct Notices {
    /// The store has lost its data.
    data_lost: bool,
    /// A waiter learnt of its grant by asking, so its wake-up was probably lost.
    wake_up_missed: bool,
    /// Permits that were lost. Boxed, because most semaphores lose none.
    lost_permits: Option<Box<LostPermits>>,
}

impl SemaphoreState {
    pub(crate) fn new(name: Arc<str>, client: ClientId) -> Self {
        Self {
            name,
            client,
            label: Arc::from(""),
            declaration: Declaration::default(),
            limits: Limits::default(),
            meetings: Meetings::default(),
            closed: false,
            waiters: Waiters::default(),
            permits: Permits::default(),
            removals: Removals::default(),
            removed: Removed::default(),
            in_flight: InFlight::default(),
            epochs: Epochs::default(),
            known: Known::default(),
            outage: Outage::default(),
            requested: false,
            timer: Timer::default(),
            notices: Notices::default(),
            meter: StateMeter::default(),
            effects: Effects::new(),
        }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Sets where the metrics of this state go from now on.
    pub(super) fn set_meter(&mut self, meter: &Meter) {
        self.meter.set(meter);
    }

    /// Shows in the gauges how things are now.
    pub(super) fn show(&mut self) {
        self.meter.show(self.waiters.waiting_count());
    }

    /// A caller waits until replicas have its grant. It counts as a waiter.
    pub(crate) fn replicating(&mut self) {
        self.meter.replicating();
        self.show();
    }

    /// A caller no longer [waits for replicas](Self::replicating).
    pub(crate) fn replicating_ended(&mut self) {
        self.meter.replicating_ended();
        self.show();
    }

    /// Takes back what the gauges show: the driver has ended, so they would never change.
    pub(super) fn leave_gauges(&mut self) {
        self.meter.end();
    }

    /// Sets a new client id, in a process that was forked.
    pub(super) fn set_client(&mut self, client: ClientId) {
        self.client = client;
        self.declaration.retract();
    }

    pub(super) fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    // Handles and what they know.

    pub(crate) fn add_handle(&mut self, limit: u32, label: &Arc<str>) {
        self.limits.add(limit);
        if !label.is_empty() && self.label != *label {
            self.label = Arc::clone(label);
            self.declaration.retract();
            self.in_flight.retract_declarations();
        }
    }

    pub(crate) fn remove_handle(&mut self, limit: u32) {
        self.limits.remove(limit);
    }

    /// A handle has another limit now. The next turn tells the store.
    pub(crate) fn change_handle(&mut self, before: u32, limit: u32) {
        self.limits.add(limit);
        self.limits.remove(before);
        self.requested |= before != limit;
    }

    /// Counts a handle that wants this grace after a failover.
    pub(crate) fn add_grace(&mut self, grace: Millis) {
        self.meetings.add_grace(grace);
    }

    pub(crate) fn remove_grace(&mut self, grace: Millis) {
        self.meetings.remove_grace(grace);
    }

    /// The limit that [`set_limit`](crate::ZSetSemaphore::set_limit) has set, as far as is known.
    pub(crate) fn limit_override(&self) -> Option<u32> {
        self.known.limit_override()
    }

    /// Returns why there is an outage for those who want grants on this number of replicas.
    pub(crate) fn outage(&self, wanted: Option<Replicas>) -> Option<&StoreError> {
        self.outage.error_for(wanted)
    }

    /// Returns since when there is such an outage. `heard` is when the store last answered anybody.
    #[cfg(feature = "tower")]
    pub(crate) fn away_since(&self, heard: Instant, wanted: Option<Replicas>) -> Option<Instant> {
        self.outage.since(heard, wanted)
    }

    /// Notes that grants have not been on `wanted` replicas since `since`, as far as is known.
    pub(crate) fn too_few_replicas(
        &mut self,
        wanted: Replicas,
        error: StoreError,
        since: Instant,
        now: Instant,
    ) {
        let change = self.outage.too_few_replicas(wanted, error, since, now);
        self.wake_on(change);
    }

    /// Notes that a grant is on `wanted` replicas.
    pub(crate) fn enough_replicas(&mut self, wanted: Replicas) {
        let change = self.outage.enough_replicas(wanted);
        self.wake_on(change);
    }

    /// Returns whether this caller may ask the store during the outage.
    #[cfg(feature = "tower")]
    pub(crate) fn may_probe(&mut self, now: Instant, every: Duration) -> bool {
        self.outage.may_probe(now, every)
    }

    /// Units in use and the limit, as the last reply told.
    #[cfg(feature = "tower")]
    pub(crate) fn counts(&self) -> Option<(u64, u32)> {
        self.known.counts()
    }

    /// Requests a turn though there may be nothing to say.
    pub(crate) fn request_turn(&mut self) {
        self.requested = true;
    }

    // Waiters.

    pub(crate) fn enter(&mut self, id: PermitId, when_full: WhenFull, options: Arc<Options>) {
        if !self.closed {
            self.waiters.enter(id, when_full, options);
        }
    }

    /// Ready with the end of the wait, which is then forgotten here. Else keeps the waker; one that
    /// was kept before is the caller's to drop.
    pub(crate) fn poll_waiter(&mut self, counter: u64, waker: &mut Option<Waker>) -> Poll<WaitEnd> {
        self.waiters.poll(counter, waker)
    }

    /// Returns the number of waiters ahead in the queue, as the store last told.
    pub(crate) fn place(&self, counter: u64) -> Option<u64> {
        self.waiters.place(counter)
    }

    /// Takes out a waiter whose future was dropped or ran out of time, and leaves nothing of it here
    /// or in the store: a grant that it has not taken is given back.
    pub(crate) fn cancel(&mut self, counter: u64, now: Instant) {
        let Some(Left { ended, unclaimed }) = self.waiters.leave(counter, &mut self.effects) else {
            return;
        };
        self.removals.cancel(ended, self.in_flight.after_all_sent(), now);
        self.give_back_unclaimed(unclaimed);
    }

    fn give_back_unclaimed(&mut self, grants: impl IntoIterator<Item = Arc<Hold>>) {
        for hold in grants {
            if hold.leave() {
                self.give_back(hold.id.counter(), None);
            }
        }
    }

    /// Takes a wake-up: a grant, or a request to ask about the id.
    pub(crate) fn wake(&mut self, id: PermitId, wake_up: WakeUp, now: Instant) {
        if id.client() != self.client {
            return;
        }
        let counter = id.counter();
        if self.waiters.contains(counter) {
            if let Some(wake_up) = self.waiters.take_wake_up(counter, wake_up) {
                self.hear(counter, wake_up, now);
                self.show();
            }
        } else if self.permits.contains(counter) {
            if wake_up == WakeUp::Ask {
                self.permits.renew_now(counter);
            }
        } else if wake_up != WakeUp::Ask && !self.in_flight.removes(id) {
            // It was cancelled: most likely it is on the list already.
            self.removals.cancel_stray(id, self.in_flight.after_all_sent(), now);
        }
    }

    /// Acts on a wake-up for a waiter that no turn in flight names. It grants if the grant is proven and at
    /// least half of the claim is left; otherwise the next turn asks.
    fn hear(&mut self, counter: u64, wake_up: WakeUp, now: Instant) {
        if !self.waiters.is_queued(counter) {
            return;
        }
        let WakeUp::Granted(token) = wake_up else { return self.waiters.ask_again(counter) };
        let Some(waiter) = self.waiters.waiting(counter) else { return };
        let claim = Term::Claim.of(waiter.id);
        let counted_from = waiter.queued_by.and_then(|by| self.known.counted_from(token, by));
        let Some(counted_from) = counted_from else {
            return; // older than what the last reply told
        };
        if lease::provable_until(counted_from, claim) < now + claim / 2 {
            self.waiters.ask_for(counter, wake_up);
        } else {
            self.grant(counter, token, counted_from, Term::Claim, now);
        }
    }

    /// Turns a waiter into a permit. The granting turn was sent, or is known to have run, no earlier than
    /// `counted_from`. If the permit may have expired, the next turn asks instead.
    fn grant(&mut self, counter: u64, token: Seq, counted_from: Instant, term: Term, now: Instant) {
        let Some(waiter) = self.waiters.waiting(counter) else { return };
        let lease = term.of(waiter.id);
        let until = lease::provable_until(counted_from, lease);
        if until <= now {
            return self.waiters.ask_again(counter);
        }
        let renew = waiter.options.renew;
        let max_hold_until = waiter.options.max_hold.and_then(|most| now.checked_add(most));
        let hold = Hold::new(waiter.id, token, until, by_lease(renew), max_hold_until);
        let hold = Arc::new(hold);
        let named_by = if waiter.named { self.in_flight.after_all_sent() } else { AfterTurn::NONE };
        let (incarnation, held) = (self.known.incarnation(), Arc::clone(&hold));
        let permit = NewPermit { hold: held, renew, incarnation, counted_from, lease, named_by };
        self.meter.granted(&hold, matches!(term, Term::Claim), now);
        self.permits.insert(permit, now);
        self.end_wait(counter, WaitEnd::Granted(hold));
    }

    /// Ends a wait whose end a reply has told.
    fn end_wait(&mut self, counter: u64, end: WaitEnd) {
        if let Some(ended) = self.waiters.end(counter, end, &mut self.effects) {
            ended.told_by_store();
        }
    }

    /// Ends waits, here and in the store.
    fn end_waits(
        &mut self,
        now: Instant,
        which: impl Fn(WhenFull) -> bool,
        end: impl Fn() -> WaitEnd,
    ) {
        let after = self.in_flight.after_all_sent();
        for ended in self.waiters.end_each(which, end, &mut self.effects) {
            self.removals.cancel(ended, after, now);
        }
    }

    fn end_all_waits(&mut self, now: Instant, end: impl Fn() -> WaitEnd) {
        self.end_waits(now, |_| true, end);
        self.waiters.clear_lists();
    }

    /// Closes the semaphore: ends all waits, and lets no new waiter enter.
    pub(crate) fn close(&mut self, now: Instant) {
        self.closed = true;
        let unclaimed = self.waiters.take_unclaimed();
        self.give_back_unclaimed(unclaimed);
        self.end_all_waits(now, || WaitEnd::Closed);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// The store refuses permanently.
    pub(super) fn refuse_all(&mut self, error: &StoreError, now: Instant) {
        self.end_all_waits(now, || WaitEnd::Failed(error.clone()));
    }

    /// Ends the waits of `try_acquire`, because the store refuses for now.
    pub(super) fn refuse_tries(&mut self, error: &StoreError, now: Instant) {
        let tries = |when_full| when_full == WhenFull::Refuse;
        self.end_waits(now, tries, || WaitEnd::Failed(error.clone()));
    }

    /// Whether wake-ups arrive. Waiters without wake-ups ask at the pace of their backoff.
    pub(super) fn set_subscribed(&mut self, subscribed: bool, now: Instant) {
        for counter in self.waiters.set_subscribed(subscribed) {
            self.pace(counter, now);
        }
    }

    /// Sets when the waiter asks next, or ends its wait where its backoff gives up.
    fn pace(&mut self, counter: u64, now: Instant) {
        let Some(tries) = self.waiters.pace(counter, now) else { return };
        let end = WaitEnd::GaveUp { tries };
        if let Some(ended) = self.waiters.end(counter, end, &mut self.effects) {
            self.removals.cancel(ended, self.in_flight.after_all_sent(), now);
        }
    }

    /// Makes the next turns ask about all waiters in the queue.
    #[cfg(any(test, feature = "redis"))]
    pub(super) fn ask_about_all(&mut self) {
        self.waiters.ask_about_all();
    }

    fn wake_on(&mut self, change: Change) {
        if change == Change::BeganOrEnded {
            self.waiters.wake_all(&mut self.effects);
        }
    }

    // Permits.

    /// Gives back a permit that was released: its id goes into the next turn.
    pub(crate) fn give_back(&mut self, counter: u64, done: Option<ReleaseDone>) {
        self.give_back_at(counter, done, Instant::now);
    }

    /// As [`give_back`](Self::give_back), for a caller that has looked at the clock. `now` is called only if somebody
    /// listens to the metrics.
    pub(crate) fn give_back_at(
        &mut self,
        counter: u64,
        done: Option<ReleaseDone>,
        now: impl FnOnce() -> Instant,
    ) {
        let Some(permit) = self.permits.remove(counter) else {
            let gone = |done| Effect::Released(done, Ok(Released::AlreadyGone));
            return self.effects.extend(done.map(gone));
        };
        let EndedPermit { ended, hold, grant, after, server_until } = permit;
        if !hold.is_kicked() {
            self.meter.released(&hold, now);
        }
        self.meter.gone(hold.id);
        self.effects.extend(self.permits.take_extends(counter).map(Effect::Unextended));
        let forgotten = grant.alive_until + lease::margin(hold.id.lease()) * 2;
        let forget_at = forgotten.max(server_until);
        self.removals.release(ended, grant, after, forget_at, done, &mut self.effects);
    }

    fn lose(&mut self, counter: u64, reason: LostReason, now: Instant) {
        let Some(permit) = self.permits.remove(counter) else { return };
        let EndedPermit { ended, hold, server_until, .. } = permit;
        let (id, was_kicked) = (hold.id, hold.is_kicked());
        hold.lose_unannounced(reason);
        if !was_kicked {
            self.tell_loss(hold, reason, now);
        }
        self.meter.gone(id);
        self.removals.cancel(ended, self.in_flight.after_all_sent(), now.max(server_until));
    }

    /// An operator has kicked the permit. Its units stay in use until its holder gives it back, or its lease
    /// ends.
    fn kicked(&mut self, counter: u64, now: Instant) {
        let Some(hold) = self.permits.hold(counter) else { return };
        if hold.lose_unannounced(LostReason::Kicked) {
            self.permits.leave_to_holder(counter);
            self.tell_loss(hold, LostReason::Kicked, now);
        } else if !hold.is_kicked() {
            self.lose(counter, LostReason::Kicked, now); // it had ended before
        }
    }

    /// Tells of a loss those who wait for it, those who want a longer lease, the log, and the metrics.
    fn tell_loss(&mut self, hold: Arc<Hold>, reason: LostReason, now: Instant) {
        let lost_for = hold.lost_for();
        match lost_for {
            Some(reason) => {
                self.notices.lost_permits.get_or_insert_default().note(&hold, reason);
                self.meter.lost(&hold, reason, now);
            }
            None => self.meter.released(&hold, || now), // a moment ago
        }
        let reason = lost_for.unwrap_or(reason);
        let lost = |done| Effect::Extended(done, Err(ExtendError::Lost(reason)));
        self.effects.extend(self.permits.take_extends(hold.id.counter()).map(lost));
        self.effects.push(Effect::Announce(hold));
    }

    pub(crate) fn lose_all(&mut self, reason: LostReason, now: Instant) {
        for counter in self.permits.counters() {
            self.lose(counter, reason, now);
        }
    }

    pub(crate) fn extend(&mut self, counter: u64, lease: Millis, done: ExtendDone) {
        if self.removals.is_closed() {
            self.effects.push(Effect::Unextended(done));
        } else {
            self.permits.extend(counter, lease, done);
        }
    }

    // Time.

    /// Ends all that the clock has ended, and marks what has become due.
    pub(super) fn tick(&mut self, now: Instant) {
        if let Some(lease) = self.permits.shortest_lease() {
            for (turn, renewed) in self.in_flight.newly_late(lease, now) {
                self.permits.due_again(turn, renewed);
            }
        }
        while let Some((counter, reason)) = self.permits.next_lost(now) {
            self.lose(counter, reason, now);
        }
        self.removals.forget(self.in_flight.oldest(), now, &mut self.effects);
        self.waiters.tend_polls(now);
    }

    /// Returns whether the driver must look after a turn that it did not take: to set its timer earlier, to
    /// log a loss, or to drop a state that is no longer needed.
    pub(super) fn wants_look(&mut self) -> bool {
        let next = self.next_look(true);
        self.timer.hasten(next) || self.notices.lost_permits.is_some() || self.is_unused()
    }

    /// Sets the driver's timer.
    pub(super) fn set_timer(&mut self, next: Option<Instant>) -> TimerMove {
        self.timer.set(next)
    }

    pub(super) fn timer_fired(&mut self) {
        self.timer.fired();
    }

    /// Returns whether something may be due for renewal.
    pub(super) fn has_renewals(&self) -> bool {
        self.permits.may_have_due_renewals()
    }

    /// Returns the number of permits held, once after each loss of data in the store.
    pub(super) fn take_data_loss(&mut self) -> Option<usize> {
        std::mem::take(&mut self.notices.data_lost).then_some(self.permits.len())
    }

    /// Returns, once, whether a waiter learnt of its grant by asking although wake-ups should arrive.
    pub(super) fn take_missed_wake_up(&mut self) -> bool {
        std::mem::take(&mut self.notices.wake_up_missed)
    }

    /// Returns, once, the permits that were lost since the last call.
    pub(super) fn take_lost_permits(&mut self) -> Option<Box<LostPermits>> {
        self.notices.lost_permits.take()
    }

    // The end.

    /// Returns whether the state can be dropped. The next state of this name begins with epoch 0, so the
    /// state has to stay while an old turn may still run and count.
    pub(super) fn is_unused(&self) -> bool {
        self.limits.has_no_handles()
            && self.waiters.is_empty()
            && self.epochs.is_settled()
            && self.is_flushed()
    }

    /// Gives back the memory of a burst once nobody holds or waits.
    fn shrink_if_unused(&mut self) {
        if self.waiters.is_empty() && self.is_flushed() {
            self.waiters.shrink_idle();
            self.permits.shrink_idle();
            self.removals.shrink_idle();
            self.removed.shrink_idle();
            self.meter.shrink_idle();
        }
    }

    pub(super) fn holds_nothing(&self) -> bool {
        self.permits.is_empty()
    }

    /// Returns whether nothing is held and nothing is left to remove.
    pub(super) fn is_flushed(&self) -> bool {
        self.permits.is_empty() && self.removals.is_empty() && self.in_flight.is_empty()
    }

    /// Returns how many ids are not known to be removed.
    pub(super) fn unflushed(&self) -> usize {
        self.permits.len() + self.removals.len() + self.in_flight.removals()
    }

    /// Answers all callers that await an answer. The driver has ended, so nobody else would.
    pub(super) fn end(&mut self) {
        self.removals.close(self.in_flight.end(), &mut self.effects);
        self.effects.extend(self.permits.take_all_extends().map(Effect::Unextended));
        self.leave_gauges();
    }
}
