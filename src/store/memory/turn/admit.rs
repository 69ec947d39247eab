//! Admits newcomers: each is granted, queued, refused or found too large.

use crate::id::PermitId;
use crate::store::{ALIVE, Ask, WaiterOutcome, WhenFull};

use super::RunningTurn;

impl RunningTurn<'_> {
    pub(super) fn admit(&mut self) {
        let mut waits = !self.outcomes.is_empty();
        for index in 0..self.outcomes.len() {
            if self.outcomes[index].is_none() {
                let Ask { id, when_full, .. } = self.asks[index];
                self.outcomes[index] = Some(self.enter(id, when_full));
            }
        }
        for &(id, when_full) in self.admits {
            let outcome = self.enter(id, when_full);
            waits |= matches!(outcome, WaiterOutcome::Queued { .. });
            self.reply.admitted.push(outcome);
        }
        if waits {
            self.presume_alive();
        }
    }

    fn enter(&mut self, id: PermitId, when_full: WhenFull) -> WaiterOutcome {
        let waiting = self.state.queue.len();
        if self.is_too_large(id.units()) {
            return WaiterOutcome::TooLarge;
        }
        let may_fit = waiting == 0 && !self.is_in_grace();
        if may_fit && (self.fits(id.units()) || self.prune() && self.fits(id.units())) {
            self.add_permit(id, self.now_ms + id.lease_ms().get());
            return WaiterOutcome::Granted { token: self.next_number(), earlier: false };
        }
        match when_full {
            WhenFull::Refuse => return WaiterOutcome::Refused,
            WhenFull::WaitBehind(most) if waiting >= u64::from(most) => {
                return WaiterOutcome::Refused;
            }
            WhenFull::Wait | WhenFull::WaitBehind(_) => {}
        }
        let ticket = self.next_number();
        self.state.queue.insert(id, ticket.get());
        self.head = self.head.or(Some(id));
        WaiterOutcome::Queued { ticket, place: waiting }
    }

    /// Writes that a client with waiters is alive, once a third of the time is over.
    fn presume_alive(&mut self) {
        let until = self.state.clients.get(&self.turn.client).copied().unwrap_or(0);
        if until < self.now_ms + ALIVE.get() * 2 / 3 {
            self.remember_client(self.now_ms + ALIVE.get());
        }
    }
}
