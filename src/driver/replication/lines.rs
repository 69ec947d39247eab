//! The lines of one place.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::hold::Hold;
use crate::numbers::Replicas;
use crate::sync::lock;

use super::line::Line;

/// One line for each number of replicas that somebody has wanted.
#[derive(Default)]
pub(in crate::driver) struct Lines(Mutex<BTreeMap<Replicas, Arc<Line>>>);

impl Lines {
    /// Returns the line of those who want this number of replicas.
    pub(in crate::driver) fn of(&self, wanted: Replicas) -> Arc<Line> {
        let mut lines = lock(&self.0);
        Arc::clone(lines.entry(wanted).or_insert_with(|| Arc::new(Line::new(wanted))))
    }

    /// Sends away the callers of a semaphore that was closed. Returns their grants, which nobody takes any more.
    pub(in crate::driver) fn send_away(&self, name: &str) -> Vec<Arc<Hold>> {
        let lines: Vec<_> = lock(&self.0).values().cloned().collect();
        lines.iter().flat_map(|line| line.send_away(name)).collect()
    }
}
