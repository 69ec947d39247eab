//! The turns in flight of one semaphore, in the order in which they were sent. Pure.
//!
//! # Implementation
//!
//! Usually one turn is in flight. Under load a second one is pipelined. Renewals that cannot wait for a late
//! answer go out beside any number of turns. The store may run them in either order, since no id is named by
//! two of them and nothing follows a question; `ARCHITECTURE.md` has the proof.

use std::time::Duration;

use tokio::time::Instant;

use crate::id::PermitId;
use crate::lease;
use crate::numbers::{Epoch, Millis, TurnNumber};
use crate::store::Turn;

use super::after_turn::{AfterTurn, OldestInFlight};
use super::batch::{Batch, Named};
use super::removal::Removal;

#[derive(Debug)]
struct TurnInFlight {
    number: TurnNumber,
    epoch: Epoch,
    sent: Instant,
    /// Whether it is a renewal turn, sent beside other turns.
    renewals_only: bool,
    /// Whether its permits are due for renewal again, because its answer is late.
    renewed_again: bool,
    named: Named,
}

/// A turn that is no longer in flight.
#[derive(Debug)]
pub(super) struct LandedTurn {
    pub(super) number: TurnNumber,
    pub(super) epoch: Epoch,
    pub(super) sent: Instant,
    /// What it renewed is due again already.
    pub(super) renewed_again: bool,
    pub(super) named: Named,
}

#[derive(Debug, Default)]
pub(super) struct InFlight {
    turns: Vec<TurnInFlight>,
    last_sent: Option<TurnNumber>,
    /// Turns up to this one may have gone out on an earlier connection.
    earlier_connection: AfterTurn,
}

impl InFlight {
    /// The number of the turn that is to be sent.
    pub(super) fn next_number(&mut self) -> TurnNumber {
        let number = TurnNumber::after(self.last_sent);
        self.last_sent = Some(number);
        number
    }

    /// The turn is in flight from now on.
    pub(super) fn push(&mut self, batch: Batch) -> Turn {
        let (number, epoch, sent) = (batch.number(), batch.epoch(), batch.sent());
        let renewals_only = batch.is_renewals_only();
        let (turn, named) = batch.into_parts();
        let renewed_again = false;
        if self.turns.is_empty() {
            self.turns.reserve_exact(1); // of many names, most never have a second turn in flight
        }
        self.turns.push(TurnInFlight { number, epoch, sent, renewals_only, renewed_again, named });
        turn
    }

    /// Takes out a turn that was answered, or of which no answer is awaited any more.
    pub(super) fn landed(&mut self, number: TurnNumber) -> Option<LandedTurn> {
        let index = self.turns.iter().position(|turn| turn.number == number)?;
        let TurnInFlight { number, epoch, sent, renewed_again, named, .. } =
            self.turns.remove(index);
        Some(LandedTurn { number, epoch, sent, renewed_again, named })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    pub(super) fn oldest_number(&self) -> Option<TurnNumber> {
        self.turns.first().map(|turn| turn.number)
    }

    pub(super) fn oldest(&self) -> OldestInFlight {
        OldestInFlight::new(self.oldest_number())
    }

    /// Returns the order "after all turns that were sent so far".
    pub(super) fn after_all_sent(&self) -> AfterTurn {
        self.last_sent.map_or(AfterTurn::NONE, AfterTurn::from)
    }

    /// Notes that all turns sent so far may be on an earlier connection.
    pub(super) fn reconnected(&mut self) {
        self.earlier_connection = self.after_all_sent();
    }

    /// Returns whether a full turn may go out. Renewal turns do not prevent it, unless they put permits
    /// back, because permits come before waiters.
    pub(super) fn is_free(&self, recovering: bool) -> bool {
        self.turns.iter().all(|turn| turn.renewals_only && !recovering)
    }

    /// Returns how many newcomers and removals the turn in flight names, if a second turn may go out before
    /// it has landed, as far as the first one is concerned: it is alone, on this connection, and asks about
    /// no waiter. A question that ran later would reopen what the second turn had settled.
    pub(super) fn leader(&self) -> Option<usize> {
        let [TurnInFlight { number, named, .. }] = self.turns.as_slice() else { return None };
        let may = AfterTurn::from(*number) > self.earlier_connection && named.asked.is_empty();
        may.then(|| named.admitted.len() + named.released.len() + named.cancelled.len())
    }

    /// Returns whether the latest turn in flight was sent on this connection.
    pub(super) fn is_on_this_connection(&self) -> bool {
        let latest = self.turns.last().map(|turn| AfterTurn::from(turn.number));
        latest.is_some_and(|latest| latest > self.earlier_connection)
    }

    /// Returns when the answers to all turns in flight are late for a lease of this length.
    pub(super) fn all_late_at(&self, lease: Duration) -> Option<Instant> {
        self.turns.last()?.sent.checked_add(lease::answer_in(lease))
    }

    /// Returns whether a turn in flight renews something that is not due again yet.
    pub(super) fn has_renewals(&self) -> bool {
        let renews = |turn: &TurnInFlight| !turn.renewed_again && !turn.named.renewed.is_empty();
        self.turns.iter().any(renews)
    }

    /// The turns whose answers have become late for a lease of this length, with what they renew.
    pub(super) fn newly_late(
        &mut self,
        lease: Duration,
        now: Instant,
    ) -> impl Iterator<Item = (TurnNumber, &[(u64, Millis)])> {
        let grace = lease::answer_in(lease);
        let late = move |turn: &&mut TurnInFlight| {
            !turn.renewed_again && turn.sent.checked_add(grace).is_some_and(|at| at <= now)
        };
        self.turns.iter_mut().filter(late).map(|turn| {
            turn.renewed_again = true;
            (turn.number, turn.named.renewed.as_slice())
        })
    }

    /// The label has changed since the turns in flight were made: what they declare is out of date.
    pub(super) fn retract_declarations(&mut self) {
        for turn in &mut self.turns {
            turn.named.declared = None;
        }
    }

    /// Returns whether a turn in flight removes the id.
    pub(super) fn removes(&self, id: PermitId) -> bool {
        let named = self.turns.iter().map(|turn| &turn.named);
        let mut removals = named.flat_map(|named| named.cancelled.iter().chain(&named.released));
        removals.any(|removal| removal.id == id)
    }

    /// Returns how many ids the turns in flight remove.
    pub(super) fn removals(&self) -> usize {
        let named = self.turns.iter().map(|turn| &turn.named);
        named.map(|named| named.released.len() + named.cancelled.len()).sum()
    }

    /// Ends all turns, since no answer will come. Returns the releases that they carry.
    pub(super) fn end(&mut self) -> impl Iterator<Item = Removal> {
        self.turns.drain(..).flat_map(|turn| turn.named.released)
    }
}
