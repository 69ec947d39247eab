//! Removes what the client releases or cancels.

use super::RunningTurn;

impl RunningTurn<'_> {
    pub(super) fn remove(&mut self) {
        for (index, id) in self.turn.release.iter().enumerate() {
            if !self.remove_permit(id) {
                self.reply.missing.push(index);
            }
        }
        for id in &self.turn.cancel {
            self.state.queue.remove(id);
            self.remove_permit(id);
        }
    }
}
