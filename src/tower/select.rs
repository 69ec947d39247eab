//! Which semaphore a request asks, and for how many units.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::admit::Admit;
use super::error::Rejection;
use super::sealed::Sealed;
use crate::{Permit, ZSetSemaphore};

/// Decides on which semaphore a request waits. Sealed: see [`Single`] and [`Weighted`].
pub trait Select<Req>: Sealed {
    /// Waits for the permit; `None` lets the request through without one.
    type Admit: Future<Output = Result<Option<Permit>, Rejection>>;

    /// Begins the wait; the future is inert until polled.
    #[doc(hidden)]
    fn select(&self, request: &Req, terms: Terms) -> Self::Admit;
}

/// What a layer asks for, unless the selector knows better.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    pub(super) units: u32,
    pub(super) timeout: Option<Duration>,
}

impl Default for Terms {
    fn default() -> Self {
        Self { units: 1, timeout: None }
    }
}

/// One semaphore for all requests. The default.
#[derive(Debug, Clone)]
pub struct Single {
    semaphore: ZSetSemaphore,
}

impl Single {
    pub(super) fn new(semaphore: ZSetSemaphore) -> Self {
        Self { semaphore }
    }
}

impl Sealed for Single {}

impl<Req> Select<Req> for Single {
    type Admit = Admit;

    fn select(&self, _: &Req, terms: Terms) -> Admit {
        Admit::new(self.semaphore.clone(), terms)
    }
}

/// Asks what `S` asks, but for as many units as a closure says; made by
/// [`ZSetSemaphoreLayer::weight`](super::ZSetSemaphoreLayer::weight).
pub struct Weighted<F, S = Single> {
    selector: S,
    weigh: Arc<F>,
}

impl<F, S> Weighted<F, S> {
    pub(super) fn new(selector: S, weigh: F) -> Self {
        Self { selector, weigh: Arc::new(weigh) }
    }
}

impl<F, S: Sealed> Sealed for Weighted<F, S> {}

impl<Req, F, S> Select<Req> for Weighted<F, S>
where
    F: Fn(&Req) -> u32,
    S: Select<Req>,
{
    type Admit = S::Admit;

    fn select(&self, request: &Req, terms: Terms) -> S::Admit {
        let units = (self.weigh)(request);
        self.selector.select(request, Terms { units, ..terms })
    }
}

// By hand: a derived one would ask the closure to be `Clone`.
impl<F, S: Clone> Clone for Weighted<F, S> {
    fn clone(&self) -> Self {
        Self { selector: self.selector.clone(), weigh: Arc::clone(&self.weigh) }
    }
}

impl<F, S: fmt::Debug> fmt::Debug for Weighted<F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Weighted").field("selector", &self.selector).finish_non_exhaustive()
    }
}
