//! The waiters: they enter, stand in the store's queue, and leave. Pure.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use crate::hold::Hold;
use crate::id::PermitId;
use crate::lease;
use crate::numbers::Seq;
use crate::options::{Options, Wake};
use crate::shrink::Shrink;
use crate::store::{WakeUp, WhenFull};

use super::super::deferred::{Effect, Effects};
use super::batch::Batch;
use super::known::AnsweredTurn;
use super::removal::Ended;
use super::waiter::{Left, Stage, WaitEnd, Waiter, Waiting};

/// How often a refused waiter is sent again because the turn left work undone that might have made room for
/// it. It is bounded, because a `try_acquire` has to end within the call timeout.
const LOOKS: u32 = 64;
/// When to send a heartbeat where waiters may be missing in the queue.
const SOONER: Duration = Duration::from_millis(100);
/// By how much a list may be longer than twice the number of its living entries.
const SLACK: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Waiters {
    by_counter: FxHashMap<u64, Waiter>,
    /// How many of them still wait.
    waiting: usize,
    /// Never sent. May name waiters that have gone.
    fresh: VecDeque<u64>,
    /// Sent in a turn whose outcome is unknown. May name waiters that have gone.
    again: VecDeque<u64>,
    /// Ticket -> waiter.
    queue: BTreeMap<Seq, u64>,
    /// Tickets to ask about in the next turns.
    asking: BTreeSet<Seq>,
    /// The store had lost a waiter, so all are to be asked about once `asking` is empty.
    one_was_lost: bool,
    /// When waiters without wake-ups ask.
    polls: BTreeSet<(Instant, u64)>,
    /// When the next heartbeat is due, so that the store continues to presume this client alive.
    heartbeat_at: Option<Instant>,
    /// When a lease that the head of the queue waits for may end.
    next_expiry: Option<Instant>,
    /// Whether wake-ups arrive.
    subscribed: bool,
}

impl Waiters {
    pub(super) fn enter(&mut self, id: PermitId, when_full: WhenFull, options: Arc<Options>) {
        self.by_counter.insert(id.counter(), Waiter::new(id, when_full, options));
        self.waiting += 1;
        self.fresh.push_back(id.counter());
    }

    /// Returns the end of the wait, and then forgets the waiter. If the wait goes on, it stores the waker;
    /// the caller has to drop the old one.
    pub(super) fn poll(&mut self, counter: u64, waker: &mut Option<Waker>) -> Poll<WaitEnd> {
        let Entry::Occupied(mut entry) = self.by_counter.entry(counter) else {
            return Poll::Ready(WaitEnd::Closed);
        };
        let waiter = entry.get_mut();
        if !waiter.is_done() {
            std::mem::swap(&mut waiter.waker, waker);
            return Poll::Pending;
        }
        let waiter = entry.remove();
        self.shrink();
        match waiter.stage {
            Stage::Done(end) => Poll::Ready(end),
            _ => Poll::Ready(WaitEnd::Closed),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_counter.is_empty()
    }

    /// Returns how many wait, without those whose wait has ended and whose futures have not looked yet.
    pub(super) fn waiting_count(&self) -> usize {
        self.waiting
    }

    pub(super) fn contains(&self, counter: u64) -> bool {
        self.by_counter.contains_key(&counter)
    }

    /// Returns the number of waiters ahead in the queue, as the store last told.
    pub(super) fn place(&self, counter: u64) -> Option<u64> {
        self.by_counter.get(&counter).and_then(|waiter| waiter.place)
    }

    /// The waiter, unless its wait has ended.
    pub(super) fn waiting(&self, counter: u64) -> Option<Waiting<'_>> {
        self.by_counter.get(&counter).and_then(Waiter::waiting)
    }

    /// Takes out a waiter whose future was dropped or ran out of time.
    #[must_use]
    pub(super) fn leave(&mut self, counter: u64, effects: &mut Effects) -> Option<Left> {
        let mut waiter = self.by_counter.remove(&counter)?;
        self.waiting -= usize::from(!waiter.is_done());
        effects.extend(waiter.waker.take().map(Effect::Forget));
        self.leave_queue(counter, &waiter.stage, waiter.poll_at);
        if self.fresh.len() + self.again.len() > 2 * self.by_counter.len() + SLACK {
            self.fresh.retain(|counter| self.by_counter.contains_key(counter));
            self.again.retain(|counter| self.by_counter.contains_key(counter));
        }
        self.shrink();
        Some(waiter.left())
    }

    /// Gives back the memory of waiters that have gone.
    fn shrink(&mut self) {
        self.by_counter.shrink_in_use();
        self.fresh.shrink_in_use();
        self.again.shrink_in_use();
    }

    /// Gives back the memory of a burst, while nobody waits.
    pub(super) fn shrink_idle(&mut self) {
        self.by_counter.shrink_idle();
        self.fresh.shrink_idle();
        self.again.shrink_idle();
    }

    /// Ends a wait, and wakes its future.
    #[must_use]
    pub(super) fn end(
        &mut self,
        counter: u64,
        end: WaitEnd,
        effects: &mut Effects,
    ) -> Option<Ended> {
        let waiter = self.by_counter.get_mut(&counter)?;
        let ended = waiter.ended();
        self.waiting -= usize::from(!waiter.is_done());
        let before = std::mem::replace(&mut waiter.stage, Stage::Done(end));
        let poll_at = waiter.poll_at;
        effects.extend(waiter.waker.take().map(Effect::Wake));
        self.leave_queue(counter, &before, poll_at);
        Some(ended)
    }

    fn leave_queue(&mut self, counter: u64, stage: &Stage, poll_at: Option<Instant>) {
        if let Stage::Queued { ticket } = stage {
            self.queue.remove(ticket);
            self.asking.remove(ticket);
        }
        if let Some(at) = poll_at {
            self.polls.remove(&(at, counter));
        }
        self.stop_heartbeat_if_none_queues();
    }

    /// Ends the waits of all waiters for which `which` returns true.
    #[must_use]
    pub(super) fn end_each(
        &mut self,
        which: impl Fn(WhenFull) -> bool,
        end: impl Fn() -> WaitEnd,
        effects: &mut Effects,
    ) -> Vec<Ended> {
        let which = |waiter: &Waiter| !waiter.is_done() && which(waiter.when_full);
        let counters = self.by_counter.iter().filter(|(_, waiter)| which(waiter));
        let counters: Vec<u64> = counters.map(|(&counter, _)| counter).collect();
        let mut end = |counter| self.end(counter, end(), effects);
        counters.into_iter().filter_map(&mut end).collect()
    }

    /// Forgets what the lists have kept of waits that have all ended.
    pub(super) fn clear_lists(&mut self) {
        self.fresh.clear();
        self.again.clear();
    }

    /// Takes grants that no future has looked at yet.
    pub(super) fn take_unclaimed(&mut self) -> Vec<Arc<Hold>> {
        let mut unclaimed = Vec::new();
        for waiter in self.by_counter.values_mut() {
            if let Stage::Done(end @ WaitEnd::Granted(_)) = &mut waiter.stage
                && let WaitEnd::Granted(hold) = std::mem::replace(end, WaitEnd::Closed)
            {
                unclaimed.push(hold);
            }
        }
        unclaimed
    }

    /// Wakes the futures of all waiters.
    pub(super) fn wake_all(&mut self, effects: &mut Effects) {
        let wakers = self.by_counter.values_mut().filter_map(|waiter| waiter.waker.take());
        effects.extend(wakers.map(Effect::Wake));
    }

    /// Makes the next turn name the waiter.
    pub(super) fn ask_again(&mut self, counter: u64) {
        let Some(waiter) = self.by_counter.get(&counter) else { return };
        match waiter.stage {
            Stage::Queued { ticket } => {
                self.asking.insert(ticket);
            }
            Stage::Sent => self.again.push_back(counter),
            Stage::Fresh | Stage::Done(_) => {}
        }
    }

    pub(super) fn ask_about_all(&mut self) {
        self.asking.extend(self.queue.keys());
    }

    /// Notes that a reply has told of a lost waiter, or has not. A store that had lost one may have lost
    /// others, so all are asked about, until a round of questions finds none that was lost. However many
    /// a round finds, one more round follows it.
    pub(super) fn note_lost(&mut self, one_was_lost: bool) {
        self.one_was_lost |= one_was_lost;
        if self.one_was_lost && self.asking.is_empty() {
            self.one_was_lost = false;
            self.ask_about_all();
        }
    }

    /// Takes a wake-up for a waiter, if there is one of that counter. If a turn in flight names the waiter,
    /// the wake-up is kept until that turn has landed. Otherwise it is returned.
    pub(super) fn take_wake_up(&mut self, counter: u64, wake_up: WakeUp) -> Option<WakeUp> {
        let waiter = self.by_counter.get_mut(&counter)?;
        if waiter.named || matches!(waiter.stage, Stage::Sent) {
            waiter.wake_up = waiter.wake_up.max(Some(wake_up));
            return None;
        }
        Some(wake_up)
    }

    /// Makes the next turn ask about the waiter for a wake-up, which is kept until the answer: it was not missed.
    pub(super) fn ask_for(&mut self, counter: u64, wake_up: WakeUp) {
        if let Some(waiter) = self.by_counter.get_mut(&counter) {
            waiter.wake_up = Some(wake_up);
        }
        self.ask_again(counter);
    }

    /// Returns whether the waiter is in the store's queue, as far as the client knows.
    pub(super) fn is_queued(&self, counter: u64) -> bool {
        let waiter = self.by_counter.get(&counter);
        waiter.is_some_and(|waiter| matches!(waiter.stage, Stage::Queued { .. }))
    }

    /// A turn that named it has landed: returns the wake-up that came meanwhile. `None` where the wait
    /// has ended.
    pub(super) fn landed(&mut self, counter: u64) -> Option<Option<WakeUp>> {
        let waiter = self.by_counter.get_mut(&counter)?;
        let wake_up = waiter.wake_up.take();
        waiter.named = false;
        (!waiter.is_done()).then_some(wake_up)
    }

    /// Makes the next turn name the waiter again, because the turn that named it did nothing or had no
    /// answer.
    pub(super) fn name_again(&mut self, counter: u64) {
        if let Some(waiter) = self.by_counter.get_mut(&counter) {
            waiter.wake_up = None;
            waiter.named = false;
        }
        self.ask_again(counter);
    }

    /// The store has answered that it stands in the queue.
    pub(super) fn queued(&mut self, counter: u64, ticket: Seq, place: u64, by: AnsweredTurn) {
        let Some(waiter) = self.by_counter.get_mut(&counter) else { return };
        // After a loss of data a late turn may have queued it again.
        if let Stage::Queued { ticket: old } = waiter.stage
            && old != ticket
        {
            self.queue.remove(&old);
            self.asking.remove(&old);
        }
        waiter.stage = Stage::Queued { ticket };
        waiter.place = Some(place);
        waiter.queued_by = Some(by);
        self.queue.insert(ticket, counter);
    }

    /// Returns whether a waiter that was refused looks again because the turn has left work undone; it does
    /// so a bounded number of times.
    pub(super) fn looks_again(&mut self, counter: u64) -> bool {
        let Some(waiter) = self.by_counter.get_mut(&counter) else { return false };
        let looks = waiter.tries < LOOKS;
        if looks {
            waiter.tries += 1;
            self.ask_again(counter);
        }
        looks
    }

    /// Returns what the waiter wants if it does not fit.
    pub(super) fn when_full(&self, counter: u64) -> Option<WhenFull> {
        self.by_counter.get(&counter).map(|waiter| waiter.when_full)
    }

    /// Sets when a waiter without wake-ups asks next. Returns how often it has asked, once its backoff
    /// gives up.
    pub(super) fn pace(&mut self, counter: u64, now: Instant) -> Option<u32> {
        let waiter = self.by_counter.get_mut(&counter)?;
        if waiter.poll_at.is_some() || (self.subscribed && waiter.options.wake == Wake::Push) {
            return None;
        }
        let restarted = || Box::new(waiter.options.backoff.restarted());
        let backoff = waiter.backoff.get_or_insert_with(restarted);
        waiter.tries = waiter.tries.saturating_add(1);
        let Some(wait) = backoff.next() else { return Some(waiter.tries) };
        let wait = wait.clamp(Duration::from_millis(1), Duration::from_secs(3600));
        waiter.poll_at = Some(now + wait);
        self.polls.insert((now + wait, counter));
        None
    }

    /// Whether wake-ups arrive. Returns the waiters in the queue, to be paced, if that has changed.
    pub(super) fn set_subscribed(&mut self, subscribed: bool) -> Vec<u64> {
        if std::mem::replace(&mut self.subscribed, subscribed) == subscribed {
            return Vec::new();
        }
        self.queue.values().copied().collect()
    }

    pub(super) fn is_subscribed(&self) -> bool {
        self.subscribed
    }

    /// Asks about the waiters whose backoff is over.
    pub(super) fn tend_polls(&mut self, now: Instant) {
        while let Some(&(at, counter)) = self.polls.first()
            && at <= now
        {
            self.polls.pop_first();
            if let Some(waiter) = self.by_counter.get_mut(&counter) {
                waiter.poll_at = None;
            }
            self.ask_again(counter);
        }
    }

    /// Drops newcomers that have gone, and returns whether any are left.
    pub(super) fn has_newcomers(&mut self) -> bool {
        while self.fresh.front().is_some_and(|counter| !self.by_counter.contains_key(counter)) {
            self.fresh.pop_front();
        }
        !self.fresh.is_empty()
    }

    /// Returns how many newcomers there may be: some may have gone.
    pub(super) fn newcomers(&self) -> usize {
        self.fresh.len()
    }

    /// Returns whether a turn is to ask about a waiter, to send a heartbeat, or to look for an expired
    /// lease.
    pub(super) fn has_questions(&mut self, now: Instant) -> bool {
        while self.again.front().is_some_and(|counter| !self.by_counter.contains_key(counter)) {
            self.again.pop_front();
        }
        let expires = self.next_expiry.is_some_and(|at| at <= now);
        let due = self.heartbeat_is_due(now) || expires;
        due || !self.asking.is_empty() || !self.again.is_empty()
    }

    /// Returns whether a turn has to name a waiter now. It does not look at each waiter, so it may wrongly
    /// return true.
    pub(super) fn has_something_to_say(&self) -> bool {
        !self.asking.is_empty() || !self.again.is_empty() || !self.fresh.is_empty()
    }

    fn heartbeat_is_due(&self, now: Instant) -> bool {
        self.heartbeat_at.is_some_and(|at| at <= now)
    }

    /// Puts questions about waiters into the turn, and then newcomers.
    pub(super) fn put(&mut self, batch: &mut Batch) {
        self.put_questions(batch);
        self.put_newcomers(batch);
    }

    fn put_questions(&mut self, batch: &mut Batch) {
        if self.heartbeat_is_due(batch.sent())
            && let Some((&ticket, &counter)) = self.queue.first_key_value()
        {
            self.heartbeat_at = None;
            if self.asking.insert(ticket) {
                batch.note_heartbeat(counter);
            }
        }
        while batch.fits_waiter()
            && let Some(ticket) = self.asking.pop_first()
        {
            let Some(&counter) = self.queue.get(&ticket) else { continue };
            self.put_question(batch, counter, Some(ticket));
        }
        while batch.fits_waiter()
            && let Some(counter) = self.again.pop_front()
        {
            self.put_question(batch, counter, None);
        }
    }

    fn put_question(&mut self, batch: &mut Batch, counter: u64, ticket: Option<Seq>) {
        let Some(waiter) = self.by_counter.get_mut(&counter) else { return };
        if waiter.named || waiter.is_done() {
            return;
        }
        waiter.named = true;
        batch.ask(waiter.id, ticket, waiter.when_full);
    }

    fn put_newcomers(&mut self, batch: &mut Batch) {
        while batch.fits_waiter()
            && let Some(counter) = self.fresh.pop_front()
        {
            let Some(waiter) = self.by_counter.get_mut(&counter) else { continue };
            if !matches!(waiter.stage, Stage::Fresh) {
                continue;
            }
            waiter.stage = Stage::Sent;
            waiter.named = true;
            batch.admit(waiter.id, waiter.when_full);
        }
    }

    /// Notes that a turn was sent that looks for expired leases.
    pub(super) fn forget_expiry(&mut self) {
        self.next_expiry = None;
    }

    /// When a lease that the head of the queue waits for may end.
    pub(super) fn set_next_expiry(&mut self, at: Option<Instant>) {
        self.next_expiry = at;
    }

    /// Sets the next heartbeat if there is none. A turn sent at `sent` was answered, or failed at that instant.
    pub(super) fn schedule_heartbeat(&mut self, sent: Instant, now: Instant) {
        self.stop_heartbeat_if_none_queues();
        let Some((_, oldest)) = self.queue.first_key_value() else { return };
        if self.heartbeat_at.is_none() {
            let oldest = self.by_counter.get(oldest);
            let lease = oldest.map_or(lease::SHORTEST, |waiter| waiter.id.lease());
            let at = sent + lease::asking_period(lease);
            self.heartbeat_at = Some(at.max(now + Duration::from_millis(1)));
        }
    }

    /// The store has told how many wait. Where fewer wait than wait here, some were lost, or granted
    /// without a wake-up. The heartbeat is not sent at once: wake-ups may be on their way by another
    /// connection.
    pub(super) fn hasten_heartbeat(&mut self, waiting: u64, now: Instant) {
        if waiting < self.queue.len() as u64 {
            self.heartbeat_at = self.heartbeat_at.map(|at| at.min(now + SOONER));
        }
    }

    fn stop_heartbeat_if_none_queues(&mut self) {
        if self.queue.is_empty() {
            self.heartbeat_at = None;
            self.next_expiry = None;
        }
    }

    /// Returns when waiters next have something to say.
    pub(super) fn next_look(&self) -> impl Iterator<Item = Instant> {
        let poll = self.polls.first().map(|&(at, _)| at);
        [self.heartbeat_at, self.next_expiry, poll].into_iter().flatten()
    }
}

#[cfg(test)]
impl Waiters {
    pub(super) fn ids(&self) -> impl Iterator<Item = PermitId> {
        self.by_counter.values().map(|waiter| waiter.id)
    }

    pub(super) fn id(&self, counter: u64) -> Option<PermitId> {
        self.by_counter.get(&counter).map(|waiter| waiter.id)
    }

    pub(super) fn queue_len(&self) -> usize {
        self.queue.len()
    }
}
