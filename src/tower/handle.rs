//! A semaphore as the layer uses it.

use std::sync::{Arc, OnceLock};

use tokio::sync::Semaphore;

use super::error::{Facts, Reason, Rejection};
use super::meter::Meter;
use super::retry::Room;
use crate::ZSetSemaphore;

/// A semaphore, with what all requests that use it share.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) semaphore: ZSetSemaphore,
    /// The name of the limit, as outsiders may see it.
    pub(super) shown: Arc<str>,
    here: Arc<Here>,
}

/// What this process knows of a semaphore by itself; it outlives a change of the limit.
#[derive(Debug, Default)]
pub(super) struct Here {
    meter: Meter,
    /// The cap of this process while the store is away: that of the layer that first asked.
    local: OnceLock<(u32, Arc<Semaphore>)>,
}

impl Handle {
    pub(super) fn new(semaphore: ZSetSemaphore, shown: Arc<str>, here: Arc<Here>) -> Arc<Self> {
        Arc::new(Self { semaphore, shown, here })
    }

    pub(super) fn meter(&self) -> &Meter {
        &self.here.meter
    }

    /// The cap of this process, which is `cap` if no layer has set another, and its units.
    pub(super) fn local(&self, cap: u32) -> &(u32, Arc<Semaphore>) {
        self.here.local.get_or_init(|| (cap, Arc::new(Semaphore::new(cap as usize))))
    }

    /// Rejects a request for `units` units, behind `ahead` others if that was heard.
    pub(super) fn reject(&self, reason: Reason, units: u32, ahead: Option<u64>) -> Rejection {
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
