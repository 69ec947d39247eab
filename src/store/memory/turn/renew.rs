//! Renews permits, and puts back those that a loss of data has removed.

use crate::id::PermitId;
use crate::store::RenewalException;
use crate::store::memory::score::is_kicked;

use super::RunningTurn;

impl RunningTurn<'_> {
    pub(super) fn renew(&mut self) {
        if !self.turn.renew.is_empty() {
            self.prune();
        }
        for (index, &(id, lease)) in self.turn.renew.iter().enumerate() {
            if let Some(exception) = self.renew_permit(id, self.now_ms + lease.get()) {
                self.reply.renewal_exceptions.push((index, exception));
            }
        }
    }

    fn renew_permit(&mut self, id: PermitId, deadline: u64) -> Option<RenewalException> {
        self.needed_until = self.needed_until.max(deadline);
        match self.state.permits.score(&id) {
            None => {
                // This incarnation granted it, so it has ended for good.
                let elsewhere = self.turn.incarnation != Some(self.reply.incarnation);
                if elsewhere && self.fits(id.units()) {
                    // A late turn may have queued it. An id is never in the queue and among the permits.
                    self.state.queue.remove(&id);
                    self.add_permit(id, deadline);
                    Some(RenewalException::PutBack)
                } else {
                    Some(RenewalException::Gone)
                }
            }
            Some(score) if is_kicked(score) => Some(RenewalException::Kicked),
            Some(score) => {
                self.extend_permit(id, score, deadline);
                None
            }
        }
    }
}
