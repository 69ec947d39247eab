//! Lists who holds and who waits. The twin of `lua/inspect.lua`.

use std::time::Duration;

use crate::id::ClientId;
use crate::inspection::{Holder, Inspection, QueuedWaiter};
use crate::store::INSPECT_BOUND;

use super::score::is_kicked;
use super::state::MemoryState;

impl MemoryState {
    /// Returns the state at `now`, in microseconds.
    pub(crate) fn inspect(&mut self, now: u64) -> Inspection {
        let now_ms = now / 1000;
        self.expire(now_ms);
        let meta = self.meta.as_ref();
        let label = |client| {
            let label = &meta?.declared.get(&client)?.label;
            (!label.is_empty()).then(|| label.to_string())
        };
        let holders = self.permits.iter().take(INSPECT_BOUND).map(|(score, id)| Holder {
            id,
            client: id.client(),
            label: label(id.client()),
            units: id.units(),
            lease: id.lease(),
            expires_in: Duration::from_millis((score / 2).saturating_sub(now_ms)),
            kicked: is_kicked(score),
        });
        let waiters = self.queue.iter().take(INSPECT_BOUND).map(|(ticket, id)| QueuedWaiter {
            id,
            client: id.client(),
            label: label(id.client()),
            units: id.units(),
            ticket,
            waited: Duration::from_micros(now.saturating_sub(ticket)),
        });
        let extra = if self.permits.is_empty() { 0 } else { meta.map_or(0, |meta| meta.extra) };
        let limit_override = meta.and_then(|meta| meta.limit_override);
        let (holders, waiters): (Vec<_>, Vec<_>) = (holders.collect(), waiters.collect());
        let mut alive: Vec<_> =
            self.clients.iter().map(|(client, until)| (until, client)).collect();
        alive.sort_unstable_by(|a, b| b.cmp(a));
        alive.truncate(INSPECT_BOUND);
        let known = |client: &ClientId| {
            alive.iter().any(|(_, alive)| *alive == client)
                || holders.iter().any(|holder| holder.client == *client)
                || waiters.iter().any(|waiter| waiter.client == *client)
        };
        let declared = meta.into_iter().flat_map(|meta| &meta.declared);
        let declared = declared.filter(|(client, _)| known(client));
        let declared_limit = declared.map(|(_, declared)| declared.limit).max();
        Inspection {
            limit: limit_override.or(declared_limit).unwrap_or(0),
            declared_limit,
            limit_override,
            failover_grace: meta.and_then(|meta| meta.grace_left(now_ms)),
            in_use: self.permits.len() + extra,
            holders_total: self.permits.len(),
            waiters_total: self.queue.len(),
            holders,
            waiters,
        }
    }
}
