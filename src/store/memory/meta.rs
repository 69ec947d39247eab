//! What is kept of a semaphore beside its permits, its queue and its clients.

use std::collections::HashMap;
use std::sync::Arc;

use crate::id::{ClientId, PermitId};
use crate::numbers::{Epoch, Incarnation, Seq};

use super::sorted_set::SortedSet;

/// What the state of a name begins with. A [`MemoryStore`](super::MemoryStore) loses no data, but
/// drops blank states, which the incarnation and the numbers outlive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    /// The one of the whole store.
    pub(super) incarnation: Incarnation,
    /// No number of any dropped state is higher.
    pub(super) last: Option<Seq>,
}

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
    /// Makes it where there is none, and counts the units of the permits that are there.
    pub(super) fn recounted(permits: &SortedSet, origin: Option<Origin>, now: u64) -> Self {
        let new = Origin { incarnation: Incarnation::at(now), last: None };
        let Origin { incarnation, last } = origin.unwrap_or(new);
        Self {
            incarnation,
            last,
            limit_override: None,
            extra: permits.iter().map(|(_, id)| extra_units(&id)).sum(),
            ttl: 0,
            expires: None,
            epochs: HashMap::new(),
            labels: HashMap::new(),
        }
    }
}

/// Returns how many units a permit takes beyond one.
pub(super) fn extra_units(id: &PermitId) -> u64 {
    u64::from(id.units()) - 1
}
