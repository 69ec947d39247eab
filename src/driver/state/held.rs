//! One permit that is held: its lease, its renewal, and how long it may last. Pure.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::hold::Hold;
use crate::id::PermitId;
use crate::lease;
use crate::lost_reason::LostReason;
use crate::numbers::{Incarnation, Millis, TurnNumber};
use crate::options::{Options, Renew};
use crate::store::CLAIM;

use super::super::deferred::{Effect, Effects, ExtendDone};
use super::after_turn::{AfterTurn, OldestInFlight};
use super::batch::Batch;
use super::removal::{Ended, Grant};

/// A permit that is held.
#[derive(Debug)]
pub(super) struct Held {
    hold: Arc<Hold>,
    options: Arc<Options>,
    /// The incarnation under which the store last had the permit.
    incarnation: Option<Incarnation>,
    renewal: Renewal,
    /// The end of its lease, counted from when the turn that gave it was sent.
    lease_end: Instant,
    /// Until when the store may keep the permit, if a renewal was sent.
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
    pub(super) fn new(new: NewPermit, now: Instant) -> Self {
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

    /// What is left to end of a permit that is no longer held here.
    pub(super) fn ended(self) -> EndedPermit {
        EndedPermit {
            ended: Ended::sent(self.hold.id),
            grant: Grant {
                token: self.hold.token,
                incarnation: self.incarnation,
                alive_until: self.hold.lease_until(),
            },
            hold: self.hold,
            after: self.named_by.max(self.renewed_by),
            server_until: self.server_until,
            extends: self.extends,
        }
    }

    pub(super) fn lease(&self) -> Duration {
        self.hold.id.lease()
    }

    pub(super) fn incarnation(&self) -> Option<Incarnation> {
        self.incarnation
    }

    /// When it next needs a look, as `deadlines` has it.
    pub(super) fn next_look(&self) -> Instant {
        self.next_look
    }

    /// Updates `next_look`, and returns it if it has changed.
    pub(super) fn move_next_look(&mut self) -> Option<Instant> {
        let next = self.next();
        let before = std::mem::replace(&mut self.next_look, next);
        (next != before).then_some(next)
    }

    /// Returns the present value of `next_look`: when the permit next needs a look.
    fn next(&self) -> Instant {
        let mut next = self.hold.deadline();
        if let Renewal::At(at) = self.renewal {
            next = next.min(at);
        }
        next
    }

    /// The lease that it is renewed for, or the claim that it is until then.
    pub(super) fn counted_as(&self) -> Duration {
        if self.claim { CLAIM.duration() } else { self.hold.id.lease() }
    }

    /// Asks for a longer lease.
    pub(super) fn extend(&mut self, lease: Millis, done: ExtendDone) {
        self.extends.push((lease, done));
    }

    /// Takes out those who ask for a longer lease.
    pub(super) fn take_extends(&mut self) -> impl Iterator<Item = ExtendDone> {
        self.extends.drain(..).map(|(_, done)| done)
    }

    /// Returns whether the permit is due for renewal, or a turn in flight renews it.
    pub(super) fn is_under_renewal(&self) -> bool {
        self.renewal == Renewal::UnderWay
    }

    /// Makes it due for renewal; returns whether it was not.
    pub(super) fn begin_renewal(&mut self) -> bool {
        !self.is_under_renewal() && {
            self.renewal = Renewal::UnderWay;
            true
        }
    }

    /// Returns whether the permit has to be renewed at that instant.
    pub(super) fn is_renewed_at(&self, at: Instant) -> bool {
        self.renewal == Renewal::At(at)
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
    fn lease_to_ask(&self, now: Instant) -> Millis {
        let own = if self.options.renew == Renew::Auto || self.claim {
            self.hold.id.lease_ms()
        } else {
            Millis::from(self.lease_end.saturating_duration_since(now))
        };
        self.extends.iter().map(|&(lease, _)| lease).max().map_or(own, |asked| own.max(asked))
    }

    /// Puts its renewal into the turn.
    pub(super) fn put(&mut self, batch: &mut Batch, slack: Duration) {
        let lease = self.lease_to_ask(batch.sent());
        self.server_until = self.server_until.max(batch.sent() + slack + lease.duration());
        self.renewal = Renewal::UnderWay;
        self.renewed_by = batch.number().into();
        batch.renew(self.hold.id, lease, self.incarnation);
    }

    /// Returns the reason of the loss, if the clock has ended the permit.
    pub(super) fn lost_by_clock(&self, now: Instant) -> Option<LostReason> {
        let ended = self.hold.has_ended().then(|| by_lease(&self.options));
        ended.or_else(|| self.hold.lost_by_clock(now))
    }

    /// The turn that was sent at `sent` has renewed it for `lease`. Returns whether more was asked for
    /// while that turn was under way.
    pub(super) fn renewed(
        &mut self,
        lease: Millis,
        sent: Instant,
        incarnation: Incarnation,
        effects: &mut Effects,
    ) -> bool {
        self.incarnation = Some(incarnation);
        self.claim = false;
        self.lease_end = self.lease_end.max(sent + lease.duration());
        self.hold.extend(lease::provable_until(sent, lease.duration()));
        let (more, done): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.extends).into_iter().partition(|(asked, _)| *asked > lease);
        self.extends = more;
        effects.extend(done.into_iter().map(|(_, done)| Effect::Extended(done, Ok(()))));
        self.renewal = match self.options.renew {
            Renew::Auto => Renewal::At(lease::renew_at(sent, self.lease())),
            Renew::Manual => Renewal::Never,
        };
        !self.extends.is_empty()
    }

    /// Returns whether the lease has ended by the clock.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.hold.deadline() <= now
    }
}

/// Returns why a permit is lost when its lease is over.
pub(super) fn by_lease(options: &Options) -> LostReason {
    match options.renew {
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
