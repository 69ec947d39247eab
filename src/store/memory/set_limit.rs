//! Sets or clears the limit override. The twin of `lua/set_limit.lua`.

use crate::store::bounds::{META_OUTLIVES, TTL_SLACK};

use super::state::MemoryState;

impl MemoryState {
    pub(crate) fn set_limit(&mut self, limit: Option<u32>, now: u64) {
        let now_ms = now / 1000;
        self.expire(now_ms);
        let latest = self.latest_deadline();
        let lost_alone = self.meta.is_none() && latest > 0;
        let meta = self.meta_at(now);
        if lost_alone {
            meta.ttl = latest.max(now_ms) + TTL_SLACK.get();
        }
        meta.limit_override = limit;
        meta.expires = match limit {
            Some(_) => None,
            None => Some(meta.ttl.max(now_ms) + META_OUTLIVES.get()),
        };
    }
}
