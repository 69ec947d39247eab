//! A histogram by a label with few values.

use std::sync::{Arc, OnceLock};

use ::metrics::{Histogram, histogram};

use super::label::SEMAPHORE;

/// One histogram for each of `N` values of a label. Each is registered by its first use, because an exporter shows all
/// buckets of a histogram that is registered, and most outcomes are rare.
#[derive(Debug)]
pub(super) struct Histograms<const N: usize> {
    name: &'static str,
    semaphore: Arc<str>,
    registered: [OnceLock<Histogram>; N],
}

impl<const N: usize> Histograms<N> {
    pub(super) fn new(name: &'static str, semaphore: &Arc<str>) -> Self {
        let registered = [const { OnceLock::new() }; N];
        Self { name, semaphore: Arc::clone(semaphore), registered }
    }

    #[cfg(feature = "tower")]
    pub(super) fn semaphore(&self) -> &Arc<str> {
        &self.semaphore
    }

    /// Returns the histogram at `index`, whose label `outcome` has this value.
    pub(super) fn of_outcome(&self, index: usize, outcome: &'static str) -> &Histogram {
        self.registered[index].get_or_init(|| {
            let semaphore = Arc::clone(&self.semaphore);
            histogram!(self.name, SEMAPHORE => semaphore, "outcome" => outcome)
        })
    }
}
