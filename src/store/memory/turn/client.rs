//! Keeps the epoch and the label of the client.

use std::sync::Arc;

use super::RunningTurn;

impl RunningTurn<'_> {
    pub(super) fn keep_client(&mut self) {
        let (client, epoch, label) = (self.turn.client, self.turn.epoch, &self.turn.label);
        let stored = self.meta().epochs.get(&client).copied().unwrap_or_default();
        if epoch > stored {
            self.meta().epochs.insert(client, epoch);
            self.remember_client(self.now_ms);
        }
        if !label.is_empty() && self.meta().labels.get(&client) != Some(label) {
            self.meta().labels.insert(client, Arc::clone(label));
            self.remember_client(self.now_ms);
        }
    }

    /// Presumes the client alive until at least that instant.
    pub(super) fn remember_client(&mut self, until: u64) {
        self.needed_until = self.needed_until.max(until);
        self.wrote_clients = true;
        let known = self.state.clients.entry(self.turn.client).or_insert(until);
        *known = (*known).max(until);
    }
}
