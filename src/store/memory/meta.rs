//! The data of a semaphore other than its permits, its queue and its clients.

use std::collections::HashMap;
use std::sync::Arc;

use crate::id::{ClientId, PermitId};
use crate::numbers::{Epoch, Incarnation, Seq};

use super::sorted_set::SortedSet;

/// The start values of the state of a name. A [`MemoryStore`](super::MemoryStore) loses no data, but it
/// drops blank states. The incarnation and the numbers outlive a dropped state.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    /// The incarnation, which is the same for all names of the store.
    pub(super) incarnation: Incarnation,
    /// No number of any dropped state is higher.
    pub(super) last: Option<Seq>,
}

/// What a client has declared of itself.
#[derive(Debug, Clone)]
pub(super) struct Declared {
    /// The highest limit of its handles.
    pub(super) limit: u32,
    /// Empty if it has none.
    pub(super) label: Arc<str>,
}

/// The fields of the hash `meta`.
#[derive(Debug)]
pub(super) struct Meta {
    pub(super) incarnation: Incarnation,
    /// The last token or ticket given out; at first the number of the incarnation.
    pub(super) last: Option<Seq>,
    pub(super) limit_override: Option<u32>,
    /// Units in use, less one for each permit.
    pub(super) extra: u64,
    /// When permits, queue and clients expire; 0 for never.
    pub(super) ttl: u64,
    /// When `meta` expires. It never does while there is an override.
    pub(super) expires: Option<u64>,
    pub(super) epochs: HashMap<ClientId, Epoch>,
    pub(super) declared: HashMap<ClientId, Declared>,
}

impl Meta {
    /// Makes `meta` if there is none, and counts the units of the present permits.
    pub(super) fn recounted(permits: &SortedSet, origin: Option<Origin>, now: u64) -> Self {
        let new = Origin { incarnation: Incarnation::at(now), last: None };
        let Origin { incarnation, last } = origin.unwrap_or(new);
        Self {
            incarnation,
            last: last.max(Seq::new(incarnation.get())),
            limit_override: None,
            extra: permits.iter().map(|(_, id)| extra_units(&id)).sum(),
            ttl: 0,
            expires: None,
            epochs: HashMap::new(),
            declared: HashMap::new(),
        }
    }
}

/// Returns the units of a permit, less one.
pub(super) fn extra_units(id: &PermitId) -> u64 {
    u64::from(id.units()) - 1
}
