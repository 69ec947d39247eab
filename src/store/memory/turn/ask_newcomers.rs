//! Turns newcomers into asks, if this turn may be from before a loss of data.
//!
//! If the client has seen no number of this incarnation, it may have sent the turn before the loss. The
//! epoch that would make the turn stale was lost, too. The newcomers of the turn may already hold or wait,
//! so the turn asks about them.

use crate::store::Ask;

use super::RunningTurn;

impl RunningTurn<'_> {
    pub(super) fn ask_newcomers(&mut self) {
        let incarnation = self.reply.incarnation;
        let may_be_late = self.turn.seen.is_some_and(|seen| incarnation.began_after(seen));
        if may_be_late && !(self.state.permits.is_empty() && self.state.queue.is_empty()) {
            let newcomers = std::mem::take(&mut self.admits).iter();
            self.asks.extend(newcomers.map(|&(id, when_full)| Ask { id, ticket: None, when_full }));
        }
    }
}
