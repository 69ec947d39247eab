//! How semaphores leave a place whose driver this is, and how the place is closed once it has none.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::cell::SemaphoreCell;
use super::super::state::SemaphoreState;
use super::Driver;

/// A place that no name has used for this time is closed.
const UNUSED: Duration = Duration::from_secs(60);

impl Driver {
    /// Returns whether a semaphore belongs to this place.
    pub(super) fn has(&self, cell: &SemaphoreCell) -> bool {
        cell.place() == self.place.id()
    }

    /// Hands over the semaphores whose names have come to other places.
    pub(super) fn follow_moves(&mut self) {
        let moves = self.shared.moves();
        if std::mem::replace(&mut self.moves, moves) == moves {
            return;
        }
        for cell in self.shared.registry().all_of(self.place.id()) {
            self.move_if_elsewhere(&cell);
        }
    }

    /// Hands a semaphore over to the place where its name is now. Its turns in flight land here.
    pub(super) fn move_if_elsewhere(&mut self, cell: &Arc<SemaphoreCell>) {
        let name = cell.read(|state| Arc::clone(state.name()));
        let place = self.shared.place_now(&name);
        if !self.has(cell) || place.id() == self.place.id() {
            return;
        }
        let timer = cell.with(SemaphoreState::moved);
        self.timers.forget(cell, timer);
        place.add_name();
        cell.set_place(place.id());
        self.place.remove_name();
        cell.clear_ready(); // it may be ready here, behind turns that this place does not answer
        place.tell_news();
        self.shared.make_ready(cell);
    }

    /// Closes the place once no name has used it for a while.
    pub(super) fn closes_unused(&mut self) -> bool {
        if self.place.has_names() || !self.answers.is_empty() {
            self.close_at = None;
            return false;
        }
        let now = Instant::now();
        if now < *self.close_at.get_or_insert(now + UNUSED) {
            return false;
        }
        self.close_at = Some(now + UNUSED); // if it stays open
        self.shared.close_unused(&self.place)
    }
}
