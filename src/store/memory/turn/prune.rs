//! Removes permits whose lease has ended.

use crate::store::LOOK_BOUND;
use crate::store::memory::score::deadline_score;

use super::RunningTurn;

impl RunningTurn<'_> {
    /// Prunes once per turn, before the first step that depends on it. Returns whether any lease had ended.
    pub(super) fn prune(&mut self) -> bool {
        if std::mem::replace(&mut self.pruned, true) {
            return false;
        }
        let mut removed = 0;
        while let Some((score, id)) = self.state.permits.first()
            && score <= deadline_score(self.now_ms)
            && removed < LOOK_BOUND
        {
            self.remove_permit(&id);
            removed += 1;
        }
        self.reply.more |= removed == LOOK_BOUND;
        if removed == 0 {
            self.earliest = self.state.permits.first().map(|(score, _)| score);
        }
        removed > 0
    }
}
