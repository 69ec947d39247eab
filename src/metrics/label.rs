//! The values of the label `semaphore`: a bounded number in each process.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use crate::sync::lock;

/// How many values the label `semaphore` has in one process at the most, without [`OTHER_SEMAPHORES`].
pub const MAX_SEMAPHORE_LABELS: usize = 200;

/// The value of the label `semaphore` that all names beyond [`MAX_SEMAPHORE_LABELS`] share.
pub const OTHER_SEMAPHORES: &str = "_other";

/// The key of the label.
pub(super) const SEMAPHORE: &str = "semaphore";

/// The values in use. None is ever removed, because an exporter keeps what it has once shown.
static VALUES: Mutex<Values> = Mutex::new(Values { known: BTreeSet::new() });

/// Returns the value of the label for a name.
pub(super) fn value_for(name: &str) -> Arc<str> {
    lock(&VALUES).value_for(name)
}

pub(super) struct Values {
    pub(super) known: BTreeSet<Arc<str>>,
}

impl Values {
    /// Returns the name itself if it is known or there is room for it, else [`OTHER_SEMAPHORES`]. To Prometheus, an empty
    /// value is no label at all, so an empty name has the shared value, too.
    pub(super) fn value_for(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.known.get(name) {
            return Arc::clone(known);
        }
        let is_shared = name.is_empty() || name == OTHER_SEMAPHORES;
        if is_shared || self.known.len() >= MAX_SEMAPHORE_LABELS {
            return Arc::from(OTHER_SEMAPHORES);
        }
        let value: Arc<str> = Arc::from(name);
        self.known.insert(Arc::clone(&value));
        value
    }
}
