//! What a request wants: a number of units, and a deadline. The semaphore is not known yet.

use tokio::time::Instant;

/// The units that a request wants, and the deadline for its wait.
#[derive(Debug, Clone, Copy, Default)]
pub struct PermitRequest {
    /// `None` until the request was weighed.
    weighed: Option<u32>,
    /// The deadline that outer layers have set.
    pub(crate) wait_until: Option<Instant>,
}

impl PermitRequest {
    /// Makes a request that is not weighed yet.
    pub(crate) fn new(wait_until: Option<Instant>) -> Self {
        Self { weighed: None, wait_until }
    }

    /// Sets the units, unless they were set before. So the last call of `weight` counts: it is the
    /// outermost.
    pub(crate) fn or_weigh(self, weigh: impl FnOnce() -> u32) -> Self {
        Self { weighed: Some(self.weighed.unwrap_or_else(weigh)), ..self }
    }

    /// The units; 1 if nobody has weighed the request.
    pub(crate) fn units(&self) -> u32 {
        self.weighed.unwrap_or(1)
    }
}
