//! What a request wants, before it is known of which semaphore.

use tokio::time::Instant;

/// The units that a request wants, and until when it may wait for them.
#[derive(Debug, Clone, Copy, Default)]
pub struct PermitRequest {
    /// `None` until the request was weighed.
    weighed: Option<u32>,
    /// Until when the layers further out let the request wait.
    pub(crate) wait_until: Option<Instant>,
}

impl PermitRequest {
    /// Makes one that is not weighed yet.
    pub(crate) fn new(wait_until: Option<Instant>) -> Self {
        Self { weighed: None, wait_until }
    }

    /// Sets the units, unless they were set before: of several `weight` calls the last one stands
    /// outermost, and counts.
    pub(crate) fn or_weigh(self, weigh: impl FnOnce() -> u32) -> Self {
        Self { weighed: Some(self.weighed.unwrap_or_else(weigh)), ..self }
    }

    /// The units; 1 if nobody has weighed the request.
    pub(crate) fn units(&self) -> u32 {
        self.weighed.unwrap_or(1)
    }
}
