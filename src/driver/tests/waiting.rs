//! A waiter of a client whose driver runs.

use std::sync::Arc;
use std::task::Poll;

use crate::driver::{DriverHandle, Shared, WaitEnd};
use crate::hold::Hold;
use crate::id::PermitId;
use crate::numbers::Millis;
use crate::options::Options;
use crate::store::WhenFull;

pub(super) struct Waiting {
    pub(super) driver: DriverHandle,
    pub(super) counter: u64,
}

impl Waiting {
    /// Lets a waiter for one unit enter.
    pub(super) fn enter(driver: DriverHandle, shared: &Shared, lease: Millis) -> Self {
        let counter = shared.next_counter();
        let id = PermitId::new(shared.id(), counter, 1, lease);
        let options = Arc::new(Options::with_lease(lease));
        driver.update(|state| state.enter(id, WhenFull::Wait, options));
        Self { driver, counter }
    }

    pub(super) fn granted(&self) -> Option<Arc<Hold>> {
        let end = self.driver.with(|state| state.poll_waiter(self.counter, &mut None));
        match end {
            Poll::Ready(WaitEnd::Granted(hold)) => Some(hold),
            Poll::Ready(end) => panic!("the wait ended with {end:?}"),
            Poll::Pending => None,
        }
    }
}
