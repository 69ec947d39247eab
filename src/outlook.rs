//! What a client knows of a semaphore without asking the store; the tower layer decides by it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::StoreError;
use crate::semaphore::ZSetSemaphore;

/// What a client knows of a semaphore without asking the store.
pub(crate) struct Outlook {
    pub(crate) away: Option<Away>,
    pub(crate) in_use: Option<u64>,
    pub(crate) limit: u32,
}

/// The store does not answer, or not as it should.
pub(crate) struct Away {
    pub(crate) since: Instant,
    pub(crate) error: Option<StoreError>,
    pub(crate) connected: bool,
}

impl ZSetSemaphore {
    pub(crate) fn clone_name(&self) -> Arc<str> {
        Arc::clone(&self.inner.name)
    }

    /// What is known here without asking the store.
    pub(crate) fn outlook(&self) -> Outlook {
        let shared = self.inner.seat.shared();
        let (unconnected, heard) = (shared.unconnected_since(), shared.heard_at());
        self.inner.seat.peek(|line| {
            let since = [unconnected, line.troubled_since(heard)].into_iter().flatten().min();
            let away = since.map(|since| Away {
                since,
                error: line.trouble().cloned().or_else(|| shared.link_trouble()),
                connected: unconnected.is_none(),
            });
            Outlook {
                away,
                in_use: line.counts().map(|(in_use, _)| in_use),
                limit: line.counts().map_or(self.inner.limit, |(_, limit)| limit),
            }
        })
    }

    /// How long the answer to a call may take.
    pub(crate) fn call_timeout(&self) -> Duration {
        self.inner.seat.shared().call_timeout
    }

    /// Whether a caller may ask the store though that is in trouble.
    pub(crate) fn may_probe(&self, every: Duration) -> bool {
        let now = Instant::now();
        self.inner.seat.peek(|line| line.may_probe(now, every))
    }
}
