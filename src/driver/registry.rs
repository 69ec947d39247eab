//! The semaphores of one client by name.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::id::ClientId;
use crate::numbers::PlaceId;
use crate::sync::lock;

use super::cell::SemaphoreCell;
use super::state::SemaphoreState;

#[derive(Debug, Default)]
pub(super) struct Registry {
    /// A tree, because a hash table moves all its entries at once when it grows.
    cells: Mutex<BTreeMap<Arc<str>, Arc<SemaphoreCell>>>,
    next_key: AtomicU64,
}

impl Registry {
    /// Returns the semaphore of this name, and counts one more handle. `prepare` runs on a new state, and
    /// returns the place that the semaphore belongs to.
    pub(super) fn add_handle(
        &self,
        name: &str,
        client: ClientId,
        limit: u32,
        label: &Arc<str>,
        prepare: impl FnOnce(&mut SemaphoreState) -> PlaceId,
    ) -> Arc<SemaphoreCell> {
        let mut cells = lock(&self.cells);
        let name: Arc<str> = Arc::from(name);
        let cell = cells.entry(Arc::clone(&name)).or_insert_with(|| {
            let mut state = SemaphoreState::new(name, client);
            let place = prepare(&mut state);
            let key = self.next_key.fetch_add(1, Ordering::Relaxed);
            Arc::new(SemaphoreCell::new(state, place, key))
        });
        cell.with(|state| state.add_handle(limit, label)); // under both locks: `sweep` looks at handles
        Arc::clone(cell)
    }

    pub(super) fn find(&self, name: &str) -> Option<Arc<SemaphoreCell>> {
        lock(&self.cells).get(name).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<SemaphoreCell>> {
        lock(&self.cells).values().cloned().collect()
    }

    /// Returns the semaphores that belong to a place.
    pub(super) fn all_of(&self, place: PlaceId) -> Vec<Arc<SemaphoreCell>> {
        lock(&self.cells).values().filter(|cell| cell.place() == place).cloned().collect()
    }

    /// Drops a semaphore if it is no longer needed. Returns whether it did.
    pub(super) fn sweep(&self, cell: &Arc<SemaphoreCell>) -> bool {
        let mut cells = lock(&self.cells);
        let unused = cell.read(|state| state.is_unused().then(|| Arc::clone(state.name())));
        let Some(name) = unused else { return false };
        let is_current = cells.get(&name).is_some_and(|current| Arc::ptr_eq(current, cell));
        if is_current {
            cells.remove(&name);
        }
        is_current
    }

    /// Returns whether the semaphores of a place hold nothing, and have nothing left to remove.
    pub(super) fn is_flushed(&self, place: PlaceId) -> bool {
        let cells = lock(&self.cells);
        let mut here = cells.values().filter(|cell| cell.place() == place);
        here.all(|cell| cell.read(SemaphoreState::is_flushed))
    }

    /// Returns how many ids are not known to be removed.
    pub(super) fn unflushed(&self) -> usize {
        self.all().iter().map(|cell| cell.read(SemaphoreState::unflushed)).sum()
    }
}
