//! The builder of a turn. One call adds an id both to the turn and to the record of what the turn names.
//! Pure.

use tokio::time::Instant;

use crate::id::PermitId;
use crate::numbers::{Epoch, Incarnation, Millis, Seq, TurnNumber};
use crate::store::{Ask, Meeting, TURN_BOUND, Turn, WhenFull};

use super::removal::Removal;

/// Renewals and removals leave room for each other and for waiters.
pub(super) const SHARE: usize = TURN_BOUND * 7 / 8;
/// A waiter costs the server about twice as much as a renewal or a release.
const WAITER: usize = 2;

/// The ids that a turn has named, in the order of the turn.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub(super) released: Vec<Removal>,
    pub(super) cancelled: Vec<Removal>,
    /// With the lease that each is to get.
    pub(super) renewed: Vec<(u64, Millis)>,
    pub(super) asked: Vec<u64>,
    pub(super) admitted: Vec<u64>,
    pub(super) met: Option<Meeting>,
    /// The limit, if the turn declares it and the label.
    pub(super) declared: Option<u32>,
    /// The waiter that was asked about only because a heartbeat was due.
    pub(super) heartbeat: Option<u64>,
}

/// A turn under construction.
#[derive(Debug)]
pub(super) struct Batch {
    turn: Turn,
    named: Named,
    number: TurnNumber,
    sent: Instant,
    /// For how many ids there is room.
    room: usize,
    /// Whether another turn in flight may name the same permits.
    renewals_only: bool,
}

impl Batch {
    pub(super) fn new(turn: Turn, number: TurnNumber, sent: Instant, renewals_only: bool) -> Self {
        Self { turn, named: Named::default(), number, sent, room: TURN_BOUND, renewals_only }
    }

    pub(super) fn number(&self) -> TurnNumber {
        self.number
    }

    pub(super) fn sent(&self) -> Instant {
        self.sent
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.turn.epoch
    }

    pub(super) fn is_renewals_only(&self) -> bool {
        self.renewals_only
    }

    pub(super) fn into_parts(self) -> (Turn, Named) {
        (self.turn, self.named)
    }

    /// Tells what the store has to know if the client may meet it for the first time.
    pub(super) fn meet(&mut self, meeting: Meeting) {
        self.turn.meets = Some(meeting);
        self.named.met = Some(meeting);
    }

    /// Declares the limit and the label of the turn.
    pub(super) fn declare(&mut self) {
        self.turn.declares = true;
        self.named.declared = Some(self.turn.limit);
    }

    /// Returns how many permits are renewed so far.
    pub(super) fn renewals(&self) -> usize {
        self.named.renewed.len()
    }

    /// Returns whether there is room for one more renewal.
    pub(super) fn fits_renewal(&self) -> bool {
        self.renewals() < SHARE && self.room > 0
    }

    /// Returns whether a permit of that incarnation can be renewed. All renewals of a turn have the same
    /// incarnation.
    pub(super) fn fits_incarnation(&self, incarnation: Option<Incarnation>) -> bool {
        self.named.renewed.is_empty() || self.turn.incarnation == incarnation
    }

    pub(super) fn renew(&mut self, id: PermitId, lease: Millis, incarnation: Option<Incarnation>) {
        self.turn.incarnation = incarnation;
        self.turn.renew.push((id, lease));
        self.named.renewed.push((id.counter(), lease));
        self.room -= 1;
    }

    /// Returns for how many removals there is room. The rest of the turn is for waiters.
    pub(super) fn room_for_removals(&self) -> usize {
        self.room - self.room / 4
    }

    pub(super) fn cancel(&mut self, removal: Removal) {
        self.turn.cancel.push(removal.id);
        self.named.cancelled.push(removal);
        self.room -= 1;
    }

    /// Releases these permits, those of one unit first. `vouched` returns the token of a permit that must
    /// still be in the store. If all permits of one unit have such a token, the store need not look at each.
    pub(super) fn release(
        &mut self,
        mut removals: Vec<Removal>,
        vouched: impl Fn(&Removal) -> Option<Seq>,
    ) {
        let heavy = |removal: &Removal| removal.id.units() > 1;
        if removals.iter().any(heavy) {
            removals.sort_by_key(heavy);
        }
        self.turn.release.extend(removals.iter().map(|removal| removal.id));
        let light = removals.iter().filter(|removal| !heavy(removal));
        self.turn.release_from = light.map(vouched).min().flatten();
        self.room -= removals.len();
        self.named.released = removals;
    }

    pub(super) fn fits_waiter(&self) -> bool {
        self.room >= WAITER
    }

    pub(super) fn ask(&mut self, id: PermitId, ticket: Option<Seq>, when_full: WhenFull) {
        self.turn.ask.push(Ask { id, ticket, when_full });
        self.named.asked.push(id.counter());
        self.room -= WAITER;
    }

    /// Asks about the waiter only because a heartbeat is due.
    pub(super) fn note_heartbeat(&mut self, counter: u64) {
        self.named.heartbeat = Some(counter);
    }

    pub(super) fn admit(&mut self, id: PermitId, when_full: WhenFull) {
        self.turn.admit.push((id, when_full));
        self.named.admitted.push(id.counter());
        self.room -= WAITER;
    }
}
