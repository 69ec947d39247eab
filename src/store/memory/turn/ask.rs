//! Answers asks about waiters. A waiter that was lost goes back to its place in the queue.

use crate::numbers::Seq;
use crate::store::memory::score::is_kicked;
use crate::store::{Ask, WaiterOutcome};

use super::RunningTurn;

impl RunningTurn<'_> {
    pub(super) fn ask(&mut self) {
        if !self.asks.is_empty() {
            self.prune();
        }
        self.outcomes.reserve(self.asks.len());
        for index in 0..self.asks.len() {
            let outcome = self.ask_about(index);
            self.outcomes.push(outcome);
        }
    }

    /// Returns the outcome of a waiter; `None` if it has to be admitted.
    fn ask_about(&mut self, index: usize) -> Option<WaiterOutcome> {
        let Ask { id, ticket, .. } = self.asks[index];
        match (self.state.permits.score(&id), self.state.queue.score(&id)) {
            (Some(score), _) if is_kicked(score) => Some(WaiterOutcome::Kicked),
            (Some(score), _) => {
                self.extend_permit(id, score, self.now_ms + id.lease_ms().get());
                Some(WaiterOutcome::Granted { token: self.next_number(), earlier: true })
            }
            (None, Some(score)) => {
                let ticket = Seq::new(score)?;
                // A turn that was cut short may have queued it without writing the number.
                self.last = self.last.max(Some(ticket));
                self.pending.insert(id, index);
                Some(WaiterOutcome::Queued { ticket, place: 0 })
            }
            (None, None) => {
                let ticket = ticket?;
                self.pending.insert(id, index);
                self.state.queue.insert(id, ticket.get());
                self.reply.put_back = true;
                Some(WaiterOutcome::Queued { ticket, place: 0 })
            }
        }
    }
}
