//! Waiters of a line: how they enter, learn and leave. Pure.

use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::error::StoreError;
use crate::hold::Hold;
use crate::id::PermitId;
use crate::lease;
use crate::options::{Options, Wake};
use crate::store::{CLAIM_MS, Rule};

use super::errand::Errand;
use super::line::Line;

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

/// An answered turn: when it was sent, and the last number it told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    pub(super) sent: Instant,
    pub(super) last: u64,
}

impl Line {
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

    /// Ready with the end of the wait, which is then forgotten here. Else keeps the waker; one that
    /// was kept before is the caller's to drop.
    pub(crate) fn poll_waiter(&mut self, counter: u64, waker: &mut Option<Waker>) -> Poll<WaitEnd> {
        let Entry::Occupied(mut entry) = self.waiters.entry(counter) else {
            return Poll::Ready(WaitEnd::Closed);
        };
        let waiter = entry.get_mut();
        if !matches!(waiter.stage, Stage::Done(_)) {
            std::mem::swap(&mut waiter.waker, waker);
            return Poll::Pending;
        }
        match entry.remove().stage {
            Stage::Done(end) => Poll::Ready(end),
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
        self.forget_the_gone();
        self.forget_speaking();
    }

    fn leave(&mut self, counter: u64) -> Option<Waiter> {
        let mut waiter = self.waiters.remove(&counter)?;
        self.errands.extend(waiter.waker.take().map(Errand::Forget));
        self.leave_queue(counter, &waiter.stage, waiter.poll_at);
        Some(waiter)
    }

    fn leave_queue(&mut self, counter: u64, stage: &Stage, poll_at: Option<Instant>) {
        if let Stage::Queued { ticket } = stage {
            self.queue.remove(ticket);
            self.asking.remove(ticket);
        }
        if let Some(at) = poll_at {
            self.polls.remove(&(at, counter));
        }
    }

    pub(super) fn forget_speaking(&mut self) {
        if self.queue.is_empty() {
            self.speak_at = None;
            self.earliest = None;
        }
    }

    /// Has the futures of all who wait look around.
    pub(super) fn wake_waiters(&mut self) {
        let wakers = self.waiters.values_mut().filter_map(|waiter| waiter.waker.take());
        self.errands.extend(wakers.map(Errand::Wake));
    }

    pub(super) fn end_wait(&mut self, counter: u64, end: WaitEnd) {
        let Some(waiter) = self.waiters.get_mut(&counter) else { return };
        let before = std::mem::replace(&mut waiter.stage, Stage::Done(end));
        let poll_at = waiter.poll_at;
        self.errands.extend(waiter.waker.take().map(Errand::Wake));
        self.leave_queue(counter, &before, poll_at);
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

    /// Grants that no future has looked at yet go back.
    pub(super) fn take_unclaimed_grants(&mut self) {
        let mut unclaimed = Vec::new();
        for (&counter, waiter) in &mut self.waiters {
            if let Stage::Done(end @ WaitEnd::Granted(_)) = &mut waiter.stage
                && let WaitEnd::Granted(hold) = std::mem::replace(end, WaitEnd::Closed)
                && hold.release()
            {
                unclaimed.push(counter);
            }
        }
        for counter in unclaimed {
            self.give_back(counter, None);
        }
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

    pub(super) fn ask_about_all(&mut self) {
        self.asking.extend(self.queue.keys());
    }

    /// A wake-up: token of a grant, or 0 for "ask about this id".
    pub(crate) fn wake(&mut self, id: PermitId, token: u64, now: Instant) {
        if id.client() != self.client {
            return;
        }
        let counter = id.counter();
        if let Some(waiter) = self.waiters.get_mut(&counter) {
            if waiter.flying || matches!(waiter.stage, Stage::Sent) {
                waiter.woken = Some(waiter.woken.map_or(token, |other| other.max(token)));
            } else {
                self.hear(counter, token, now);
            }
        } else if self.held.contains_key(&counter) {
            if token == 0 {
                self.renew_now(counter);
            }
        } else if token > 0 && !self.flights.iter().any(|flight| flight.takes_back(id)) {
            // It was cancelled: most likely it is on the list already.
            self.give_back_stray(id, now);
        }
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

    /// Paces the next question of a waiter that hears no wake-ups; ends it when its backoff does.
    pub(super) fn pace(&mut self, counter: u64, now: Instant) {
        let hears = self.hears;
        let Some(waiter) = self.waiters.get_mut(&counter) else { return };
        if waiter.poll_at.is_some() || (hears && waiter.options.wake == Wake::Push) {
            return;
        }
        let fresh = || Box::new(waiter.options.backoff.restarted());
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

    /// Asks for those whose backoff says so.
    pub(super) fn tend_polls(&mut self, now: Instant) {
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
}
