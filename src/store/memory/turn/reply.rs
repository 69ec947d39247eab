//! Replies.

use std::time::Duration;

use crate::store::memory::score::deadline_of;
use crate::store::memory::state::WakeUps;
use crate::store::{TurnOutcome, WaiterOutcome};

use super::RunningTurn;

impl RunningTurn<'_> {
    pub(super) fn reply(mut self) -> (TurnOutcome, Vec<WakeUps>) {
        self.reply.in_use = self.in_use();
        self.reply.waiting = self.state.queue.len();
        self.reply.last = self.last;
        self.reply.earliest = self.until_earliest_deadline();
        for (id, index) in std::mem::take(&mut self.pending) {
            if let Some(WaiterOutcome::Queued { place, .. }) = &mut self.outcomes[index] {
                *place = self.state.queue.rank(&id);
            }
        }
        // The caller sees newcomers that were asked about as admits.
        let mut outcomes = self.outcomes.into_iter().flatten();
        self.reply.asked = outcomes.by_ref().take(self.turn.ask.len()).collect();
        self.reply.admitted.extend(outcomes);
        (TurnOutcome::Answered(self.reply), self.wake_ups)
    }

    /// Returns the time until the earliest deadline, or until the grace ends, if the caller owns the head of the queue.
    fn until_earliest_deadline(&self) -> Option<Duration> {
        let owns_head = self.head?.client() == self.turn.client;
        if !owns_head || self.state.queue.is_empty() || self.reply.more {
            return None;
        }
        let deadline = if self.is_in_grace() {
            self.grace_ends
        } else {
            let (first, _) = self.state.permits.first()?;
            deadline_of(self.earliest.unwrap_or(first))
        };
        Some(Duration::from_millis(deadline.saturating_sub(self.now_ms)))
    }
}
