//! What a client last learned of a semaphore, known without a call to the store. The tower layer
//! decides by it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::StoreError;
use crate::metrics::Meter;
use crate::semaphore::ZSetSemaphore;

/// What a client knows of a semaphore without a call to the store.
pub(crate) struct LastKnown {
    pub(crate) outage: Option<Outage>,
    pub(crate) in_use: Option<u64>,
    pub(crate) limit: u32,
}

/// An outage: the store does not answer, or it refuses.
pub(crate) struct Outage {
    pub(crate) since: Instant,
    pub(crate) error: Option<StoreError>,
    pub(crate) connected: bool,
}

impl ZSetSemaphore {
    pub(crate) fn clone_name(&self) -> Arc<str> {
        Arc::clone(&self.inner.name)
    }

    /// Returns where the metrics of the semaphore go.
    pub(crate) fn meter(&self) -> &Meter {
        self.inner.driver.meter()
    }

    /// Returns what is known without a call to the store.
    pub(crate) fn last_known(&self) -> LastKnown {
        let link = self.inner.driver.place().link();
        let (unconnected, heard) = (link.unconnected_since(), link.heard_at());
        let replicas = self.inner.options.replicated;
        self.inner.driver.with(|state| {
            let since =
                [unconnected, state.away_since(heard, replicas)].into_iter().flatten().min();
            let outage = since.map(|since| Outage {
                since,
                error: state.outage(replicas).cloned().or_else(|| link.error()),
                connected: unconnected.is_none(),
            });
            LastKnown {
                outage,
                in_use: state.counts().map(|(in_use, _)| in_use),
                limit: state.counts().map_or_else(|| self.inner.limit(), |(_, limit)| limit),
            }
        })
    }

    /// Returns how long a call to the store may take.
    pub(crate) fn call_timeout(&self) -> Duration {
        self.inner.driver.shared().call_timeout
    }

    /// Whether one caller may ask the store during an outage: true to one of them in each `every`.
    pub(crate) fn may_probe(&self, every: Duration) -> bool {
        let now = Instant::now();
        self.inner.driver.with(|state| state.may_probe(now, every))
    }
}
