//! When which permit next needs a look. Pure.
//!
//! # Implementation
//!
//! Every grant, renewal and release moves an instant, and hardly any comes to pass as it stands: a
//! tree that is kept exact costs more than all else that a permit costs here. So this is a heap
//! that only takes in; what has moved on is recognized, and dropped, when it comes to the front or
//! when more than half of the heap is of that kind.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tokio::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Agenda {
    heap: BinaryHeap<Reverse<(Instant, u64)>>,
}

impl Agenda {
    /// `at` is from now on the instant of `counter`; the one before, if any, no longer counts.
    pub(super) fn put(&mut self, at: Instant, counter: u64) {
        self.heap.push(Reverse((at, counter)));
    }

    /// The earliest; `current` tells the instant that counts for one that is still there.
    pub(super) fn first(
        &mut self,
        current: impl Fn(u64) -> Option<Instant>,
    ) -> Option<(Instant, u64)> {
        loop {
            let Reverse((at, counter)) = *self.heap.peek()?;
            if current(counter) == Some(at) {
                return Some((at, counter));
            }
            self.heap.pop();
        }
    }

    /// Removes the one that [`first`](Self::first) told.
    pub(super) fn pop(&mut self) {
        self.heap.pop();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Keeps the heap in proportion to the `alive`.
    pub(super) fn forget(&mut self, alive: usize, current: impl Fn(u64) -> Option<Instant>) {
        const SLACK: usize = 64;
        if self.heap.len() > 2 * alive + SLACK {
            let mut kept = std::mem::take(&mut self.heap).into_vec();
            kept.retain(|Reverse((at, counter))| current(*counter) == Some(*at));
            kept.sort_unstable();
            kept.dedup(); // an instant may have come back
            self.heap = kept.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_has_moved_is_told_once_at_its_new_instant_and_leaves_nothing_behind() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut agenda = Agenda::default();
        let mut instants = HashMap::new();
        for round in 0..100 {
            for counter in 0..10 {
                let next = at(round * 10 + counter);
                instants.insert(counter, next);
                agenda.put(next, counter);
            }
            agenda.forget(instants.len(), |counter| instants.get(&counter).copied());
            assert!(agenda.heap.len() < 100, "{} are remembered", agenda.heap.len());
        }
        instants.remove(&0);
        let mut told = Vec::new();
        while let Some(first) = agenda.first(|counter| instants.get(&counter).copied()) {
            told.push(first);
            agenda.pop();
        }
        let expected: Vec<_> = (1..10).map(|counter| (at(990 + counter), counter)).collect();
        assert_eq!(told, expected);
    }
}
