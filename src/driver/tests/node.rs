//! A client of a store with several places, and those who hold and wait there.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::spread_store::{Spread, SpreadStore};
use super::waiting::Waiting;
use crate::driver::{DriverHandle, DropGuard, Shared};
use crate::hold::{Hold, Truth};
use crate::numbers::{Millis, PlaceId};

pub(super) const CALL_TIMEOUT: Duration = Duration::from_millis(500);
pub(super) const LEASE: Millis = Millis::new(3_000);
/// More than any turn of a place that is well.
pub(super) const SOON: Duration = Duration::from_millis(10);
pub(super) const A: PlaceId = PlaceId::FIRST;
pub(super) const B: PlaceId = PlaceId::new(1);
pub(super) const C: PlaceId = PlaceId::new(2);

pub(super) struct Node {
    pub(super) shared: Arc<Shared>,
    pub(super) guard: Arc<DropGuard>,
}

impl Node {
    pub(super) fn new(spread: &Arc<Spread>) -> Self {
        Self::with_call_timeout(spread, CALL_TIMEOUT)
    }

    /// One of a store that has the name "b" at the second place, and all others at the first.
    pub(super) fn of_two_places() -> (Arc<Spread>, Self) {
        let spread = Spread::new();
        spread.move_name_and_tell("b", B);
        let node = Self::new(&spread);
        (spread, node)
    }

    pub(super) fn with_call_timeout(spread: &Arc<Spread>, call_timeout: Duration) -> Self {
        let store = Box::new(SpreadStore(Arc::clone(spread)));
        let shared = Shared::new(store, call_timeout, "".into());
        Self { guard: Arc::new(DropGuard::new(Arc::clone(&shared))), shared }
    }

    /// A handle with the limit 1.
    pub(super) fn handle(&self, name: &str) -> DriverHandle {
        let cell = self.shared.semaphore(name, 1, &"".into(), None);
        DriverHandle::new(cell, Arc::clone(&self.guard))
    }

    /// Lets a waiter enter.
    pub(super) fn enter(&self, name: &str) -> Waiting {
        self.guard.ensure_driver().unwrap();
        Waiting::enter(self.handle(name), &self.shared, LEASE)
    }

    /// Lets somebody hold the unit of a name.
    pub(super) async fn hold(&self, name: &str) -> Held {
        self.enter(name).held_within(SOON).await
    }
}

impl Waiting {
    /// Returns after which time the waiter has a permit, and the permit.
    pub(super) async fn held_after(self) -> (Duration, Held) {
        let start = Instant::now();
        loop {
            if let Some(hold) = self.granted() {
                return (start.elapsed(), Held { driver: self.driver, hold });
            }
            sleep(Duration::from_millis(1)).await;
            assert!(start.elapsed() < Duration::from_secs(60), "nobody serves it");
        }
    }

    pub(super) async fn held_within(self, longest: Duration) -> Held {
        let (after, held) = self.held_after().await;
        assert!(after <= longest, "{after:?}");
        held
    }
}

pub(super) struct Held {
    pub(super) driver: DriverHandle,
    pub(super) hold: Arc<Hold>,
}

impl Held {
    pub(super) fn is_held(&self) -> bool {
        matches!(self.hold.truth(), Truth::HeldUntil(_))
    }

    pub(super) fn release(self) {
        assert!(self.hold.release());
        self.driver.update(|state| state.give_back(self.hold.id.counter(), None));
    }

    /// Gives the unit back, and the handle: if there is no other one, nobody uses the name any more.
    pub(super) fn leave(self) {
        let driver = self.driver.clone();
        self.release();
        driver.update(|state| state.remove_handle(1));
    }
}
