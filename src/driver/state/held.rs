//! One permit that is held: its lease, its renewal, and how long it may last. Pure.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::compact_instant::CompactInstant;
use crate::hold::Hold;
use crate::id::PermitId;
use crate::lease;
use crate::lost_reason::LostReason;
use crate::numbers::{Incarnation, Millis, TurnNumber};
use crate::options::Renew;
use crate::store::CLAIM;

use super::after_turn::{AfterTurn, OldestInFlight};
use super::batch::Batch;
use super::removal::{Ended, Grant};

/// A permit that is held. A process may have very many, so it keeps no more than each of them needs.
#[derive(Debug)]
pub(super) struct Held {
    hold: Arc<Hold>,
    /// The incarnation under which the store last had the permit.
    incarnation: Option<Incarnation>,
    /// The last turn that may name it as a waiter: it is not named before that has landed.
    named_by: AfterTurn,
    /// The last turn that was to renew it.
    renewed_by: AfterTurn,
    /// When it next needs a look, as `deadlines` has it.
    next_look: CompactInstant,
    /// For how long the store may keep the permit after the end of the lease here.
    kept_after: MillisAfter,
    renew: Renew,
    renewal: Renewal,
    /// Granted by a foreign turn, and not confirmed yet.
    claim: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Renewal {
    /// At the instant of the next look.
    Scheduled,
    /// In `renewing`, or named by a turn in flight.
    UnderWay,
    Never,
}

/// A time in whole milliseconds, rounded up. It reaches 49 days, which is more than the longest lease and the
/// longest wait for an answer.
#[derive(Debug, Clone, Copy)]
struct MillisAfter(u32);

impl MillisAfter {
    fn between(from: Instant, to: Instant) -> Self {
        let millis = to.saturating_duration_since(from).as_nanos().div_ceil(1_000_000);
        Self(u32::try_from(millis).unwrap_or(u32::MAX))
    }

    fn duration(self) -> Duration {
        Duration::from_millis(self.0.into())
    }
}

/// How long a grant lasts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Term {
    /// By a turn of this client.
    Lease,
    /// By a turn of another client, until this one confirms it.
    Claim,
}

impl Term {
    pub(super) fn of(self, id: PermitId) -> Duration {
        match self {
            Self::Lease => id.lease(),
            Self::Claim => id.lease().min(CLAIM.duration()),
        }
    }
}

/// A grant to a waiter.
#[derive(Debug)]
pub(super) struct NewPermit {
    pub(super) hold: Arc<Hold>,
    pub(super) renew: Renew,
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
}

impl Held {
    pub(super) fn new(new: NewPermit, now: Instant) -> Self {
        let NewPermit { hold, renew, incarnation, counted_from, lease, named_by } = new;
        let until = hold.lease_until();
        let claim = lease < hold.id.lease();
        let mut held = Self {
            hold,
            incarnation,
            named_by,
            renewed_by: AfterTurn::NONE,
            next_look: until.into(),
            kept_after: MillisAfter(0),
            renew,
            renewal: Renewal::Never,
            claim,
        };
        held.schedule(match renew {
            _ if claim => Some(lease::confirm_at(now, until)),
            Renew::Auto => Some(lease::renew_at(counted_from, lease)),
            Renew::Manual => None,
        });
        held
    }

    /// What is left to end of a permit that is no longer held here.
    pub(super) fn ended(self) -> EndedPermit {
        EndedPermit {
            ended: Ended::sent(self.hold.id),
            grant: Grant {
                token: self.hold.token,
                incarnation: self.incarnation,
                alive_until: self.hold.lease_until(),
            },
            after: self.named_by.max(self.renewed_by),
            server_until: self.server_until(),
            hold: self.hold,
        }
    }

    pub(super) fn hold(&self) -> Arc<Hold> {
        Arc::clone(&self.hold)
    }

    pub(super) fn lease(&self) -> Duration {
        self.hold.id.lease()
    }

    pub(super) fn incarnation(&self) -> Option<Incarnation> {
        self.incarnation
    }

    /// When it next needs a look, as `deadlines` has it.
    pub(super) fn next_look(&self) -> CompactInstant {
        self.next_look
    }

    /// Sets when the permit is renewed, and with that the next look. A permit that ends before that is not
    /// renewed.
    fn schedule(&mut self, renew_at: Option<Instant>) {
        let deadline = self.hold.deadline();
        let renew_at = renew_at.filter(|at| *at < deadline);
        self.renewal = if renew_at.is_some() { Renewal::Scheduled } else { Renewal::Never };
        let next = renew_at.unwrap_or(deadline);
        // A renewal that is a little earlier does as well, and saves a change of `deadlines`.
        let early = next.checked_duration_since(self.next_look.into());
        let is_near = early.is_some_and(|early| early <= lease::piggyback(self.lease()));
        if !(self.renewal == Renewal::Scheduled && is_near) {
            self.next_look = next.into();
        }
    }

    /// Moves the next look to when a renewal that is sent now would be due again.
    fn look_after(&mut self, now: Instant) {
        let next = lease::renew_at(now, self.lease());
        self.next_look = next.min(self.hold.deadline()).into();
    }

    /// Until when the store may keep the permit.
    fn server_until(&self) -> Instant {
        self.hold.lease_until() + self.kept_after.duration()
    }

    fn set_server_until(&mut self, until: Instant) {
        self.kept_after = MillisAfter::between(self.hold.lease_until(), until);
    }

    /// The lease that it is renewed for, or the claim that it is until then.
    pub(super) fn counted_as(&self) -> Duration {
        if self.claim { CLAIM.duration() } else { self.hold.id.lease() }
    }

    /// Returns whether the permit is due for renewal, or a turn in flight renews it.
    pub(super) fn is_under_renewal(&self) -> bool {
        self.renewal == Renewal::UnderWay
    }

    /// Ends the renewals: the next look is at the end of the lease.
    pub(super) fn end_renewals(&mut self) {
        self.schedule(None);
    }

    /// Returns whether the permit was kicked, and is not given back yet.
    pub(super) fn is_left_to_holder(&self) -> bool {
        self.hold.is_kicked()
    }

    /// Makes it due for renewal; returns whether it was not. A permit that was kicked never is.
    pub(super) fn begin_renewal(&mut self) -> bool {
        if self.is_left_to_holder() {
            return false;
        }
        std::mem::replace(&mut self.renewal, Renewal::UnderWay) != Renewal::UnderWay
    }

    /// The instant of the next look has come: makes it due for renewal; returns whether it was not.
    pub(super) fn look(&mut self, now: Instant) -> bool {
        self.look_after(now);
        self.begin_renewal()
    }

    /// Returns whether the permit has to be renewed at that instant.
    pub(super) fn is_renewed_at(&self, at: CompactInstant) -> bool {
        self.renewal == Renewal::Scheduled && self.next_look == at
    }

    /// Returns whether no turn in flight names the id as a waiter.
    pub(super) fn may_be_named(&self, oldest: OldestInFlight) -> bool {
        oldest.is_past(self.named_by)
    }

    /// Returns whether `turn` was the last one to renew the permit.
    pub(super) fn was_named_to_renew(&self, turn: TurnNumber) -> bool {
        self.renewed_by.is(turn)
    }

    /// Returns whether the renewal waits for the outcome of `turn`.
    pub(super) fn is_renewed_by(&self, turn: TurnNumber) -> bool {
        self.renewal == Renewal::UnderWay && self.renewed_by.is(turn)
    }

    /// Returns for how long from `now` a renewal is to hold it: as long as those who extend it ask, and at
    /// least for its own lease. A fixed lease is named so that it can be put back, but gets no longer.
    fn lease_to_ask(&self, now: Instant, asked: Option<Millis>) -> Millis {
        let own = if self.renew == Renew::Auto || self.claim {
            self.hold.id.lease_ms()
        } else {
            let left = self.hold.lease_until().saturating_duration_since(now);
            Millis::from(lease::held_for(left))
        };
        asked.map_or(own, |asked| own.max(asked))
    }

    /// Puts its renewal into the turn. `asked` is the longest lease that somebody asks for.
    pub(super) fn put(&mut self, batch: &mut Batch, asked: Option<Millis>, slack: Duration) {
        let lease = self.lease_to_ask(batch.sent(), asked);
        self.set_server_until(self.server_until().max(batch.sent() + slack + lease.duration()));
        self.renewal = Renewal::UnderWay;
        self.renewed_by = batch.number().into();
        batch.renew(self.hold.id, lease, self.incarnation);
    }

    /// Puts its renewal into the turn before it is due.
    pub(super) fn put_early(&mut self, batch: &mut Batch, asked: Option<Millis>, slack: Duration) {
        self.look_after(batch.sent());
        self.put(batch, asked, slack);
    }

    /// Returns the reason of the loss, if the clock has ended the permit.
    pub(super) fn lost_by_clock(&self, now: Instant) -> Option<LostReason> {
        let ended = self.hold.has_ended().then(|| by_lease(self.renew));
        ended.or_else(|| self.hold.lost_by_clock(now))
    }

    /// The turn that was sent at `sent` has renewed it for `lease`.
    pub(super) fn renewed(&mut self, lease: Millis, sent: Instant, incarnation: Incarnation) {
        self.incarnation = Some(incarnation);
        self.claim = false;
        let server_until = self.server_until();
        self.hold.extend(lease::provable_until(sent, lease.duration()));
        self.set_server_until(server_until);
        self.schedule(match self.renew {
            Renew::Auto => Some(lease::renew_at(sent, self.lease())),
            Renew::Manual => None,
        });
    }

    /// Returns whether the lease has ended by the clock.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.hold.deadline() <= now
    }
}

/// Returns why a permit is lost when its lease is over.
pub(super) fn by_lease(renew: Renew) -> LostReason {
    match renew {
        Renew::Auto => LostReason::RenewalTimeout,
        Renew::Manual => LostReason::Expired,
    }
}

#[cfg(test)]
impl Held {
    pub(super) fn id(&self) -> PermitId {
        self.hold.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_permit_costs_the_table_of_a_state_48_bytes_and_a_key() {
        assert_eq!(size_of::<Held>(), 48);
    }

    #[test]
    fn a_time_is_rounded_up_to_whole_milliseconds() {
        let start = Instant::now();
        for (nanos, millis) in [(0, 0), (1, 1), (1_000_000, 1), (1_000_001, 2)] {
            let after = MillisAfter::between(start, start + Duration::from_nanos(nanos));
            assert_eq!(after.duration(), Duration::from_millis(millis));
        }
        let earlier = MillisAfter::between(start + Duration::from_secs(1), start);
        assert_eq!(earlier.duration(), Duration::ZERO);
    }
}
