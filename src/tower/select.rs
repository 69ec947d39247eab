//! Which semaphore a request asks, and for how many units.

use std::fmt;
use std::sync::Arc;

use super::admit::Admit;
use super::handle::Handle;
use super::sealed::Sealed;
use super::settings::Settings;
use crate::ZSetSemaphore;

/// Decides on which semaphore a request waits. Sealed: see [`Single`], [`Keyed`](super::Keyed) and
/// [`Weighted`].
pub trait Select<Req>: Sealed {
    /// Begins the wait; the future is inert until polled.
    #[doc(hidden)]
    fn select(&self, request: &Req, units: u32, settings: &Arc<Settings>) -> Admit;
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

impl<Req> Select<Req> for Single {
    fn select(&self, _: &Req, units: u32, settings: &Arc<Settings>) -> Admit {
        Admit::to(Arc::clone(&self.handle), units, Arc::clone(settings))
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
    fn select(&self, request: &Req, _: u32, settings: &Arc<Settings>) -> Admit {
        self.selector.select(request, (self.weigh)(request), settings)
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
