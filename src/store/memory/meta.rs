//! What is kept of a semaphore beside its permits, its queue and its clients.

use std::collections::HashMap;
use std::sync::Arc;

use crate::id::ClientId;
use crate::numbers::{Epoch, Incarnation, Seq};

use super::state::{MemoryState, Origin, deadline_of, extra_units};

/// The fields of the hash `meta`.
#[derive(Debug)]
pub(super) struct Meta {
    pub(super) incarnation: Incarnation,
    /// The last token or ticket given out.
    pub(super) last: Option<Seq>,
    pub(super) limit_override: Option<u32>,
    /// Units in use beyond one for each permit.
    pub(super) extra: u64,
    /// When permits, queue and clients expire; 0: never.
    pub(super) ttl: u64,
    /// When this expires; never with an override.
    pub(super) expires: Option<u64>,
    pub(super) epochs: HashMap<ClientId, Epoch>,
    pub(super) labels: HashMap<ClientId, Arc<str>>,
}

impl Meta {
    fn new(incarnation: Incarnation, last: Option<Seq>, extra: u64) -> Self {
        Self {
            incarnation,
            last,
            limit_override: None,
            extra,
            ttl: 0,
            expires: None,
            epochs: HashMap::new(),
            labels: HashMap::new(),
        }
    }
}

impl MemoryState {
    /// Returns `meta`. Where it is lost it is made again, and the heavy permits are counted.
    pub(super) fn meta_at(&mut self, now: u64) -> &mut Meta {
        let (permits, origin) = (&self.permits, self.origin);
        self.meta.get_or_insert_with(|| {
            let extra = permits.iter().map(|(_, id)| extra_units(&id)).sum();
            let origin = origin.unwrap_or(Origin { incarnation: Incarnation::at(now), last: None });
            Meta::new(origin.incarnation, origin.last, extra)
        })
    }

    /// Returns the latest deadline of a permit; 0 without permits.
    pub(super) fn latest_deadline(&self) -> u64 {
        self.permits.last().map_or(0, |(score, _)| deadline_of(score))
    }
}
