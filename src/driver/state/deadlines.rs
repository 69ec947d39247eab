//! A lazy-deletion heap: when each permit next needs a look. Pure.
//!
//! # Implementation
//!
//! Each grant, renewal and release moves an instant, and most instants are moved before they are reached. A
//! tree without stale entries would cost more than everything else about a permit. So entries are only added
//! to the heap. A stale entry is dropped when it comes to the front, or when more than half of the entries
//! are stale.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::compact_instant::CompactInstant;
use crate::shrink::Shrink;

#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    heap: BinaryHeap<Reverse<(CompactInstant, u64)>>,
}

impl Deadlines {
    /// Sets the instant of `counter`. An earlier entry of it becomes stale.
    pub(crate) fn put(&mut self, at: CompactInstant, counter: u64) {
        self.heap.push(Reverse((at, counter)));
    }

    /// Returns the earliest. `current` tells the instant that counts for a permit that is still there.
    pub(crate) fn first(
        &mut self,
        current: impl Fn(u64) -> Option<CompactInstant>,
    ) -> Option<(CompactInstant, u64)> {
        loop {
            let Reverse((at, counter)) = *self.heap.peek()?;
            if current(counter) == Some(at) {
                return Some((at, counter));
            }
            self.heap.pop();
        }
    }

    /// Removes the one that [`first`](Self::first) returned.
    pub(crate) fn pop(&mut self) {
        self.heap.pop();
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Keeps the heap in proportion to the number of permits that are `alive`.
    pub(crate) fn forget(&mut self, alive: usize, current: impl Fn(u64) -> Option<CompactInstant>) {
        const SLACK: usize = 64;
        if self.heap.len() > 2 * alive + SLACK {
            let mut kept = std::mem::take(&mut self.heap).into_vec();
            kept.retain(|Reverse((at, counter))| current(*counter) == Some(*at));
            kept.sort_unstable();
            kept.dedup(); // an instant may have come back
            self.heap = kept.into();
            self.heap.shrink_in_use();
        }
    }

    /// Gives back the memory of a list that nobody is on.
    pub(crate) fn shrink_idle(&mut self) {
        self.heap.clear();
        self.heap.shrink_idle();
    }
}
