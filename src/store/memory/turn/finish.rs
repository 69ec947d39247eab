//! Finishes the writes: sets the last number and the expiry of the keys, and forgets clients that have gone.

use crate::id::ClientId;
use crate::store::ALIVE;
use crate::store::bounds::{FORGET_AFTER, FORGET_BOUND, META_OUTLIVES, TTL_SLACK};

use super::RunningTurn;

impl RunningTurn<'_> {
    pub(super) fn finish(&mut self) {
        if !self.state.queue.is_empty() {
            self.needed_until = self.needed_until.max(self.now_ms + ALIVE.get());
        }
        let (needed_until, last) = (self.needed_until, self.last);
        let meta = self.meta();
        meta.last = last;
        let moves_ttl = needed_until > meta.ttl;
        if moves_ttl {
            meta.ttl = needed_until + TTL_SLACK.get();
            if meta.limit_override.is_none() {
                meta.expires = Some(meta.ttl + META_OUTLIVES.get());
            }
        }
        if moves_ttl || self.wrote_clients {
            self.forget_clients();
        }
    }

    fn forget_clients(&mut self) {
        let old = self.now_ms.saturating_sub(FORGET_AFTER.get());
        let clients = self.state.clients.iter();
        let mut gone: Vec<(u64, ClientId)> = clients
            .filter(|&(_, &until)| until <= old)
            .map(|(&client, &until)| (until, client))
            .collect();
        gone.sort_unstable();
        for (_, client) in gone.into_iter().take(FORGET_BOUND) {
            self.state.clients.remove(&client);
            self.meta().epochs.remove(&client);
            self.meta().declared.remove(&client);
        }
    }
}
