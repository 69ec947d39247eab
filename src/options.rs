//! The settings of a semaphore that go with each of its permits and waiters.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::numbers::{Millis, Replicas};

/// Who renews the lease of a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Renew {
    /// The client, in the background, every third of the lease. This is the default.
    #[default]
    Auto,
    /// Nobody. The lease ends unless [`Permit::extend`](crate::Permit::extend) extends it.
    Manual,
}

/// How a waiter learns that it was granted a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Wake {
    /// The store sends a wake-up at once. Where it cannot, the waiter polls. This is the default.
    #[default]
    Push,
    /// The waiter asks the store at the pace of the [`Backoff`]. A wake-up that arrives is used, too.
    Poll,
}

/// The settings of one handle of a semaphore.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) lease: Millis,
    pub(crate) renew: Renew,
    pub(crate) max_hold: Option<Duration>,
    pub(crate) backoff: Backoff,
    pub(crate) wake: Wake,
    pub(crate) max_queue: Option<u32>,
    pub(crate) failover_grace: Millis,
    /// How many replicas must have a grant before it is handed out. `None`: it is handed out at once.
    pub(crate) replicated: Option<Replicas>,
}

#[cfg(any(test, feature = "__internals"))]
impl Options {
    /// The defaults, with this lease.
    pub(crate) fn with_lease(lease: Millis) -> Self {
        Self {
            lease,
            renew: Renew::default(),
            max_hold: None,
            backoff: Backoff::default(),
            wake: Wake::default(),
            max_queue: None,
            failover_grace: Millis::new(0),
            replicated: None,
        }
    }
}
