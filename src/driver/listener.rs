//! The listener of one connection: what the store tells a client between its turns.

use std::sync::Arc;

use tokio::time::Instant;

use crate::id::PermitId;
use crate::store::{WakeListener, WakeUp};

use super::place::{ConnectionNumber, Place};
use super::shared::Shared;
#[cfg(feature = "redis")]
use super::state::SemaphoreState;

/// Hears only wake-ups of the present connection to its place. A server that was
/// replaced may still grant to who waited there.
pub(super) struct Listener {
    shared: Arc<Shared>,
    place: Arc<Place>,
    connection: ConnectionNumber,
}

impl Listener {
    /// Makes the listener of the next connection to a place.
    pub(super) fn new(shared: &Arc<Shared>, place: &Arc<Place>) -> Self {
        let connection = place.connection();
        Self { shared: Arc::clone(shared), place: Arc::clone(place), connection }
    }

    fn is_present(&self) -> bool {
        self.place.connection() == self.connection
    }
}

impl WakeListener for Listener {
    fn wake(&self, name: &str, id: PermitId, wake_up: WakeUp) {
        let Some(cell) = self.shared.registry().find(name) else { return };
        if !self.is_present() || cell.place() != self.place.id() {
            return;
        }
        // Not by an inline turn: this is inside somebody else's.
        let wants_driver = cell.with(|state| {
            state.wake(id, wake_up, Instant::now());
            state.wants_driver()
        });
        // The waiter is already served. If the driver need not look, it would only be in the way.
        if wants_driver {
            self.shared.make_ready(&cell);
        }
    }

    #[cfg(feature = "redis")]
    fn subscription_changed(&self) {
        for cell in self.shared.registry().all_of(self.place.id()) {
            self.shared.update(&cell, SemaphoreState::ask_about_all);
        }
    }

    #[cfg(feature = "redis")]
    fn disconnected(&self) {
        self.place.wake_driver();
    }

    #[cfg(any(test, feature = "redis"))]
    fn places_changed(&self) {
        self.shared.note_moves();
    }
}
