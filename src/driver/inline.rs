//! Inline turns: a caller takes them itself, where the store need not be awaited.
//!
//! # Implementation
//!
//! The caller builds the turn under the lock of the state, has the store run it with the state
//! unlocked, and takes in the outcome. The turn is in flight meanwhile, so other callers gather as they
//! do beside the driver's turns, and what they have gathered goes out before the caller returns. Timers
//! stay with the driver.

use std::time::Duration;

use tokio::time::Instant;

use crate::store::Store;

use super::cell::SemaphoreCell;

/// Takes turns until there is nothing to say. Returns whether the driver must look: because the store
/// has to be awaited, to set its timer earlier, or to drop a state that nobody misses.
pub(super) fn take_turns(cell: &SemaphoreCell, store: &dyn Store, call_timeout: Duration) -> bool {
    let now = Instant::now();
    loop {
        let outgoing = cell.with(|state| {
            state.tick(now);
            state.set_subscribed(true, now);
            state.next_turn(now, call_timeout, None)
        });
        let Some(outgoing) = outgoing else { break };
        let Some(outcome) = store.turn_inline(&outgoing.turn) else { return true };
        cell.take_in(outgoing.number, outcome, now);
    }
    cell.with(|state| state.wants_look())
}
