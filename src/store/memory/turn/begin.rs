//! Begins the turn: reads the state, and checks whether the turn is stale.

use std::collections::HashMap;

use crate::numbers::{Epoch, Incarnation, Seq};
use crate::store::memory::state::MemoryState;
use crate::store::{Turn, TurnReply};

use super::RunningTurn;

impl<'a> RunningTurn<'a> {
    /// Begins a turn; the error is the epoch that makes it stale.
    pub(super) fn begin(
        state: &'a mut MemoryState,
        turn: &'a Turn,
        now: u64,
    ) -> Result<Self, Epoch> {
        let stored = state.meta.as_ref().and_then(|meta| meta.epochs.get(&turn.client));
        if let Some(&stored) = stored
            && turn.epoch < stored
        {
            return Err(stored);
        }
        let needed_until = match state.meta {
            Some(_) => 0,
            None => state.latest_deadline().max(now / 1000),
        };
        let none_held = state.permits.is_empty();
        let in_process = state.origin.is_some();
        let is_new = state.meta.is_none();
        let meta = state.meta_at(now);
        if none_held {
            meta.extra = 0;
        }
        let is_behind = meta.last < turn.seen;
        let mut last = meta.last.max(turn.seen);
        if is_new && !in_process && is_behind {
            last = last.map(|last| last.plus(1));
            meta.incarnation = Incarnation::at(Seq::or_zero(last));
        }
        let limit = meta.limit_override.unwrap_or(turn.limit);
        let overridden = meta.limit_override.is_some();
        let reply = TurnReply { overridden, ..TurnReply::new(meta.incarnation, limit) };
        let mut running = Self {
            state,
            turn,
            now,
            now_ms: now / 1000,
            limit,
            last,
            needed_until,
            wrote_clients: false,
            pruned: false,
            grace_ends: 0,
            earliest: None,
            head: None,
            asks: turn.ask.clone(),
            outcomes: Vec::new(),
            pending: HashMap::new(),
            admits: &turn.admit,
            wake_ups: Vec::new(),
            reply,
        };
        running.meet(is_new, is_behind);
        Ok(running)
    }
}
