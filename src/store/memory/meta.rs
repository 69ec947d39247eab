//! The data of a semaphore other than its permits, its queue and its clients.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::id::{ClientId, PermitId};
use crate::numbers::{Epoch, Incarnation, Millis, Seq, ServerId};

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

/// The field `server` of `meta`. Instants are milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeptServer {
    /// The server that the name was last used on, if it is known.
    pub(super) server: Option<ServerId>,
    /// Since when a grace counts.
    pub(super) since: u64,
    /// The longest grace that a client has wanted.
    pub(super) longest: Millis,
    pub(super) grace_ends: u64,
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
#[cfg_attr(test, derive(Clone))]
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
    pub(super) server: Option<KeptServer>,
    /// Whether a grace may be under way.
    pub(super) grace: bool,
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
            server: None,
            grace: false,
            epochs: HashMap::new(),
            declared: HashMap::new(),
        }
    }
}

impl Meta {
    /// Returns the rest of the grace that is under way.
    pub(super) fn grace_left(&self, now_ms: u64) -> Option<Duration> {
        let ends = self.server.filter(|_| self.grace)?.grace_ends;
        (ends > now_ms).then(|| Duration::from_millis(ends - now_ms))
    }
}

/// Returns the units of a permit, less one.
pub(super) fn extra_units(id: &PermitId) -> u64 {
    u64::from(id.units()) - 1
}
