//! What all clones of a semaphore, and the futures they make, share.

use std::sync::Arc;

use crate::driver::DriverHandle;
use crate::options::Options;

/// One configured semaphore. Its limit counts for the name until it is dropped.
pub(crate) struct SemaphoreInner {
    pub(crate) name: Arc<str>,
    pub(crate) limit: u32,
    pub(crate) options: Arc<Options>,
    pub(crate) driver: DriverHandle,
}

impl Drop for SemaphoreInner {
    fn drop(&mut self) {
        self.driver.update(|state| {
            state.remove_grace(self.options.failover_grace);
            state.remove_handle(self.limit);
        });
    }
}
