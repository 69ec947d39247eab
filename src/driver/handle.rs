//! The driver as semaphores, permits and futures hold it: a handle, and a drop guard that ends it.

use std::sync::{Arc, Weak};

use tokio::runtime::Handle;

use crate::hold::Hold;
use crate::id::ClientId;
use crate::metrics::Meter;
use crate::numbers::Replicas;
use crate::store::BoxFuture;

use super::cell::SemaphoreCell;
use super::lifecycle::Start;
use super::place::Place;
use super::replication::Asked;
use super::shared::{Shared, Starter};
use super::state::SemaphoreState;
use super::task::Driver;

/// A handle of the driver and of one semaphore's state; it keeps the driver running.
///
/// Every permit has one, so it is a single pointer.
#[derive(Debug, Clone)]
pub(crate) struct DriverHandle(Arc<Driven>);

/// A semaphore's state, and what keeps the driver running that serves it.
#[derive(Debug)]
struct Driven {
    cell: Arc<SemaphoreCell>,
    guard: Arc<DropGuard>,
}

impl DriverHandle {
    pub(crate) fn new(cell: Arc<SemaphoreCell>, guard: Arc<DropGuard>) -> Self {
        Self(Arc::new(Driven { cell, guard }))
    }

    /// Changes the state, and makes the driver do what follows from the change.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut SemaphoreState) -> T) -> T {
        self.shared().update(&self.0.cell, change)
    }

    /// As [`update`](Self::update), for a change whose outcome nobody awaits.
    pub(crate) fn update_unawaited(&self, change: impl FnOnce(&mut SemaphoreState)) {
        self.shared().update_unawaited(&self.0.cell, change);
    }

    /// Changes the state like [`update`](Self::update), if the change leaves nothing to do for the driver.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut SemaphoreState) -> T) -> T {
        self.0.cell.with(change)
    }

    /// Closes the semaphore.
    pub(crate) fn close(&self) {
        self.shared().close_semaphore(&self.0.cell);
    }

    /// Waits until this number of replicas has the grant of `hold`.
    pub(crate) fn ask_about_replicas(&self, hold: &Arc<Hold>, wanted: Replicas) -> Asked {
        self.shared().ask_about_replicas(&self.0.cell, hold, wanted)
    }

    pub(crate) fn downgrade(&self) -> WeakDriverHandle {
        let shared = Arc::downgrade(&self.0.guard.shared);
        WeakDriverHandle { cell: Arc::clone(&self.0.cell), shared }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.guard.shared
    }

    /// Returns the meter of the semaphore.
    pub(crate) fn meter(&self) -> &Meter {
        self.0.cell.meter()
    }

    /// Returns the place that the semaphore belongs to.
    pub(crate) fn place(&self) -> &Place {
        self.shared().place_of(&self.0.cell)
    }

    pub(crate) fn ensure_driver(&self) -> Result<ClientId, NoDriver> {
        self.0.guard.ensure_driver()
    }
}

/// A weak [`DriverHandle`]: it does not keep the driver running.
#[derive(Debug, Clone)]
pub(crate) struct WeakDriverHandle {
    cell: Arc<SemaphoreCell>,
    shared: Weak<Shared>,
}

impl WeakDriverHandle {
    /// Changes the state like [`DriverHandle::update`], if the driver still exists.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut SemaphoreState) -> T) -> T {
        match self.shared.upgrade() {
            Some(shared) => shared.update(&self.cell, change),
            None => self.cell.with(change),
        }
    }
}

/// A drop guard in every value that a user can hold. When the last one is dropped, the driver gives back
/// what is left and ends.
#[derive(Debug)]
pub(crate) struct DropGuard {
    shared: Arc<Shared>,
}

/// The reason why there is no driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoDriver {
    NoRuntime,
    Ended,
}

impl DropGuard {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Starts the life of the client if that has not begun; returns under which id it runs.
    pub(crate) fn ensure_driver(&self) -> Result<ClientId, NoDriver> {
        let runtime = Handle::try_current().map_err(|_| NoDriver::NoRuntime)?;
        let driver = |shared, place| -> BoxFuture<'static, ()> {
            Box::pin(Driver::new(shared, place).run())
        };
        match self.shared.start(|| Starter { runtime, driver }) {
            Start::Now(id) | Start::Before(id) => Ok(id),
            Start::Ended => Err(NoDriver::Ended),
        }
    }
}

impl Drop for DropGuard {
    fn drop(&mut self) {
        self.shared.abandon();
    }
}
