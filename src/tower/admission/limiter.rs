//! A semaphore as the layer uses it: with its public name and what this process knows of it.

use std::sync::Arc;

use super::local_cap::LocalCap;
use crate::ZSetSemaphore;
use crate::tower::rejection::{Details, Reason, Rejection};
use crate::tower::retry_after::estimate::Occupancy;
use crate::tower::retry_after::hold_times::HoldTimes;

/// Limits requests: a semaphore, and the data that all its requests in this process share.
#[derive(Debug)]
pub(crate) struct Limiter {
    pub(crate) semaphore: ZSetSemaphore,
    /// The name of the limit, without the key of a request; outsiders may see it.
    pub(crate) limit_name: Arc<str>,
    local: Arc<LocalState>,
}

/// Data about a semaphore that only this process has. A change of the limit keeps it.
#[derive(Debug, Default)]
pub(crate) struct LocalState {
    hold_times: HoldTimes,
    cap: LocalCap,
}

impl Limiter {
    pub(crate) fn new(
        semaphore: ZSetSemaphore,
        limit_name: Arc<str>,
        local: Arc<LocalState>,
    ) -> Arc<Self> {
        Arc::new(Self { semaphore, limit_name, local })
    }

    pub(crate) fn hold_times(&self) -> &HoldTimes {
        &self.local.hold_times
    }

    pub(super) fn local_cap(&self) -> &LocalCap {
        &self.local.cap
    }

    /// Rejects a request for `units` units. `place` is the number of requests ahead of it in the queue, if
    /// the store said it.
    pub(crate) fn reject(&self, reason: Reason, units: u32, place: Option<u64>) -> Rejection {
        let known = self.semaphore.last_known();
        let occupancy = Occupancy { in_use: known.in_use, limit: known.limit };
        Rejection::new(Details {
            semaphore_name: self.semaphore.clone_name(),
            limit_name: Arc::clone(&self.limit_name),
            reason,
            in_use: known.in_use,
            limit: known.limit,
            place,
            retry_after: self.hold_times().estimate(occupancy, place.unwrap_or(0), units),
        })
    }
}
