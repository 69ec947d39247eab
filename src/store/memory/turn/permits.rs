//! Adds, extends and removes permits, for all steps.

use crate::id::PermitId;
use crate::store::memory::meta::extra_units;
use crate::store::memory::score::deadline_score;

use super::RunningTurn;

impl RunningTurn<'_> {
    pub(super) fn add_permit(&mut self, id: PermitId, deadline: u64) {
        let score = deadline_score(deadline);
        self.needed_until = self.needed_until.max(deadline);
        self.earliest = self.earliest.map(|earliest| earliest.min(score));
        // An id that was there already is one permit.
        if self.state.permits.score(&id).is_none() {
            self.meta().extra += extra_units(&id);
        }
        self.state.permits.insert(id, score);
    }

    /// Extends a permit that has `score` to a deadline, unless its own is later.
    pub(super) fn extend_permit(&mut self, id: PermitId, score: u64, deadline: u64) {
        self.needed_until = self.needed_until.max(deadline);
        self.state.permits.insert(id, score.max(deadline_score(deadline)));
    }

    /// Removes a permit. Returns whether it was there.
    pub(super) fn remove_permit(&mut self, id: &PermitId) -> bool {
        let removed = self.state.permits.remove(id);
        if removed {
            self.meta().extra -= extra_units(id);
        }
        removed
    }
}
