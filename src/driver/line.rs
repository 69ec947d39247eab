//! All that one client knows about one semaphore. Pure: no awaiting, no store, the time is given.
//!
//! # Implementation
//!
//! A line gathers what its callers want while turns are in flight; [`batch`](super::batch) makes
//! the next turn of it, [`settle`](super::settle) takes in the reply. Four rules keep it right:
//!
//! - *What ends locally ends remotely.* Whatever removes a waiter or a hold that a turn may have
//!   named pushes its id on `take_backs`, which is emptied only by answered turns or by time.
//! - *A reply speaks about ids, not about places in a list.* Whoever has gone meanwhile is not
//!   found, and its id is on the list already.
//! - *No id is named by two turns in flight, and none follows a question.* So it does not matter
//!   which of them runs first.
//! - *Nothing is granted by hearsay.* A wake-up is a grant only if its number is above the last
//!   one of the last turn that answered "queued" for the id; anything else makes the line ask.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
#[cfg(feature = "tower")]
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use crate::error::{ReleaseError, StoreError};
use crate::id::ClientId;

use super::agenda::Agenda;
use super::batch::Flight;
use super::errand::Errand;
use super::held::Held;
use super::leases::Leases;
use super::pause::Pause;
use super::take_back::TakeBack;
use super::waiter::{Stamp, WaitEnd, Waiter};

#[derive(Debug)]
pub(crate) struct Line {
    pub(super) name: Arc<str>,
    pub(super) client: ClientId,
    pub(super) label: Arc<str>,
    /// The limits of the living handles, with how many name each.
    limits: BTreeMap<u32, usize>,
    pub(super) closed: bool,

    // What the replies told.
    pub(super) incarnation: u64,
    pub(super) seen: u64,
    pub(super) override_: Option<u32>,
    /// When recent answered turns were sent, and the last number each one told.
    pub(super) stamps: VecDeque<Stamp>,

    // Waiters.
    pub(super) waiters: FxHashMap<u64, Waiter>,
    /// Never sent. May name waiters that have gone.
    pub(super) fresh: VecDeque<u64>,
    /// Sent in a turn whose outcome is unknown. May name waiters that have gone.
    pub(super) again: VecDeque<u64>,
    /// Ticket -> waiter.
    pub(super) queue: BTreeMap<u64, u64>,
    /// Tickets to ask about in the next turns.
    pub(super) asking: BTreeSet<u64>,
    /// The store had lost a waiter, and all are to be asked about once `asking` is empty.
    pub(super) missed: bool,
    /// When waiters that hear no wake-ups ask.
    pub(super) polls: BTreeSet<(Instant, u64)>,
    pub(super) speak_at: Option<Instant>,
    pub(super) earliest: Option<Instant>,
    /// Whether wake-ups reach this client.
    pub(super) hears: bool,

    // Permits.
    pub(super) held: FxHashMap<u64, Held>,
    /// When each held permit next needs a look.
    pub(super) due: Agenda,
    pub(super) leases: Leases,
    /// Due for renewal. May name permits that have gone.
    pub(super) renewing: VecDeque<u64>,
    /// The store may have lost its data: waiters stand back until permits are put back, so
    /// that they do not take the room of those who hold.
    pub(super) healing: bool,
    /// It has lost them: only put-back permits end the healing.
    pub(super) data_lost: bool,
    /// The log has yet to tell so.
    pub(super) untold_loss: bool,

    pub(super) take_backs: VecDeque<TakeBack>,
    /// No take-back is to be forgotten before this.
    pub(super) forget_at: Option<Instant>,
    /// The driver has ended: nobody will answer any more.
    pub(super) ended: bool,
    /// The turns in flight, in the order in which they were sent.
    pub(super) flights: Vec<Flight>,
    /// How many turns were sent.
    pub(super) sent_turns: u64,
    /// Turns up to this one may have gone out on an earlier connection.
    pub(super) old_turns: u64,
    /// How many turns had no definite answer: each may still run, unless the store knows of a higher epoch.
    pub(super) epoch: u64,
    /// No turn with a lower one may still run and count.
    pub(super) settled_epoch: u64,
    /// A turn is wanted though there may be nothing to say.
    pub(super) nudged: bool,
    pub(super) pause: Pause,
    pub(super) trouble: Option<StoreError>,
    /// Since when the store has not answered though it was asked.
    troubled_since: Option<Instant>,
    /// When the store last gave cause for trouble.
    trouble_heard_at: Option<Instant>,
    /// The server refused a turn of this line, which a new connection does not disprove.
    refused: bool,
    /// When somebody was last let through to find out whether the trouble is over.
    probed_at: Option<Instant>,
    /// Units in use and the limit, as the last reply told.
    pub(super) counts: Option<(u64, u32)>,
    /// Done by [`LineCell::peek`](super::LineCell::peek), outside the lock.
    pub(super) errands: Vec<Errand>,
    /// A waiter learnt by asking what a wake-up should have told.
    pub(super) unheard: bool,
    /// Where the driver's timer for this line stands. Where callers take turns themselves it may be
    /// too early: it is not moved back then, since the next permit would only move it forth again.
    pub(super) timer: Option<Instant>,
    /// By when a turn that the driver did not take wants it to look, even if that is over by then.
    pub(super) look_by: Option<Instant>,
}

impl Line {
    pub(crate) fn new(name: Arc<str>, client: ClientId) -> Self {
        Self {
            name,
            client,
            label: Arc::from(""),
            limits: BTreeMap::new(),
            closed: false,
            incarnation: 0,
            seen: 0,
            override_: None,
            stamps: VecDeque::new(),
            waiters: FxHashMap::default(),
            fresh: VecDeque::new(),
            again: VecDeque::new(),
            queue: BTreeMap::new(),
            asking: BTreeSet::new(),
            missed: false,
            polls: BTreeSet::new(),
            speak_at: None,
            earliest: None,
            hears: false,
            held: FxHashMap::default(),
            due: Agenda::default(),
            leases: Leases::default(),
            renewing: VecDeque::new(),
            healing: false,
            data_lost: false,
            untold_loss: false,
            take_backs: VecDeque::new(),
            forget_at: None,
            ended: false,
            flights: Vec::new(),
            sent_turns: 0,
            old_turns: 0,
            epoch: 0,
            settled_epoch: 0,
            nudged: false,
            pause: Pause::default(),
            trouble: None,
            troubled_since: None,
            trouble_heard_at: None,
            refused: false,
            probed_at: None,
            counts: None,
            errands: Vec::new(),
            unheard: false,
            timer: None,
            look_by: None,
        }
    }

    pub(crate) fn add_handle(&mut self, limit: u32, label: &Arc<str>) {
        self.limits.retain(|_, count| *count > 0); // the last one stayed only until now
        *self.limits.entry(limit).or_insert(0) += 1;
        if !label.is_empty() {
            self.label = Arc::clone(label);
        }
    }

    pub(crate) fn remove_handle(&mut self, limit: u32) {
        if let Some(count) = self.limits.get_mut(&limit) {
            *count -= 1;
            if *count == 0 && self.limits.len() > 1 {
                self.limits.remove(&limit); // the last one stays, for waiters that outlive it
            }
        }
    }

    /// The highest limit of the handles in this process.
    pub(super) fn limit(&self) -> u32 {
        self.limits.keys().next_back().copied().unwrap_or(0)
    }

    pub(crate) fn known_override(&self) -> Option<u32> {
        self.override_
    }

    /// Wants a turn though there may be nothing to say.
    pub(crate) fn nudge(&mut self) {
        self.nudged = true;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn trouble(&self) -> Option<&StoreError> {
        self.trouble.as_ref()
    }

    /// Since when the store has not answered though it was asked, where it was last heard at `heard`.
    ///
    /// What answers others is not away: a turn without an answer is on its way there. A refusal
    /// is an answer, and counts for this line alone.
    #[cfg(feature = "tower")]
    pub(crate) fn troubled_since(&self, heard: Instant) -> Option<Instant> {
        let since = self.troubled_since?;
        Some(if self.refused { since } else { since.max(heard) })
    }

    /// True for one caller in so long, and for all if for twice as long nothing was heard of the
    /// trouble: they may ask the store though that is in trouble.
    #[cfg(feature = "tower")]
    pub(crate) fn may_probe(&mut self, now: Instant, every: Duration) -> bool {
        let ago = |at: Instant| now.saturating_duration_since(at);
        let stale = self.trouble_heard_at.is_none_or(|at| ago(at) / 2 >= every);
        let due = stale || self.probed_at.is_none_or(|at| ago(at) >= every);
        if due {
            self.probed_at = Some(now);
        }
        due
    }

    /// Units in use and the limit, as the last reply told.
    #[cfg(feature = "tower")]
    pub(crate) fn counts(&self) -> Option<(u64, u32)> {
        self.counts
    }

    /// The store does not answer, or not as it should, since then. Who waits gets to know.
    pub(super) fn in_trouble(&mut self, error: &StoreError, since: Instant, now: Instant) {
        self.trouble_heard_at = Some(now);
        self.trouble = Some(error.clone());
        self.refused &= !error.is_unanswered();
        if self.troubled_since.is_none() {
            self.troubled_since = Some(since);
            self.wake_waiters();
        }
    }

    /// The store has answered a turn.
    pub(super) fn out_of_trouble(&mut self) {
        self.trouble = None;
        self.trouble_is_over();
    }

    /// A turn of this line was not answered as it should be.
    pub(super) fn turn_failed(&mut self, error: &StoreError, sent: Instant, now: Instant) {
        self.in_trouble(error, sent, now);
        self.refused = !error.is_unanswered();
    }

    fn trouble_is_over(&mut self) {
        self.refused = false;
        if self.troubled_since.take().is_some() {
            self.probed_at = None;
            self.wake_waiters();
        }
    }

    /// Whether nothing here would be missed. The next line of this name begins with the epoch 0: a
    /// turn that may still run must be void before.
    pub(crate) fn is_unused(&self) -> bool {
        self.limits.values().all(|&count| count == 0)
            && self.waiters.is_empty()
            && self.epoch == self.settled_epoch
            && self.is_flushed()
    }

    /// Whether nothing is held and nothing is left to hand back.
    pub(crate) fn is_flushed(&self) -> bool {
        self.held.is_empty() && self.take_backs.is_empty() && self.flights.is_empty()
    }

    pub(crate) fn unflushed(&self) -> usize {
        let flying: usize = self.flights.iter().map(Flight::take_backs).sum();
        self.held.len() + self.take_backs.len() + flying
    }

    /// No new waiters; those there are end.
    pub(crate) fn close(&mut self, now: Instant) {
        self.closed = true;
        self.take_unclaimed_grants();
        self.end_all_waits(now, || WaitEnd::Closed);
    }

    /// Who waits rides it out, unless only a change of configuration can help.
    pub(super) fn without_connection(&mut self, trouble: Option<&StoreError>, now: Instant) {
        let Some(error) = trouble else { return };
        self.in_trouble(error, now, now);
        if error.is_final() {
            self.refuse(now, error);
        }
    }

    /// The store refuses for good.
    pub(crate) fn refuse(&mut self, now: Instant, error: &StoreError) {
        self.end_all_waits(now, || WaitEnd::Failed(error.clone()));
    }

    /// The driver has ended: whoever awaits an answer gets to know.
    pub(super) fn end(&mut self) {
        self.ended = true;
        let flown = self.flights.drain(..).flat_map(|flight| flight.released);
        let unanswered = flown.chain(self.take_backs.drain(..)).filter_map(|it| it.done);
        let closed = |done| Errand::Released(done, Err(ReleaseError::Closed));
        self.errands.extend(unanswered.map(closed));
        let extends = self.held.values_mut().flat_map(|held| held.extends.drain(..));
        self.errands.extend(extends.map(|(_, done)| Errand::Unextended(done)));
    }

    /// The connection was given up: no answer is awaited any more.
    pub(super) fn deserted(&mut self, error: &StoreError, now: Instant) {
        while let Some(flight) = self.flights.first() {
            self.unanswered(flight.number, error, now);
        }
    }

    /// On a new connection: what was said on the old one, and what the store has kept, is not known.
    pub(super) fn reconnected(&mut self) {
        // Opening a connection proves that the server answers, not that it does what it refused.
        // What it refused to others, this line has not asked for: who asks first will see.
        if !self.refused {
            self.trouble_is_over();
        }
        self.old_turns = self.sent_turns;
        self.renew_all();
        self.ask_about_all();
    }

    /// Ends what is over and makes due what is due.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.tend_flights(now);
        self.tend_held(now);
        self.forget_take_backs(now);
        self.tend_polls(now);
    }

    /// Whether something is due for renewal, as far as it is known without a look at each.
    pub(super) fn has_renewals(&self) -> bool {
        !self.renewing.is_empty()
    }

    /// Keeps the lists that may name who has gone in proportion, also while no turn empties them.
    pub(super) fn forget_the_gone(&mut self) {
        const SLACK: usize = 64;
        if self.fresh.len() + self.again.len() > 2 * self.waiters.len() + SLACK {
            self.fresh.retain(|counter| self.waiters.contains_key(counter));
            self.again.retain(|counter| self.waiters.contains_key(counter));
        }
        self.due.forget(self.held.len(), |counter| Some(self.held.get(&counter)?.next_look));
        if self.renewing.len() > 2 * self.held.len() + SLACK {
            self.renewing.retain(|counter| self.held.contains_key(counter));
        }
    }

    /// Whether there is something to say, or to do before the driver's timer.
    pub(super) fn wants_driver(&mut self) -> bool {
        let says = self.nudged
            || !self.asking.is_empty()
            || !self.again.is_empty()
            || !self.fresh.is_empty()
            || !self.renewing.is_empty()
            || !self.take_backs.is_empty();
        let (next, timer) = (self.next_look(true), self.timer);
        says || next.is_some_and(|at| timer.is_none_or(|timer| at < timer))
    }

    /// When this line next needs the driver, if nothing happens before.
    pub(crate) fn next_look(&mut self, connected: bool) -> Option<Instant> {
        let renewal = self.next_renewal(connected);
        if !(connected && self.is_free()) {
            return renewal;
        }
        let poll = self.polls.first().map(|&(at, _)| at);
        let asks = [self.speak_at, self.earliest, poll].map(|at| at.map(|at| self.unpaused(at)));
        asks.into_iter().chain([renewal, self.pause.until]).flatten().min()
    }

    /// The same for what does not wait until the line has its turn: renewals, and what ends by the clock.
    pub(super) fn next_renewal(&mut self, connected: bool) -> Option<Instant> {
        let due = self.next_due().map(|(at, _)| at);
        let renews = |flight: &Flight| !flight.relieved && !flight.renewed.is_empty();
        let relieves = connected && (self.has_renewals() || self.flights.iter().any(renews));
        let relief = self.relief_at().filter(|_| relieves).map(|at| self.unpaused(at));
        [due, self.forget_at, relief].into_iter().flatten().min()
    }

    fn unpaused(&self, at: Instant) -> Instant {
        self.pause.until.map_or(at, |until| until.max(at))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backoff::Backoff;
    use crate::id::PermitId;
    use crate::options::{Options, Renew, Wake};
    use crate::store::Rule;

    #[tokio::test(start_paused = true)]
    async fn acquires_that_come_and_go_during_an_outage_leave_no_list_behind() {
        let client = ClientId::from_bits(1);
        let mut line = Line::new("outage".into(), client);
        let options = Arc::new(Options {
            lease_ms: 30_000,
            renew: Renew::Auto,
            max_hold: None,
            backoff: Backoff::default(),
            wake: Wake::Push,
            max_queue: None,
        });
        for counter in 1..=10_000 {
            let id = PermitId::new(client, counter, 1, 30_000);
            line.enter(id, Rule::Wait, Arc::clone(&options));
            line.cancel(counter, Instant::now());
        }
        assert!(line.waiters.is_empty() && line.take_backs.is_empty());
        assert!(line.fresh.len() < 100, "{} are remembered", line.fresh.len());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(line.next_turn(Instant::now(), Duration::from_secs(1), None).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_is_over_wants_no_look_where_there_is_nothing_to_say() {
        let mut line = Line::new("paused".into(), ClientId::from_bits(1));
        line.pause.lengthen(Instant::now());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(line.next_turn(Instant::now(), Duration::from_secs(1), None).is_none());
        assert_eq!(line.next_look(true), None);
    }
}
