//! Turns newcomers into asks where this turn may be one from before a loss of data.
//!
//! The client may have sent it before the loss if it has seen no number of this incarnation. The
//! epoch that would make the turn stale is lost, too. What the turn admits may hold or wait by now,
//! so it is asked about.

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
