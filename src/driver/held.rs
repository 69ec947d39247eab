//! Permits of a line: granted, renewed, lost. Pure.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::ExtendError;
use crate::hold::Hold;
use crate::lease;
use crate::lost_reason::LostReason;
use crate::options::{Options, Renew};
use crate::store::CLAIM_MS;

use super::errand::Errand;
use super::line::Line;
use super::waiter::{Stage, WaitEnd};

pub(crate) type ExtendDone = oneshot::Sender<Result<(), ExtendError>>;

#[derive(Debug)]
pub(super) struct Held {
    pub(super) hold: Arc<Hold>,
    pub(super) options: Arc<Options>,
    pub(super) incarnation: u64,
    pub(super) renewal: Renewal,
    /// The end of its lease, counted from when the turn that gave it was sent.
    lease_end: Instant,
    /// The server may keep it so long, if an extension was sent.
    pub(super) server_until: Instant,
    /// A turn up to this one named it when another one granted it: no other names it before all of
    /// those have landed.
    pub(super) named_by: u64,
    /// The last turn that was to renew it.
    pub(super) renewed_by: u64,
    /// Granted by a foreign turn, and not confirmed yet.
    pub(super) claim: bool,
    max_hold_at: Option<Instant>,
    pub(super) extends: Vec<(u64, ExtendDone)>,
    /// When it next needs a look, as `due` knows it.
    pub(super) next_look: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    At(Instant),
    /// In `renewing`, or named by a turn in flight.
    UnderWay,
    Never,
}

impl Held {
    /// When it next needs a look, as things stand.
    fn next(&self) -> Instant {
        let mut next = self.hold.deadline();
        if let Some(end) = self.max_hold_at {
            next = next.min(end);
        }
        if let Renewal::At(at) = self.renewal {
            next = next.min(at);
        }
        next
    }

    /// The lease that it is renewed for, or the claim that it is until then.
    fn counted_as(&self) -> Duration {
        let claim = Duration::from_millis(CLAIM_MS);
        if self.claim { claim } else { self.hold.id.lease() }
    }

    /// Whether the outcome of that turn is what its renewal waits for.
    pub(super) fn is_renewed_by(&self, turn: u64) -> bool {
        self.renewal == Renewal::UnderWay && self.renewed_by == turn
    }

    /// For how long from `now` a renewal is to hold the permit if nobody extends it. A fixed lease
    /// is named so that it can be put back, but gets no longer.
    pub(super) fn own_lease_ms(&self, now: Instant) -> u64 {
        let id = self.hold.id;
        if self.options.renew == Renew::Auto || self.claim {
            return id.lease_ms();
        }
        let left = self.lease_end.saturating_duration_since(now);
        u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
    }

    /// A turn sent then gave it a lease; never a shorter one.
    pub(super) fn extended(&mut self, sent: Instant, lease: Duration) {
        self.lease_end = self.lease_end.max(sent + lease);
        self.hold.extend(lease::provable_until(sent, lease));
    }
}

impl Line {
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
            Renew::Auto => LostReason::RenewalTimeout,
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
        let mut held = Held {
            hold: Arc::clone(&hold),
            max_hold_at: options.max_hold.and_then(|most| now.checked_add(most)),
            options,
            incarnation: self.incarnation,
            renewal,
            claim: lease < full,
            lease_end: counted_from + lease,
            server_until: until,
            named_by: if waiter.flying { self.sent_turns } else { 0 },
            renewed_by: 0,
            extends: Vec::new(),
            next_look: until,
        };
        held.next_look = held.next();
        self.due.put(held.next_look, counter);
        self.leases.add(held.counted_as());
        self.held.insert(counter, held);
        self.end_wait(counter, WaitEnd::Granted(hold));
    }

    pub(super) fn forget_held(&mut self, counter: u64) -> Option<Held> {
        let held = self.held.remove(&counter)?;
        self.leases.remove(held.counted_as());
        self.forget_the_gone();
        Some(held)
    }

    pub(super) fn lose(&mut self, counter: u64, reason: LostReason, now: Instant) {
        let Some(held) = self.forget_held(counter) else { return };
        held.hold.lose_unannounced(reason);
        self.errands.push(Errand::Announce(Arc::clone(&held.hold)));
        let reason = held.hold.lost_for().unwrap_or(reason);
        let lost = |(_, done)| Errand::Extended(done, Err(ExtendError::Lost(reason)));
        self.errands.extend(held.extends.into_iter().map(lost));
        self.take_back_anywhere(held.hold.id, now.max(held.server_until));
    }

    pub(crate) fn lose_all(&mut self, reason: LostReason, now: Instant) {
        let counters: Vec<u64> = self.held.keys().copied().collect();
        for counter in counters {
            self.lose(counter, reason, now);
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

    pub(super) fn renew_all(&mut self) {
        self.healing = true;
        let held: Vec<u64> = self.held.keys().copied().collect();
        for counter in held {
            self.renew_now(counter);
        }
    }

    /// Moves the permit to its next instant in `due`.
    pub(super) fn look_again(&mut self, counter: u64) {
        let Some(held) = self.held.get_mut(&counter) else { return };
        let next = held.next();
        if next != held.next_look {
            held.next_look = next;
            self.due.put(next, counter);
        }
    }

    /// The permit that next needs a look, and when.
    pub(super) fn next_due(&mut self) -> Option<(Instant, u64)> {
        self.due.first(|counter| Some(self.held.get(&counter)?.next_look))
    }

    /// Ends what is over by the clock, and renews what is due.
    pub(super) fn tend_held(&mut self, now: Instant) {
        while let Some((at, counter)) = self.next_due()
            && at <= now
            && let Some(held) = self.held.get_mut(&counter)
        {
            if held.hold.has_ended() || held.hold.deadline() <= now {
                let reason = match held.options.renew {
                    Renew::Auto => LostReason::RenewalTimeout,
                    Renew::Manual => LostReason::Expired,
                };
                self.lose(counter, reason, now);
            } else if held.max_hold_at.is_some_and(|end| end <= now) {
                self.lose(counter, LostReason::MaxHold, now);
            } else {
                self.renew_now(counter);
            }
        }
        self.due.forget(self.held.len(), |counter| Some(self.held.get(&counter)?.next_look));
    }
}
