//! Kicks a permit: ends it on the command of an operator. The twin of `lua/kick.lua`.

use crate::id::PermitId;
use crate::inspection::KickOutcome;
use crate::store::{Kick, WakeUp};

use super::meta::extra_units;
use super::score::{deadline_score, kicked};
use super::state::{MemoryState, WakeUps};

impl MemoryState {
    pub(crate) fn kick(
        &mut self,
        id: PermitId,
        kick: Kick,
        now_ms: u64,
    ) -> (KickOutcome, Option<WakeUps>) {
        self.expire(now_ms);
        let score = self.permits.score(&id).unwrap_or(0);
        if score <= deadline_score(now_ms) {
            return (KickOutcome::NotHeld, None);
        }
        let outcome = match kick {
            Kick::Remove => {
                if let Some(meta) = &mut self.meta {
                    meta.extra -= extra_units(&id);
                }
                self.permits.remove(&id);
                KickOutcome::Removed
            }
            Kick::Mark => {
                self.permits.insert(id, kicked(score));
                KickOutcome::Marked
            }
        };
        (outcome, Some((id.client(), vec![(id, WakeUp::Ask)])))
    }
}
