//! Which semaphore a request asks, and for how many units.

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

use super::admit::AdmissionFuture;
use super::handle::Handle;
use super::sealed::Sealed;
use super::settings::Settings;
use crate::ZSetSemaphore;

/// Decides on which semaphore a request waits. Sealed: see [`Single`], [`Keyed`](super::Keyed),
/// [`Weighted`] and [`Exempt`](super::Exempt).
pub trait SelectSemaphore<Req>: Sealed {
    /// Whether the request passes as if the layer were not there.
    #[doc(hidden)]
    fn exempts(&self, _: &Req) -> bool {
        false
    }

    /// Begins the wait; the future is inert until polled.
    #[doc(hidden)]
    fn select(&self, request: &Req, ask: Ask, settings: &Arc<Settings>) -> AdmissionFuture;
}

/// What is known of a wait before its semaphore is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ask {
    /// What was weighed already; 1 where nobody weighs.
    pub(super) units: Option<u32>,
    /// Until when outer layers let it wait.
    pub(super) until: Option<Instant>,
}

impl Ask {
    pub(super) fn units(&self) -> u32 {
        self.units.unwrap_or(1)
    }
}

/// One semaphore for all requests. The default.
#[derive(Debug, Clone)]
pub struct Single {
    handle: Arc<Handle>,
}

impl Single {
    pub(super) fn new(semaphore: ZSetSemaphore) -> Self {
        let shown = semaphore.clone_name();
        Self { handle: Handle::new(semaphore, shown, Arc::default()) }
    }
}

impl Sealed for Single {}

impl<Req> SelectSemaphore<Req> for Single {
    fn select(&self, _: &Req, ask: Ask, settings: &Arc<Settings>) -> AdmissionFuture {
        AdmissionFuture::to(Arc::clone(&self.handle), ask, Arc::clone(settings))
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

impl<Req, F, S> SelectSemaphore<Req> for Weighted<F, S>
where
    F: Fn(&Req) -> u32,
    S: SelectSemaphore<Req>,
{
    fn exempts(&self, request: &Req) -> bool {
        self.selector.exempts(request)
    }

    fn select(&self, request: &Req, ask: Ask, settings: &Arc<Settings>) -> AdmissionFuture {
        // Of several that weigh, the one that was named last stands outside, and counts.
        let units = ask.units.unwrap_or_else(|| (self.weigh)(request));
        self.selector.select(request, Ask { units: Some(units), ..ask }, settings)
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
