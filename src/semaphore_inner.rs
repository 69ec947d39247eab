//! What all clones of a semaphore, and the futures they make, share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::driver::DriverHandle;
use crate::options::Options;

/// One configured semaphore. Its limit counts for the name until it is dropped.
pub(crate) struct SemaphoreInner {
    pub(crate) name: Arc<str>,
    /// Changed under the lock of the state, which counts it.
    limit: AtomicU32,
    pub(crate) options: Arc<Options>,
    pub(crate) driver: DriverHandle,
}

impl SemaphoreInner {
    /// `driver` has counted a handle with this limit and this grace.
    pub(crate) fn new(
        name: Arc<str>,
        limit: u32,
        options: Arc<Options>,
        driver: DriverHandle,
    ) -> Self {
        Self { name, limit: AtomicU32::new(limit), options, driver }
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    pub(crate) fn set_limit(&self, limit: u32) {
        self.driver.update(|state| {
            let before = self.limit.swap(limit, Ordering::Relaxed);
            state.change_handle(before, limit);
        });
    }
}

impl Drop for SemaphoreInner {
    fn drop(&mut self) {
        self.driver.update(|state| {
            state.remove_grace(self.options.failover_grace);
            state.remove_handle(self.limit());
        });
    }
}
