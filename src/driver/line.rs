//! All that one client knows about one semaphore. Pure: no awaiting, no store, the time is given.
//!
//! # Implementation
//!
//! A line gathers what its callers want while a turn is in flight; [`batch`](super::batch) makes
//! the next turn of it, [`settle`](super::settle) takes in the reply. Three rules keep it right:
//!
//! - *What ends locally ends remotely.* Whatever removes a waiter or a hold that a turn may have
//!   named pushes its id on `take_backs`, which is emptied only by answered turns or by time.
//! - *A reply speaks about ids, not about places in a list.* Whoever has gone meanwhile is not
//!   found, and its id is on the list already.
//! - *Nothing is granted by hearsay.* A wake-up is a grant only if its number is above the last
//!   one of the last turn that answered "queued" for the id; anything else makes the line ask.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::error::{ExtendError, ReleaseError, StoreError};
use crate::hold::{Hold, Truth};
use crate::id::{ClientId, PermitId};
use crate::lease;
use crate::permit::{LostReason, Released};
use crate::semaphore::{Options, Renew, Wake};
use crate::store::{CLAIM_MS, Rule};

use super::batch::Flight;

pub(crate) type ReleaseDone = oneshot::Sender<Result<Released, ReleaseError>>;
pub(crate) type ExtendDone = oneshot::Sender<Result<(), ExtendError>>;

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
    pub(super) waiters: HashMap<u64, Waiter>,
    /// Never sent. May name waiters that have gone.
    pub(super) fresh: VecDeque<u64>,
    /// Sent in a turn whose outcome is unknown. May name waiters that have gone.
    pub(super) again: VecDeque<u64>,
    /// Ticket -> waiter.
    pub(super) queue: BTreeMap<u64, u64>,
    /// Tickets to ask about in the next turns.
    pub(super) asking: BTreeSet<u64>,
    /// When waiters that hear no wake-ups ask.
    pub(super) polls: BTreeSet<(Instant, u64)>,
    pub(super) speak_at: Option<Instant>,
    pub(super) earliest: Option<Instant>,
    /// Whether wake-ups reach this client.
    pub(super) hears: bool,

    // Permits.
    pub(super) held: HashMap<u64, Held>,
    /// When each held permit next needs a look.
    pub(super) due: BTreeSet<(Instant, u64)>,
    /// Due for renewal. May name permits that have gone.
    pub(super) renewing: VecDeque<u64>,
    /// The store may have lost its data: waiters stand back until permits are put back, lest they
    /// take the room of those who hold.
    pub(super) healing: bool,

    pub(super) take_backs: VecDeque<TakeBack>,
    /// No take-back is to be forgotten before this.
    forget_at: Option<Instant>,
    /// The driver has ended: nobody will answer any more.
    ended: bool,
    pub(super) flight: Option<Flight>,
    /// A turn is wanted though there may be nothing to say.
    pub(super) nudged: bool,
    pub(super) pause: Pause,
    pub(super) trouble: Option<StoreError>,
    /// Woken by [`LineCell::update`](super::LineCell::update), outside the lock.
    pub(super) wakers: Vec<Waker>,
    /// Where the driver's timer for this line stands.
    pub(super) timer: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    pub(super) sent: Instant,
    pub(super) last: u64,
}

#[derive(Debug)]
pub(crate) struct Waiter {
    pub(super) id: PermitId,
    pub(super) rule: Rule,
    pub(super) options: Arc<Options>,
    pub(super) stage: Stage,
    /// How many stood ahead when the store last told.
    pub(super) ahead: Option<u64>,
    /// Of the last turn that answered "queued".
    pub(super) stamp: Option<Stamp>,
    /// A wake-up that came while a turn that names this id was in flight.
    pub(super) woken: Option<u64>,
    /// Named by the turn in flight.
    pub(super) flying: bool,
    pub(super) backoff: Option<Box<Backoff>>,
    /// Its key in `polls`.
    poll_at: Option<Instant>,
    pub(super) tries: u32,
    waker: Option<Waker>,
}

#[derive(Debug)]
pub(super) enum Stage {
    Fresh,
    /// Named by the turn in flight, or by one whose outcome is unknown.
    Sent,
    Queued {
        ticket: u64,
    },
    Done(WaitEnd),
}

/// How a wait ended.
#[derive(Debug)]
pub(crate) enum WaitEnd {
    Granted(Arc<Hold>),
    Full { in_use: u64, limit: u32, waiting: u64 },
    QueueFull { waiting: u64 },
    TooLarge { limit: u32 },
    GaveUp { tries: u32 },
    Kicked,
    Closed,
    Failed(StoreError),
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) hold: Arc<Hold>,
    pub(super) options: Arc<Options>,
    pub(super) incarnation: u64,
    pub(super) renewal: Renewal,
    /// Granted by a foreign turn, and not confirmed yet.
    pub(super) claim: bool,
    max_hold_at: Option<Instant>,
    pub(super) extends: Vec<(u64, ExtendDone)>,
    /// Its key in `due`.
    next_look: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    At(Instant),
    /// In `renewing`, or named by the turn in flight.
    UnderWay,
    Never,
}

#[derive(Debug)]
pub(super) struct TakeBack {
    pub(super) id: PermitId,
    /// A permit known to be granted need not be looked for in the queue.
    pub(super) anywhere: bool,
    /// By then the server has forgotten it anyway.
    pub(super) forget_at: Instant,
    /// An unanswered turn named it: it may have run.
    pub(super) retried: bool,
    pub(super) done: Option<ReleaseDone>,
}

/// Paces turns that the server answers with an error: 20 ms to 500 ms, jittered.
#[derive(Debug, Default)]
pub(super) struct Pause {
    failures: u32,
    pub(super) until: Option<Instant>,
}

impl Pause {
    pub(super) fn lengthen(&mut self, now: Instant) {
        let longest = Duration::from_millis((20 << self.failures.min(5)).min(500));
        self.failures += 1;
        self.until = Some(now + longest.mul_f64(0.5 + 0.5 * fastrand::f64()));
    }

    pub(super) fn end(&mut self) {
        *self = Self::default();
    }
}

impl Held {
    /// For how long from `now` a renewal is to hold the permit if nobody extends it. A fixed lease
    /// is named so that it can be put back, but gets no longer.
    pub(super) fn own_lease_ms(&self, now: Instant) -> u64 {
        let id = self.hold.id;
        if self.options.renew == Renew::Auto || self.claim {
            return id.lease_ms();
        }
        let left = self.hold.deadline().saturating_duration_since(now) + lease::margin(id.lease());
        u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
    }
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
            waiters: HashMap::new(),
            fresh: VecDeque::new(),
            again: VecDeque::new(),
            queue: BTreeMap::new(),
            asking: BTreeSet::new(),
            polls: BTreeSet::new(),
            speak_at: None,
            earliest: None,
            hears: false,
            held: HashMap::new(),
            due: BTreeSet::new(),
            renewing: VecDeque::new(),
            healing: false,
            take_backs: VecDeque::new(),
            forget_at: None,
            ended: false,
            flight: None,
            nudged: false,
            pause: Pause::default(),
            trouble: None,
            wakers: Vec::new(),
            timer: None,
        }
    }

    pub(crate) fn add_handle(&mut self, limit: u32, label: &Arc<str>) {
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

    /// Whether nothing here would be missed.
    pub(crate) fn is_unused(&self) -> bool {
        self.limits.values().all(|&count| count == 0)
            && self.waiters.is_empty()
            && self.is_flushed()
    }

    /// Whether nothing is held and nothing is left to hand back.
    pub(crate) fn is_flushed(&self) -> bool {
        self.held.is_empty() && self.take_backs.is_empty() && self.flight.is_none()
    }

    pub(crate) fn unflushed(&self) -> usize {
        let flying = self.flight.as_ref().map_or(0, Flight::take_backs);
        self.held.len() + self.take_backs.len() + flying
    }

    // ---- waiters

    pub(crate) fn enter(&mut self, id: PermitId, rule: Rule, options: Arc<Options>) {
        if self.closed {
            return;
        }
        let waiter = Waiter {
            id,
            rule,
            options,
            stage: Stage::Fresh,
            ahead: None,
            stamp: None,
            woken: None,
            flying: false,
            backoff: None,
            poll_at: None,
            tries: 0,
            waker: None,
        };
        self.waiters.insert(id.counter(), waiter);
        self.fresh.push_back(id.counter());
    }

    /// Ready with the end of the wait, which is then forgotten here.
    pub(crate) fn poll_waiter(&mut self, counter: u64, cx: &mut Context<'_>) -> Poll<WaitEnd> {
        let Some(waiter) = self.waiters.get_mut(&counter) else {
            return Poll::Ready(WaitEnd::Closed);
        };
        if !matches!(waiter.stage, Stage::Done(_)) {
            match &mut waiter.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        match self.waiters.remove(&counter).map(|waiter| waiter.stage) {
            Some(Stage::Done(end)) => Poll::Ready(end),
            _ => Poll::Ready(WaitEnd::Closed),
        }
    }

    pub(crate) fn ahead(&self, counter: u64) -> Option<u64> {
        self.waiters.get(&counter).and_then(|waiter| waiter.ahead)
    }

    /// Its future was dropped or ran out of time: leaves nothing here and nothing in the store.
    pub(crate) fn cancel(&mut self, counter: u64, now: Instant) {
        let Some(waiter) = self.leave(counter) else { return };
        match waiter.stage {
            Stage::Fresh => {}
            Stage::Sent | Stage::Queued { .. } => self.take_back_anywhere(waiter.id, now),
            Stage::Done(WaitEnd::Granted(hold)) => {
                if hold.release() {
                    self.give_back(counter, None);
                }
            }
            Stage::Done(_) => {}
        }
        self.forget_speaking();
    }

    fn leave(&mut self, counter: u64) -> Option<Waiter> {
        let waiter = self.waiters.remove(&counter)?;
        self.leave_queue(&waiter);
        Some(waiter)
    }

    fn leave_queue(&mut self, waiter: &Waiter) {
        if let Stage::Queued { ticket } = waiter.stage {
            self.queue.remove(&ticket);
            self.asking.remove(&ticket);
        }
        if let Some(at) = waiter.poll_at {
            self.polls.remove(&(at, waiter.id.counter()));
        }
    }

    pub(super) fn forget_speaking(&mut self) {
        if self.queue.is_empty() {
            self.speak_at = None;
            self.earliest = None;
        }
    }

    pub(super) fn end_wait(&mut self, counter: u64, end: WaitEnd) {
        let Some(mut waiter) = self.waiters.remove(&counter) else { return };
        self.leave_queue(&waiter);
        waiter.stage = Stage::Done(end);
        self.wakers.extend(waiter.waker.take());
        self.waiters.insert(counter, waiter);
        self.forget_speaking();
    }

    pub(super) fn end_all_waits(&mut self, now: Instant, end: impl Fn() -> WaitEnd) {
        let counters: Vec<u64> = self.waiters.keys().copied().collect();
        for counter in counters {
            let Some(waiter) = self.waiters.get(&counter) else { continue };
            match waiter.stage {
                Stage::Done(_) => continue,
                Stage::Fresh => {}
                Stage::Sent | Stage::Queued { .. } => {
                    let id = waiter.id;
                    self.take_back_anywhere(id, now);
                }
            }
            self.end_wait(counter, end());
        }
        self.fresh.clear();
        self.again.clear();
    }

    /// No new waiters; those there are end.
    pub(crate) fn close(&mut self, now: Instant) {
        self.closed = true;
        self.end_all_waits(now, || WaitEnd::Closed);
    }

    /// Who waits rides it out, unless only a change of configuration can help.
    pub(super) fn without_connection(&mut self, trouble: Option<&StoreError>, now: Instant) {
        let Some(error) = trouble else { return };
        self.trouble = Some(error.clone());
        if error.is_final() {
            self.refuse(now, error);
        }
    }

    /// The store refuses for good.
    pub(crate) fn refuse(&mut self, now: Instant, error: &StoreError) {
        self.end_all_waits(now, || WaitEnd::Failed(error.clone()));
    }

    /// The store refuses just now: who only tries does not wait for it.
    pub(super) fn refuse_tries(&mut self, now: Instant, error: &StoreError) {
        let tries: Vec<PermitId> = self
            .waiters
            .values()
            .filter(|waiter| waiter.rule == Rule::Try && !matches!(waiter.stage, Stage::Done(_)))
            .map(|waiter| waiter.id)
            .collect();
        for id in tries {
            self.take_back_anywhere(id, now);
            self.end_wait(id.counter(), WaitEnd::Failed(error.clone()));
        }
    }

    /// The driver has ended: whoever awaits an answer gets to know.
    pub(super) fn end(&mut self) {
        self.ended = true;
        self.flight = None;
        self.take_backs.clear();
        for held in self.held.values_mut() {
            held.extends.clear();
        }
    }

    /// Grants by a turn sent, or known to have run, no earlier than `counted_from`.
    ///
    /// A grant that is no longer provably ours is asked about instead.
    pub(super) fn grant(
        &mut self,
        counter: u64,
        token: u64,
        counted_from: Instant,
        ms: u64,
        now: Instant,
    ) {
        let Some(waiter) = self.waiters.get(&counter) else { return };
        if matches!(waiter.stage, Stage::Done(_)) {
            return;
        }
        let lease = Duration::from_millis(ms);
        let until = lease::provable_until(counted_from, lease);
        if until <= now {
            self.ask_again(counter);
            return;
        }
        let options = Arc::clone(&waiter.options);
        let full = Duration::from_millis(waiter.id.lease_ms());
        let by_clock = match options.renew {
            Renew::Auto => LostReason::Unprovable,
            Renew::Manual => LostReason::Expired,
        };
        let hold = Arc::new(Hold::new(waiter.id, token, until, by_clock));
        let renewal = if lease < full {
            Renewal::At(lease::confirm_at(now, until))
        } else {
            match options.renew {
                Renew::Auto => Renewal::At(lease::renew_at(counted_from, lease)),
                Renew::Manual => Renewal::Never,
            }
        };
        let held = Held {
            hold: Arc::clone(&hold),
            max_hold_at: options.max_hold.and_then(|most| now.checked_add(most)),
            options,
            incarnation: self.incarnation,
            renewal,
            claim: lease < full,
            extends: Vec::new(),
            next_look: until,
        };
        self.due.insert((held.next_look, counter));
        self.held.insert(counter, held);
        self.look_again(counter);
        self.end_wait(counter, WaitEnd::Granted(hold));
    }

    /// Names the waiter in the next turn.
    pub(super) fn ask_again(&mut self, counter: u64) {
        let Some(waiter) = self.waiters.get(&counter) else { return };
        match waiter.stage {
            Stage::Queued { ticket } => {
                self.asking.insert(ticket);
            }
            Stage::Sent => self.again.push_back(counter),
            Stage::Fresh | Stage::Done(_) => {}
        }
    }

    /// On a new connection: what was said on the old one, and what the store has kept, is not known.
    pub(super) fn reconnected(&mut self) {
        self.renew_all();
        self.ask_about_all();
    }

    pub(super) fn renew_all(&mut self) {
        self.healing = true;
        let held: Vec<u64> = self.held.keys().copied().collect();
        for counter in held {
            self.renew_now(counter);
        }
    }

    pub(super) fn ask_about_all(&mut self) {
        self.asking.extend(self.queue.keys());
    }

    /// A wake-up: token of a grant, or 0 for "ask about this id".
    pub(crate) fn wake(&mut self, id: PermitId, token: u64, now: Instant) {
        let counter = id.counter();
        if let Some(waiter) = self.waiters.get_mut(&counter) {
            if waiter.flying || matches!(waiter.stage, Stage::Sent) {
                waiter.woken = Some(waiter.woken.map_or(token, |other| other.max(token)));
            } else {
                self.hear(counter, token, now);
            }
        } else if token == 0 && self.held.contains_key(&counter) {
            self.renew_now(counter);
        }
        // Any other id is one that was cancelled: it is on the list already.
    }

    /// Takes a wake-up for a waiter that no turn in flight names.
    pub(super) fn hear(&mut self, counter: u64, token: u64, now: Instant) {
        let Some(waiter) = self.waiters.get(&counter) else { return };
        let Stage::Queued { .. } = waiter.stage else { return };
        if token == 0 {
            return self.ask_again(counter);
        }
        let Some(stamp) = waiter.stamp.filter(|stamp| token > stamp.last) else {
            return; // older than what the last reply told
        };
        // Any turn that ran before the grant tells a later "not before" than the waiter's own.
        let sent = self
            .stamps
            .iter()
            .filter(|stamp| stamp.last < token)
            .map(|stamp| stamp.sent)
            .fold(stamp.sent, Instant::max);
        let ms = waiter.id.lease_ms().min(CLAIM_MS);
        let claim = Duration::from_millis(ms);
        if lease::provable_until(sent, claim) < now + claim / 2 {
            self.ask_again(counter);
        } else {
            self.grant(counter, token, sent, ms, now);
        }
    }

    // ---- permits

    /// Its permit was released; the id goes into the next turn.
    pub(crate) fn give_back(&mut self, counter: u64, done: Option<ReleaseDone>) {
        let Some(held) = self.forget_held(counter) else {
            if let Some(done) = done {
                let _ = done.send(Ok(Released::AlreadyGone));
            }
            return;
        };
        let id = held.hold.id;
        let forget_at = held.hold.deadline() + lease::margin(id.lease()) * 2;
        self.take_back(TakeBack { id, anywhere: false, forget_at, retried: false, done });
    }

    /// Puts an id on the list of the next turn.
    pub(super) fn take_back(&mut self, take_back: TakeBack) {
        if self.ended {
            return; // dropping `done` tells
        }
        let at = take_back.forget_at;
        self.forget_at = Some(self.forget_at.map_or(at, |other| other.min(at)));
        self.take_backs.push_back(take_back);
    }

    fn forget_held(&mut self, counter: u64) -> Option<Held> {
        let held = self.held.remove(&counter)?;
        self.due.remove(&(held.next_look, counter));
        Some(held)
    }

    pub(super) fn lose(&mut self, counter: u64, reason: LostReason, now: Instant) {
        let Some(held) = self.forget_held(counter) else { return };
        held.hold.lose(reason);
        let reason = match held.hold.truth() {
            Truth::Lost(reason) => reason,
            _ => reason,
        };
        for (_, done) in held.extends {
            let _ = done.send(Err(ExtendError::Lost(reason)));
        }
        self.take_back_anywhere(held.hold.id, now);
    }

    pub(crate) fn lose_all(&mut self, reason: LostReason, now: Instant) {
        let counters: Vec<u64> = self.held.keys().copied().collect();
        for counter in counters {
            self.lose(counter, reason, now);
        }
    }

    fn take_back_anywhere(&mut self, id: PermitId, now: Instant) {
        // A lease, and the time a waiter of a silent client can still be granted a claim.
        let forget_at = now + id.lease().max(Duration::from_millis(2 * CLAIM_MS)) * 2;
        self.take_back(TakeBack { id, anywhere: true, forget_at, retried: false, done: None });
    }

    /// An id granted to this client that nobody here knows.
    pub(super) fn give_back_stray(&mut self, id: PermitId, now: Instant) {
        if !self.take_backs.iter().any(|take_back| take_back.id == id) {
            self.take_back_anywhere(id, now);
        }
    }

    pub(crate) fn extend(&mut self, counter: u64, ms: u64, done: ExtendDone) {
        if let Some(held) = self.held.get_mut(&counter)
            && !self.ended
        {
            held.extends.push((ms, done));
            self.renew_now(counter);
        } // else `done` is dropped, and the caller looks at the permit
    }

    pub(super) fn renew_now(&mut self, counter: u64) {
        let Some(held) = self.held.get_mut(&counter) else { return };
        if held.renewal != Renewal::UnderWay {
            held.renewal = Renewal::UnderWay;
            self.renewing.push_back(counter);
            self.look_again(counter);
        }
    }

    /// Moves the permit to its next instant in `due`.
    pub(super) fn look_again(&mut self, counter: u64) {
        let Some(held) = self.held.get_mut(&counter) else { return };
        let mut next = held.hold.deadline();
        if let Some(end) = held.max_hold_at {
            next = next.min(end);
        }
        if let Renewal::At(at) = held.renewal {
            next = next.min(at);
        }
        if next != held.next_look {
            self.due.remove(&(held.next_look, counter));
            held.next_look = next;
            self.due.insert((next, counter));
        }
    }

    // ---- time

    /// Ends what is over and makes due what is due.
    pub(crate) fn tick(&mut self, now: Instant) {
        while let Some(&(at, counter)) = self.due.first()
            && at <= now
        {
            let Some(held) = self.held.get_mut(&counter) else {
                self.due.pop_first();
                continue;
            };
            if !matches!(held.hold.truth(), Truth::HeldUntil(_)) || held.hold.deadline() <= now {
                let reason = match held.options.renew {
                    Renew::Auto => LostReason::Unprovable,
                    Renew::Manual => LostReason::Expired,
                };
                self.lose(counter, reason, now);
            } else if held.max_hold_at.is_some_and(|end| end <= now) {
                self.lose(counter, LostReason::MaxHold, now);
            } else {
                self.renew_now(counter);
            }
        }
        if self.forget_at.is_some_and(|at| at <= now) {
            self.forget_take_backs(now);
        }
        while let Some(&(at, counter)) = self.polls.first()
            && at <= now
        {
            self.polls.pop_first();
            if let Some(waiter) = self.waiters.get_mut(&counter) {
                waiter.poll_at = None;
            }
            self.ask_again(counter);
        }
    }

    /// Gives up what the store has forgotten by itself.
    fn forget_take_backs(&mut self, now: Instant) {
        let (over, left) = std::mem::take(&mut self.take_backs)
            .into_iter()
            .partition::<VecDeque<_>, _>(|take_back| take_back.forget_at <= now);
        self.take_backs = left;
        // Not at once again: in an outage there may be many, each with an end of its own.
        let next = self.take_backs.iter().map(|take_back| take_back.forget_at).min();
        self.forget_at = next.map(|at| at.max(now + Duration::from_millis(10)));
        for done in over.into_iter().filter_map(|take_back| take_back.done) {
            let _ = done.send(Err(ReleaseError::Unconfirmed));
        }
    }

    /// When this line next needs the driver, if nothing happens before.
    pub(crate) fn next_look(&self, connected: bool) -> Option<Instant> {
        let mut next: Option<Instant> = self.due.first().map(|&(at, _)| at);
        let mut consider = |at: Option<Instant>| {
            next = match (next, at) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        };
        consider(self.forget_at);
        if connected && self.flight.is_none() {
            let unpaused = |at: Instant| self.pause.until.map_or(at, |until| until.max(at));
            consider(self.pause.until);
            consider(self.speak_at.map(unpaused));
            consider(self.earliest.map(unpaused));
            consider(self.polls.first().map(|&(at, _)| unpaused(at)));
        }
        next
    }

    /// Paces the next question of a waiter that hears no wake-ups; ends it when its backoff does.
    pub(super) fn pace(&mut self, counter: u64, now: Instant) {
        let hears = self.hears;
        let Some(waiter) = self.waiters.get_mut(&counter) else { return };
        if waiter.poll_at.is_some() || (hears && waiter.options.wake == Wake::Push) {
            return;
        }
        let fresh = || Box::new(waiter.options.backoff.clone());
        let backoff = waiter.backoff.get_or_insert_with(fresh);
        waiter.tries = waiter.tries.saturating_add(1);
        match backoff.next() {
            Some(wait) => {
                let wait = wait.clamp(Duration::from_millis(1), Duration::from_secs(3600));
                waiter.poll_at = Some(now + wait);
                self.polls.insert((now + wait, counter));
            }
            None => {
                let (id, tries) = (waiter.id, waiter.tries);
                self.take_back_anywhere(id, now);
                self.end_wait(counter, WaitEnd::GaveUp { tries });
            }
        }
    }

    /// The wake-ups of this client ceased to be, or to be not, heard.
    pub(crate) fn set_hears(&mut self, hears: bool, now: Instant) {
        if self.hears == hears {
            return;
        }
        self.hears = hears;
        let queued: Vec<u64> = self.queue.values().copied().collect();
        for counter in queued {
            self.pace(counter, now);
        }
    }
}
