//! What all clones of a semaphore, and the futures they make, share.

use std::sync::Arc;

use crate::driver::Seat;
use crate::options::Options;

/// One configured semaphore. Its limit counts for its name until it is dropped.
pub(crate) struct SemaphoreInner {
    pub(crate) name: Arc<str>,
    pub(crate) limit: u32,
    pub(crate) options: Arc<Options>,
    pub(crate) seat: Seat,
}

impl Drop for SemaphoreInner {
    fn drop(&mut self) {
        self.seat.update(|line| line.remove_handle(self.limit));
    }
}
