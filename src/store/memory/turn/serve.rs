//! Grants to the head of the queue while it fits.

use std::collections::HashSet;

use crate::id::PermitId;
use crate::numbers::Seq;
use crate::store::{CLAIM, LOOK_BOUND, WaiterOutcome, WakeUp};

use super::RunningTurn;

impl RunningTurn<'_> {
    pub(super) fn serve(&mut self) {
        if self.state.queue.is_empty() {
            return;
        }
        if self.is_in_grace() {
            self.head = self.state.queue.first().map(|(_, id)| id);
            return;
        }
        let mut alive = HashSet::from([self.turn.client]);
        let mut looked = 0;
        while let Some((_, id)) = self.state.queue.first() {
            if looked == LOOK_BOUND {
                self.reply.more = true;
                return;
            }
            looked += 1;
            let (client, units) = (id.client(), id.units());
            let until = self.state.clients.get(&client).copied().unwrap_or(0);
            if !alive.contains(&client) && until <= self.now_ms {
                self.state.queue.remove(&id);
                continue;
            }
            alive.insert(client);
            let own = client == self.turn.client;
            // Without an override, only the owner of a waiter knows its limit, which may be higher.
            if self.is_too_large(units) && (self.reply.overridden || own) {
                self.state.queue.remove(&id);
                self.tell(id, None);
            } else if self.fits(units) {
                let lease = if own { id.lease_ms() } else { id.lease_ms().min(CLAIM) };
                self.add_permit(id, self.now_ms + lease.get());
                let token = self.next_number();
                self.tell(id, Some(token));
                self.state.queue.remove(&id);
            } else if !self.prune() {
                self.head = Some(id);
                return;
            }
        }
    }

    /// Tells the owner of a waiter that it has left the queue. `None` means that it left without a grant.
    fn tell(&mut self, id: PermitId, token: Option<Seq>) {
        let client = id.client();
        if client != self.turn.client {
            let wake_up = (id, token.map_or(WakeUp::Ask, WakeUp::Granted));
            match self.wake_ups.iter_mut().find(|(other, _)| *other == client) {
                Some((_, wake_ups)) => wake_ups.push(wake_up),
                None => self.wake_ups.push((client, vec![wake_up])),
            }
        } else if let Some(index) = self.pending.remove(&id) {
            self.outcomes[index] = Some(match token {
                Some(token) => WaiterOutcome::Granted { token, earlier: false },
                None => WaiterOutcome::TooLarge,
            });
        } else {
            self.reply.others.push((id, token));
        }
    }
}
