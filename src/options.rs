//! What a handle of a semaphore is configured with.

use std::time::Duration;

use crate::backoff::Backoff;

/// Who keeps a lease alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Renew {
    /// The crate, in the background, every third of the lease. The default.
    #[default]
    Auto,
    /// Nobody: the lease is fixed, and only [`Permit::extend`](crate::Permit::extend) pushes it.
    Manual,
}

/// How a waiter learns that it was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Wake {
    /// The store tells at once; where it cannot, as [`Poll`](Wake::Poll). The default.
    #[default]
    Push,
    /// By asking at the pace of the [`Backoff`]. A wake-up that arrives all the same is used.
    Poll,
}

/// What a handle wants of its permits.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) lease_ms: u64,
    pub(crate) renew: Renew,
    pub(crate) max_hold: Option<Duration>,
    pub(crate) backoff: Backoff,
    pub(crate) wake: Wake,
    pub(crate) max_queue: Option<u32>,
}
