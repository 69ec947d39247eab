//! A semaphore as the layer uses it.

use std::sync::{Arc, OnceLock};

use tokio::sync::Semaphore;

use crate::ZSetSemaphore;
use crate::tower::error::{Facts, Reason, Rejection};
use crate::tower::retry_after::estimate::Room;
use crate::tower::retry_after::hold_times::Meter;

/// A semaphore, with what all requests that use it share.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) semaphore: ZSetSemaphore,
    /// The name of the limit, as outsiders may see it.
    pub(crate) shown: Arc<str>,
    here: Arc<Here>,
}

/// What this process knows of a semaphore by itself; it outlives a change of the limit.
#[derive(Debug, Default)]
pub(crate) struct Here {
    meter: Meter,
    /// The cap of this process while the store is away: that of the layer that first asked.
    local: OnceLock<(u32, Arc<Semaphore>)>,
}

impl Handle {
    pub(crate) fn new(semaphore: ZSetSemaphore, shown: Arc<str>, here: Arc<Here>) -> Arc<Self> {
        Arc::new(Self { semaphore, shown, here })
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.here.meter
    }

    /// The cap of this process, which is `cap` if no layer has set another, and its units.
    pub(crate) fn local(&self, cap: u32) -> &(u32, Arc<Semaphore>) {
        self.here.local.get_or_init(|| (cap, Arc::new(Semaphore::new(cap as usize))))
    }

    /// Rejects a request for `units` units, behind `ahead` others if that was heard.
    pub(crate) fn reject(&self, reason: Reason, units: u32, ahead: Option<u64>) -> Rejection {
        let outlook = self.semaphore.outlook();
        let room = Room { in_use: outlook.in_use, limit: outlook.limit };
        Rejection::new(Facts {
            semaphore: self.semaphore.clone_name(),
            limit_name: Arc::clone(&self.shown),
            reason,
            in_use: outlook.in_use,
            limit: outlook.limit,
            place: ahead,
            retry_after: self.meter().estimate(room, ahead.unwrap_or(0), units),
        })
    }
}
