//! A semaphore as the layer uses it.

use std::sync::{Arc, OnceLock};

use tokio::sync::Semaphore;

use crate::ZSetSemaphore;
use crate::tower::error::{Details, Reason, Rejection};
use crate::tower::retry_after::estimate::Occupancy;
use crate::tower::retry_after::hold_times::HoldTimes;

/// A semaphore, with what all requests that use it share.
#[derive(Debug)]
pub(crate) struct Limiter {
    pub(crate) semaphore: ZSetSemaphore,
    /// The name of the limit, as outsiders may see it.
    pub(crate) name: Arc<str>,
    local_state: Arc<LocalState>,
}

/// What this process knows of a semaphore by itself; it outlives a change of the limit.
#[derive(Debug, Default)]
pub(crate) struct LocalState {
    hold_times: HoldTimes,
    /// The cap of this process while the store is away: that of the layer that first asked.
    local: OnceLock<(u32, Arc<Semaphore>)>,
}

impl Limiter {
    pub(crate) fn new(
        semaphore: ZSetSemaphore,
        name: Arc<str>,
        local_state: Arc<LocalState>,
    ) -> Arc<Self> {
        Arc::new(Self { semaphore, name, local_state })
    }

    pub(crate) fn hold_times(&self) -> &HoldTimes {
        &self.local_state.hold_times
    }

    /// The cap of this process, which is `cap` if no layer has set another, and its units.
    pub(crate) fn local(&self, cap: u32) -> &(u32, Arc<Semaphore>) {
        self.local_state.local.get_or_init(|| (cap, Arc::new(Semaphore::new(cap as usize))))
    }

    /// Rejects a request for `units` units, behind `ahead` others if that was heard.
    pub(crate) fn reject(&self, reason: Reason, units: u32, ahead: Option<u64>) -> Rejection {
        let outlook = self.semaphore.outlook();
        let room = Occupancy { in_use: outlook.in_use, limit: outlook.limit };
        Rejection::new(Details {
            semaphore: self.semaphore.clone_name(),
            limit_name: Arc::clone(&self.name),
            reason,
            in_use: outlook.in_use,
            limit: outlook.limit,
            place: ahead,
            retry_after: self.hold_times().estimate(room, ahead.unwrap_or(0), units),
        })
    }
}
