//! Lists who holds and who waits. The twin of `lua/inspect.lua`.

use std::time::Duration;

use crate::inspection::{Holder, Inspection, QueuedWaiter};
use crate::store::INSPECT_BOUND;

use super::score::is_kicked;
use super::state::MemoryState;

impl MemoryState {
    pub(crate) fn inspect(&mut self, now_ms: u64) -> Inspection {
        self.expire(now_ms);
        let meta = self.meta.as_ref();
        let label =
            |client| meta.and_then(|meta| meta.labels.get(&client)).map(|label| label.to_string());
        let holders = self.permits.iter().take(INSPECT_BOUND).map(|(score, id)| Holder {
            id,
            client: id.client(),
            label: label(id.client()),
            units: id.units(),
            expires_in: Duration::from_millis((score / 2).saturating_sub(now_ms)),
            kicked: is_kicked(score),
        });
        let waiters = self.queue.iter().take(INSPECT_BOUND).map(|(_, id)| QueuedWaiter {
            id,
            client: id.client(),
            label: label(id.client()),
            units: id.units(),
        });
        let extra = if self.permits.is_empty() { 0 } else { meta.map_or(0, |meta| meta.extra) };
        let limit_override = meta.and_then(|meta| meta.limit_override);
        Inspection {
            limit: limit_override.unwrap_or(0),
            limit_override,
            in_use: self.permits.len() + extra,
            holders_total: self.permits.len(),
            waiters_total: self.queue.len(),
            holders: holders.collect(),
            waiters: waiters.collect(),
        }
    }
}
