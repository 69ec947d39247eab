//! Turns without the driver, where the store needs no waiting.
//!
//! # Implementation
//!
//! A caller takes the turn that it has given cause for itself: it builds it under the lock of the
//! line, has the store settle it outside of that lock, and takes in the outcome. The flight is on
//! the line meanwhile, so others gather as they do for the driver's turns, and whoever gathered
//! is looked after before the caller goes. Timers stay with the driver.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::{LineCell, Shared};

impl LineCell {
    /// False where the driver is needed.
    pub(super) fn turn_at_once(self: &Arc<Self>, shared: &Shared) -> bool {
        // Without a runtime the time may be another than that of the driver; where that has ended,
        // nobody else would hand anything back.
        let on_time = || Handle::try_current().is_ok() || shared.has_ended();
        if !shared.at_once.load(Ordering::SeqCst) || !on_time() {
            return false;
        }
        let now = Instant::now();
        loop {
            let outgoing = self.peek(|line| {
                line.tick(now);
                line.set_hears(true, now);
                line.next_turn(now, shared.call_timeout, None)
            });
            let Some(outgoing) = outgoing else { break };
            let Some(outcome) = shared.store.turn_at_once(&outgoing.turn) else { return false };
            self.take_in(outgoing.number, outcome, now);
        }
        shared.flushed.notify_waiters();
        // What the driver has to do: set its timer earlier, or drop a line that nobody misses.
        self.peek(|line| {
            let next = line.next_look(true);
            let sooner = next.is_some_and(|at| line.timer.is_none_or(|timer| at < timer));
            if sooner {
                line.look_by = next;
            }
            !sooner && !line.is_unused()
        })
    }
}
