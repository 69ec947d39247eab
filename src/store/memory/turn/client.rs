//! Keeps the epoch, the limit and the label of the client.

use std::sync::Arc;

use crate::store::memory::meta::Declared;

use super::RunningTurn;

impl RunningTurn<'_> {
    pub(super) fn keep_client(&mut self) {
        let (client, epoch) = (self.turn.client, self.turn.epoch);
        let stored = self.meta().epochs.get(&client).copied().unwrap_or_default();
        if epoch > stored {
            self.meta().epochs.insert(client, epoch);
            self.remember_client(self.now_ms);
        }
        if self.turn.declares || self.was_dropped() {
            let declared = Declared { limit: self.turn.limit, label: Arc::clone(&self.turn.label) };
            self.meta().declared.insert(client, declared);
            self.remember_client(self.now_ms);
        }
    }

    /// Returns whether what the client has declared may have been dropped with a blank state. The incarnation
    /// of a store stays the same then, so the client does not declare it again.
    fn was_dropped(&mut self) -> bool {
        let client = self.turn.client;
        self.state.origin.is_some() && !self.meta().declared.contains_key(&client)
    }

    /// Presumes the client alive until at least that instant.
    pub(super) fn remember_client(&mut self, until: u64) {
        self.needed_until = self.needed_until.max(until);
        self.wrote_clients = true;
        let known = self.state.clients.entry(self.turn.client).or_insert(until);
        *known = (*known).max(until);
    }
}
