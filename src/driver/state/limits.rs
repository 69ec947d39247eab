//! The limits of the living handles of one semaphore. Pure.

use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(super) struct Limits {
    /// With how many handles name each.
    handles: BTreeMap<u32, usize>,
}

impl Limits {
    pub(super) fn add(&mut self, limit: u32) {
        self.handles.retain(|_, count| *count > 0); // the last one stayed only until now
        *self.handles.entry(limit).or_insert(0) += 1;
    }

    pub(super) fn remove(&mut self, limit: u32) {
        if let Some(count) = self.handles.get_mut(&limit) {
            *count -= 1;
            if *count == 0 && self.handles.len() > 1 {
                self.handles.remove(&limit); // the last one stays, for waiters that outlive it
            }
        }
    }

    /// The highest limit of the handles in this process.
    pub(super) fn highest(&self) -> u32 {
        self.handles.keys().next_back().copied().unwrap_or(0)
    }

    /// Returns whether all handles are gone.
    pub(super) fn has_no_handles(&self) -> bool {
        self.handles.values().all(|&count| count == 0)
    }
}
