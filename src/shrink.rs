//! Gives back the memory of collections that have become small.
//!
//! # Implementation
//!
//! A collection of the standard library keeps its capacity until it is dropped. So a burst would cost its
//! memory for as long as its name is used. To shrink costs a move of all that is left, and the growth that
//! follows costs another, so it is done only where a small part is in use.

use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::{BuildHasher, Hash};

/// What a collection keeps while it is in use, so that the ups and downs of many tasks cost nothing.
const KEPT_IN_USE: usize = 256;
/// What a collection keeps while nothing uses it, so that a single task that comes and goes costs nothing.
const KEPT_IDLE: usize = 8;

/// A collection with a capacity.
pub(crate) trait Shrink {
    fn used(&self) -> usize;
    fn kept(&self) -> usize;
    fn shrink_to(&mut self, capacity: usize);

    /// Shrinks the collection if less than a quarter of it is in use.
    fn shrink_in_use(&mut self) {
        let used = self.used();
        if self.kept() > 4 * used + KEPT_IN_USE {
            self.shrink_to(2 * used);
        }
    }

    /// Shrinks the collection of something that is not in use now.
    fn shrink_idle(&mut self) {
        if self.kept() > KEPT_IDLE {
            self.shrink_to(self.used());
        }
    }
}

macro_rules! shrink {
    ($([$($parameter:tt)*] $collection:ty;)*) => {$(
        impl<$($parameter)*> Shrink for $collection {
            fn used(&self) -> usize {
                self.len()
            }

            fn kept(&self) -> usize {
                self.capacity()
            }

            fn shrink_to(&mut self, capacity: usize) {
                Self::shrink_to(self, capacity);
            }
        }
    )*};
}

shrink! {
    [T] Vec<T>;
    [T] VecDeque<T>;
    [T: Ord] BinaryHeap<T>;
    [K: Eq + Hash, V, S: BuildHasher] HashMap<K, V, S>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collection_in_use_shrinks_once_little_of_it_is_left() {
        let mut list: VecDeque<u64> = (0..10_000).collect();
        list.truncate(3_000);
        list.shrink_in_use();
        assert!(list.kept() >= 10_000, "it may grow again soon");
        list.truncate(10);
        list.shrink_in_use();
        assert!((10..100).contains(&list.kept()) && list.used() == 10);
        let mut small: VecDeque<u64> = (0..KEPT_IN_USE as u64).collect();
        small.clear();
        small.shrink_in_use();
        assert!(small.kept() >= KEPT_IN_USE);
    }

    #[test]
    fn an_idle_collection_keeps_what_a_single_task_needs() {
        let mut small: Vec<u64> = Vec::with_capacity(KEPT_IDLE);
        small.shrink_idle();
        assert_eq!(small.kept(), KEPT_IDLE);
        let mut large: HashMap<u64, u64> = (0..100).map(|number| (number, number)).collect();
        large.clear();
        large.shrink_idle();
        assert_eq!(large.kept(), 0);
    }
}
