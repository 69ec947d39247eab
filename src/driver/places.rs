//! The places that a client has come to know.
//!
//! # Implementation
//!
//! A caller finds the place of its semaphore with each change, so the list is read without a lock: it only
//! grows, in segments that double.

use std::iter;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use crate::numbers::PlaceId;
use crate::sync::lock;

use super::place::Place;

type Segment = Box<[OnceLock<Arc<Place>>]>;

/// One for each bit of the number of a place.
const SEGMENTS: usize = u32::BITS as usize;

pub(super) struct Places {
    first: Arc<Place>,
    /// All others.
    segments: [OnceLock<Segment>; SEGMENTS],
    /// Held while a place is closed that is not used, so that one stays open.
    closing: Mutex<()>,
}

impl Places {
    pub(super) fn new() -> Self {
        Self {
            first: Arc::new(Place::new(PlaceId::FIRST)),
            segments: [const { OnceLock::new() }; SEGMENTS],
            closing: Mutex::default(),
        }
    }

    /// Returns the place of this id. It is made if there is none.
    pub(super) fn get(&self, id: PlaceId) -> &Arc<Place> {
        if id == PlaceId::FIRST {
            return &self.first;
        }
        let (segment, index) = position(id.get());
        let places = self.segments[segment]
            .get_or_init(|| (0..1_usize << segment).map(|_| OnceLock::new()).collect());
        places[index].get_or_init(|| Arc::new(Place::new(id)))
    }

    pub(super) fn first(&self) -> &Arc<Place> {
        &self.first
    }

    /// Returns all places.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Place>> {
        let segments = self.segments.iter().filter_map(OnceLock::get);
        iter::once(&self.first).chain(segments.flatten().filter_map(OnceLock::get))
    }

    /// Returns those that have a driver, but not `place`.
    pub(super) fn others_at_work(&self, place: &Place) -> impl Iterator<Item = &Arc<Place>> {
        let id = place.id();
        self.all().filter(move |other| other.id() != id && other.has_driver())
    }

    /// Lets one place at a time be closed.
    pub(super) fn closing(&self) -> MutexGuard<'_, ()> {
        lock(&self.closing)
    }
}

/// Returns in which segment a number is, and at which index there. The segment `n` has the numbers from `2^n`
/// to `2^(n + 1) - 1`.
fn position(number: u32) -> (usize, usize) {
    let segment = number.ilog2();
    (segment as usize, (number - (1 << segment)) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_id_has_one_place_and_all_lists_them_in_order() {
        let places = Places::new();
        for id in [0, 6, 1, 2, 100, 70_000, 6] {
            let id = PlaceId::new(id);
            assert_eq!(places.get(id).id(), id);
            assert!(Arc::ptr_eq(places.get(id), places.get(id)));
        }
        let all: Vec<_> = places.all().map(|place| place.id().get()).collect();
        assert_eq!(all, [0, 1, 2, 6, 100, 70_000]);
    }
}
