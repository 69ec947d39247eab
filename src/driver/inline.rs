//! Inline turns: a caller takes them itself, where the store need not be awaited.
//!
//! # Implementation
//!
//! The caller builds the turn under the lock of the state, has the store run it with the state unlocked, and
//! takes in the outcome. During that time the turn is in flight, so the wishes of other callers are
//! gathered, as they are during the driver's turns. They go out before the caller returns. The driver keeps
//! the timers.

use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::{ClientMeter, SentAt, TurnEnd};
use crate::span::TurnSpan;
use crate::store::Store;

use super::cell::SemaphoreCell;
use super::deferred::Effect;
use super::link::LinkWatch;

/// Takes turns until there is nothing to say. Returns whether the driver must look at the state: because the
/// store has to be awaited, to set its timer earlier, to log a loss, or to drop a state that is no longer
/// needed.
pub(super) fn take_turns(
    cell: &SemaphoreCell,
    store: &dyn Store,
    link: &LinkWatch,
    call_timeout: Duration,
    meter: &ClientMeter,
) -> bool {
    let now = Instant::now();
    loop {
        let outgoing = cell.with(|state| {
            state.tick(now);
            state.set_subscribed(true, now);
            let outgoing = state.next_turn(now, call_timeout, None);
            state.show();
            outgoing
        });
        let Some(outgoing) = outgoing else { break };
        let sent = SentAt::new(meter.present(now), outgoing.turn.ids());
        let span = TurnSpan::begin(&outgoing.turn, store.database(), || store.address());
        let Some(outcome) = store.turn_inline(&outgoing.turn) else { return true };
        let end = TurnEnd::of(&outcome);
        span.record(end);
        meter.landed(sent, end, Instant::now);
        link.hear(now);
        let (_, effects) = cell.take_in(outgoing.number, outcome, now);
        effects.into_iter().for_each(Effect::run);
    }
    cell.with(|state| state.wants_look())
}
