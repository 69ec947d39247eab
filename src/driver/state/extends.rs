//! Who asks for a longer lease of which permit. Pure.
//!
//! # Implementation
//!
//! Few permits are extended at any time, so their callers are kept here, where they cost the others nothing.

use rustc_hash::FxHashMap;

use crate::numbers::Millis;
use crate::shrink::Shrink;

use super::super::deferred::ExtendDone;

#[derive(Debug, Default)]
pub(super) struct Extends {
    by_counter: FxHashMap<u64, Vec<(Millis, ExtendDone)>>,
}

impl Extends {
    pub(super) fn add(&mut self, counter: u64, lease: Millis, done: ExtendDone) {
        self.by_counter.entry(counter).or_default().push((lease, done));
    }

    /// Returns the longest lease that is asked for.
    pub(super) fn longest(&self, counter: u64) -> Option<Millis> {
        self.by_counter.get(&counter)?.iter().map(|&(lease, _)| lease).max()
    }

    /// Takes out all who ask for a permit.
    pub(super) fn take(&mut self, counter: u64) -> impl Iterator<Item = ExtendDone> + use<> {
        self.remove(counter).into_iter().map(|(_, done)| done)
    }

    /// Takes out the callers that asked for a lease of this length or a shorter one. The others still ask.
    pub(super) fn take_satisfied(
        &mut self,
        counter: u64,
        lease: Millis,
    ) -> impl Iterator<Item = ExtendDone> + use<> {
        let asking = self.remove(counter);
        let (more, done): (Vec<_>, Vec<_>) =
            asking.into_iter().partition(|(asked, _)| *asked > lease);
        if !more.is_empty() {
            self.by_counter.insert(counter, more);
        }
        done.into_iter().map(|(_, done)| done)
    }

    fn remove(&mut self, counter: u64) -> Vec<(Millis, ExtendDone)> {
        let asking = self.by_counter.remove(&counter).unwrap_or_default();
        self.by_counter.shrink_in_use();
        asking
    }

    /// Returns whether somebody asks for this permit.
    pub(super) fn asks(&self, counter: u64) -> bool {
        self.by_counter.contains_key(&counter)
    }

    /// Takes out everybody.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = ExtendDone> + use<> {
        let all = std::mem::take(&mut self.by_counter);
        all.into_values().flatten().map(|(_, done)| done)
    }
}
