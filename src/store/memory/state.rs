//! The state of one semaphore. It has the content of the four keys in Redis.

use std::collections::HashMap;

use crate::id::{ClientId, PermitId};
use crate::numbers::{Seq, ServerId};
use crate::store::WakeUp;

use super::meta::{Meta, Origin};
use super::score::deadline_of;
use super::sorted_set::SortedSet;

/// The state of one semaphore. Instants are milliseconds of the store's clock.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct MemoryState {
    /// `score.rs` says what a score is.
    pub(super) permits: SortedSet,
    /// A score is a ticket.
    pub(super) queue: SortedSet,
    /// Until when each client is presumed alive.
    pub(super) clients: HashMap<ClientId, u64>,
    pub(super) meta: Option<Meta>,
    /// Where this state belongs to a store that drops blank states.
    pub(super) origin: Option<Origin>,
    /// The server that runs the turns, for tests: the store of a process is none.
    pub(super) host: Option<ServerId>,
}

/// Wake-ups for one client.
pub(crate) type WakeUps = (ClientId, Vec<(PermitId, WakeUp)>);

impl MemoryState {
    pub(super) fn new(origin: Origin) -> Self {
        Self { origin: Some(origin), ..Self::default() }
    }

    /// Returns whether the state may be dropped, provided that later numbers stay above
    /// [`last`](Self::last).
    pub(super) fn is_blank(&self) -> bool {
        let plain = |meta: &Meta| meta.limit_override.is_none() && meta.epochs.is_empty();
        self.permits.is_empty() && self.queue.is_empty() && self.meta.as_ref().is_none_or(plain)
    }

    /// Returns `meta`. If it is lost, it is made again.
    pub(super) fn meta_at(&mut self, now: u64) -> &mut Meta {
        let (permits, origin) = (&self.permits, self.origin);
        self.meta.get_or_insert_with(|| Meta::recounted(permits, origin, now))
    }

    /// Returns the latest deadline of a permit; 0 without permits.
    pub(super) fn latest_deadline(&self) -> u64 {
        self.permits.last().map_or(0, |(score, _)| deadline_of(score))
    }

    /// Returns the last token or ticket given out.
    pub(super) fn last(&self) -> Option<Seq> {
        self.meta.as_ref()?.last
    }

    /// Drops the data that Redis would have expired.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        let Some(meta) = &self.meta else { return };
        if meta.ttl != 0 && meta.ttl < now_ms {
            self.permits.clear();
            self.queue.clear();
            self.clients.clear();
        }
        if meta.expires.is_some_and(|at| at < now_ms) {
            self.meta = None;
        }
    }
}

/// Changes and reads of single keys, for tests.
#[cfg(test)]
impl MemoryState {
    /// Deletes `meta`; so the other keys never expire.
    pub(crate) fn lose_meta(&mut self) {
        self.meta = None;
    }

    pub(crate) fn has_meta(&self) -> bool {
        self.meta.is_some()
    }

    pub(crate) fn lose_permits(&mut self) {
        self.permits.clear();
    }

    pub(crate) fn lose_queue(&mut self) {
        self.queue.clear();
    }

    pub(crate) fn lose_clients(&mut self) {
        self.clients.clear();
    }

    /// Another server takes over the data.
    pub(crate) fn move_to(&mut self, host: ServerId) {
        self.host = Some(host);
    }
}
